//! The certificates of a running server: read again every `TLS_LOOK_MS`, and when the configuration is.
//!
//! State and owner: control's; shards have copies of what is in force. Files are compared by what is in them, so a
//! directory of links that is swapped is seen as well as a file that is written.
//!
//! Invariants
//! 1. What is in force is one whole set of files that was usable; files with a fault change nothing.
//! 2. Every shard is told of what is in force: at once, or at a later look where its ring has no room.
//! 3. A fault is counted and logged once for each time it is found anew or somebody asked, and stays among the
//!    degradations until the files are usable.

use std::rc::Rc;
use std::time::Duration;

use super::api::{CertificateStatus, TlsStatus};
use super::{Control, journal, wall_ns};
use crate::config::Config;
use crate::limits::{TLS_LOOK_MS, TLS_SETTLE_MS};
use crate::log::Level;
use crate::metrics::TlsGauges;
use crate::shard::messages::Command;
use crate::time::{NS_PER_SECOND, format_utc};
use crate::tls::{CertificateInfo, MaterialError, Reload, Reloader, ServerTls};

const FAILED: &str = "tls_reload_failed";
const EXPIRED: &str = "tls_certificate_expired";

/// See the module. Borrowed for the length of a call, never over an await.
pub(super) struct Certificates {
    reloader: Reloader,
    /// A shard has yet to be told of what is in force.
    untold: bool,
    /// What is wrong with the files as they are now.
    fault: Option<String>,
    reloads: u64,
    failures: u64,
}

impl Certificates {
    /// The shards were made with what is in force.
    pub(super) fn new(reloader: Reloader) -> Certificates {
        Certificates { reloader, untold: false, fault: None, reloads: 0, failures: 0 }
    }
}

impl Control {
    /// Looks at the files, for ever.
    pub(super) async fn watch_certificates(self: Rc<Self>) {
        if self.certificates.borrow().is_none() {
            return;
        }
        loop {
            self.note_expired();
            tokio::time::sleep(Duration::from_millis(TLS_LOOK_MS)).await;
            if self.look_at_certificates().is_ok() {
                continue;
            }
            // Whoever replaces them one by one may be in the middle of it.
            tokio::time::sleep(Duration::from_millis(TLS_SETTLE_MS)).await;
            if let Err(error) = self.look_at_certificates() {
                self.certificates_failed(&error.to_string(), false);
            }
        }
    }

    /// Takes over what a configuration that was read again says of certificates, whose files may have changed too.
    /// Whether there is TLS at all is decided at the start: then this does nothing.
    pub(super) fn renew_certificates(&self, loaded: &Config) -> Result<(), MaterialError> {
        let Some(settings) = loaded.tls.server() else { return Ok(()) };
        let replaced = match self.certificates.borrow_mut().as_mut() {
            None => return Ok(()),
            Some(own) if *own.reloader.settings() == settings => None,
            Some(own) => Some(own.reloader.replace(settings)),
        };
        match replaced {
            None => self.look_at_certificates().inspect_err(|error| {
                self.certificates_failed(&error.to_string(), true);
            }),
            Some(Ok(_in_force)) => {
                self.certificates_taken(true);
                Ok(())
            }
            // What is in force stays, and its files are as good as they were.
            Some(Err(error)) => {
                if let Some(own) = self.certificates.borrow_mut().as_mut() {
                    own.failures += 1;
                }
                journal::note(Level::Error, "tls_reload_failed", &error.to_string());
                Err(error)
            }
        }
    }

    fn look_at_certificates(&self) -> Result<(), MaterialError> {
        let changed = match self.certificates.borrow_mut().as_mut() {
            None => return Ok(()),
            Some(own) => matches!(own.reloader.reload()?, Reload::Changed(_)),
        };
        self.certificates_taken(changed);
        Ok(())
    }

