//! Reload: tenants, the admin token and what `[tls]` names are read again, and taken whole or not at all. By SIGHUP
//! and by `POST /v1/server/reload`.

use std::sync::Arc;

use super::api::{ApiError, Reloaded};
use super::{Control, journal};
use crate::config::{Config, TlsSettings, load};
use crate::log::Level;
use crate::shard::messages::Command;

const TAKEN: &str = "tenants, the admin token and certificates are read again";

impl Control {
    /// Reads the configuration again. What a running server cannot change is named and left as it is.
    pub(super) fn reload(&self) -> Result<Reloaded, ApiError> {
        let result = self.read_again();
        match &result {
            Ok(Reloaded { restart_needed }) if restart_needed.is_empty() => {
                journal::note(Level::Info, "reloaded", TAKEN);
            }
            Ok(Reloaded { restart_needed }) => {
                let names = restart_needed.join(", ");
                let detail = format!("{TAKEN}; a restart is needed for: {names}");
                journal::note(Level::Warn, "reloaded", &detail);
            }
            Err(error) => journal::note(Level::Error, "reload_refused", &error.message),
        }
        result
    }

    fn read_again(&self) -> Result<Reloaded, ApiError> {
        let refused = |message: String| ApiError::new(409, "reload_refused", message);
        let Some(sources) = &self.sources else {
            return Err(refused(
                "This server was started without a configuration that could be read again.".into(),
            ));
        };
        let loaded = load(sources)
            .map_err(|error| refused(format!("The configuration stays as it was: {error}")))?
            .config;
        self.renew_certificates(&loaded)
            .map_err(|error| refused(format!("The configuration stays as it was: TLS: {error}")))?;
        let access = Arc::new(loaded.tenants_access());
        self.shards.borrow_mut().tell(|| Command::Access(Arc::clone(&access)))?;
        Ok(Reloaded { restart_needed: self.take_reloadable(loaded) })
    }

    /// Takes over what may change; the names of the settings that differ and were left.
    fn take_reloadable(&self, loaded: Config) -> Vec<String> {
        let mut config = self.config.borrow_mut();
        config.tenant = loaded.tenant.clone();
        config.access.admin_token_sha256 = loaded.access.admin_token_sha256;
        // Whether there is TLS, and who does the records, is decided at the start.
        if config.tls.is_on() && loaded.tls.is_on() {
            config.tls = TlsSettings { records: config.tls.records, ..loaded.tls.clone() };
        }
        let now = config.all_texts();
        let pairs = loaded.all_texts().into_iter().zip(now);
        let mut left: Vec<_> =
            pairs.filter(|(new, now)| new.1 != now.1).map(|(new, _)| new.0.to_owned()).collect();
        if loaded.topic != config.topic {
            left.push("topic".to_owned());
        }
        if loaded.tls.certificates != config.tls.certificates {
            left.push("tls.certificates".to_owned());
        }
        left
    }
}
