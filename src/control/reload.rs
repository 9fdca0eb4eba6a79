//! SIGHUP: tenants and the admin token are read again, and taken whole or not at all.

use std::sync::Arc;

use super::{Control, journal};
use crate::config::{Config, load};
use crate::log::Level;
use crate::shard::messages::Command;

impl Control {
    /// Reads the configuration again. What a running server cannot change is named in the log and left as it is.
    pub(super) fn reload(&self) {
        let Some(sources) = &self.sources else {
            journal::note(Level::Warn, "reload_refused", "this server was started without a configuration");
            return;
        };
        let loaded = match load(sources) {
            Ok(loaded) => loaded.config,
            Err(error) => {
                let detail = format!("the configuration stays as it was: {error}");
                journal::note(Level::Error, "reload_refused", &detail);
                return;
            }
        };
        let access = Arc::new(loaded.tenants_access());
        let told = self.shards.borrow_mut().tell(|| Command::Access(Arc::clone(&access)));
        if let Err(stuck) = told {
            let detail = format!("shard {} does not take commands; others have the new rules", stuck.0);
            journal::note(Level::Error, "reload_incomplete", &detail);
            return;
        }
        let left = self.take_reloadable(loaded);
        let detail = if left.is_empty() {
            "tenants and the admin token are read again".to_owned()
        } else {
            format!(
                "tenants and the admin token are read again; a restart is needed for: {}",
                left.join(", ")
            )
        };
        journal::note(Level::Info, "reloaded", &detail);
    }

    /// Takes over what may change; the names of the settings that differ and were left.
    fn take_reloadable(&self, loaded: Config) -> Vec<&'static str> {
        let mut config = self.config.borrow_mut();
        config.tenant = loaded.tenant.clone();
        config.access.admin_token_sha256 = loaded.access.admin_token_sha256;
        let now = config.all_texts();
        let mut left: Vec<_> = loaded
            .all_texts()
            .into_iter()
            .zip(now)
            .filter(|(new, now)| new.1 != now.1)
            .map(|(new, _)| new.0)
            .collect();
        if loaded.topic != config.topic {
            left.push("topic");
        }
        left
    }
}