    /// The files are usable: tells the shards where something is new, and the operator.
    fn certificates_taken(&self, changed: bool) {
        let mut certificates = self.certificates.borrow_mut();
        let Some(own) = certificates.as_mut() else { return };
        let tls = own.reloader.current().clone();
        own.untold |= changed;
        own.reloads += u64::from(changed);
        if own.untold {
            own.untold = self.shards.borrow_mut().tell(|| Command::Tls(tls.clone())).is_err();
        }
        let untold = own.untold;
        let mended = own.fault.take().is_some();
        drop(certificates);
        if mended {
            self.mended(FAILED);
        }
        if changed {
            // Nothing says when a shard has acted: it shows what it has to all that it lets in after it has heard.
            let told = if untold { "are told (one that has no room to hear, later)" } else { "are told" };
            let detail =
                format!("the shards {told} to show their next connections {}", certificates_text(&tls));
            journal::note(Level::Info, "tls_reloaded", &detail);
            self.note_expired();
        } else if mended {
            journal::note(Level::Info, "tls_reloaded", "the files are those in force again");
        }
    }

    fn certificates_failed(&self, fault: &str, asked: bool) {
        let mut certificates = self.certificates.borrow_mut();
        let Some(own) = certificates.as_mut() else { return };
        let new = own.fault.as_deref() != Some(fault);
        if !new && !asked {
            return;
        }
        own.failures += 1;
        own.fault = Some(fault.to_owned());
        let in_force = certificates_text(own.reloader.current());
        drop(certificates);
        let detail = format!("{fault}; still in force: {in_force}");
        journal::note(Level::Error, "tls_reload_failed", &detail);
        self.degraded_by(FAILED, detail);
    }

    /// A certificate that is over is refused by every client; one that is not any more is no degradation.
    fn note_expired(&self) {
        let now_s = wall_ns() / NS_PER_SECOND;
        let is_over = |info: &&CertificateInfo| info.not_after_s.is_some_and(|end_s| end_s < now_s);
        let certificates = self.certificates.borrow();
        let over = certificates
            .as_ref()
            .and_then(|own| own.reloader.current().certificates().iter().find(is_over).map(certificate_text));
        drop(certificates);
        let known = self.degraded.borrow().iter().any(|known| known.key == EXPIRED);
        match over {
            Some(over) if !known => {
                let detail =
                    format!("clients refuse {over}: put a new certificate and its key into the files");
                journal::note(Level::Error, "tls_certificate_expired", &detail);
                self.degraded_by(EXPIRED, detail);
            }
            None if known => {
                self.mended(EXPIRED);
            }
            _ => {}
        }
    }

    pub(super) fn tls_gauges(&self) -> TlsGauges {
        let certificates = self.certificates.borrow();
        let Some(own) = certificates.as_ref() else { return TlsGauges::default() };
        let expiries = own.reloader.current().certificates().iter().filter_map(|info| {
            let name = info.names.first().cloned().unwrap_or_default();
            Some((name, info.file.display().to_string(), info.not_after_s?))
        });
        TlsGauges { expiries: expiries.collect(), reloads: own.reloads, failures: own.failures }
    }

    pub(super) fn tls_status(&self) -> Option<TlsStatus> {
        let certificates = self.certificates.borrow();
        let own = certificates.as_ref()?;
        let one = |info: &CertificateInfo| CertificateStatus {
            file: info.file.display().to_string(),
            names: info.names.clone(),
            expires: info.not_after_s.map(time_text),
        };
        let status = own.reloader.current().certificates().iter().map(one).collect();
        Some(TlsStatus { certificates: status, fault: own.fault.clone() })
    }
}

/// What is shown to clients, for the log.
pub(crate) fn certificates_text(tls: &ServerTls) -> String {
    tls.certificates().iter().map(certificate_text).collect::<Vec<_>>().join("; ")
}

/// A certificate's file, names and end.
pub(crate) fn certificate_text(info: &CertificateInfo) -> String {
    let file = info.file.display();
    let names = if info.names.is_empty() { "no DNS name".to_owned() } else { info.names.join(", ") };
    match info.not_after_s {
        Some(end_s) => format!("{file} for {names} until {}", time_text(end_s)),
        None => format!("{file} for {names}"),
    }
}

fn time_text(wall_s: u64) -> String {
    format_utc(wall_s.saturating_mul(NS_PER_SECOND))
}
