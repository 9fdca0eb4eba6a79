//! What TLS would do with a configuration: whether its certificates can be used, for which names and until when.

use std::time::{SystemTime, UNIX_EPOCH};

use super::finding;
use crate::cli::settings::ConfigFlags;
use crate::config::Config;
use crate::control::certificates::certificate_text;
use crate::io::probe::{Finding, Level};
use crate::tls::{CertificateInfo, ClientAuth, EarlyData, MaterialError, Reloader, ServerSettings};

/// A certificate with less time than this is worth a word.
const SOON_S: u64 = 14 * 24 * 60 * 60;

pub(super) fn findings(flags: &ConfigFlags) -> Vec<Finding> {
    match flags.load() {
        Ok(loaded) => of_config(&loaded.config),
        Err(error) => {
            let what = format!("the configuration is refused: {}", error.to_string().replace('\n', "; "));
            let remedy = "`uringest config show --template` prints every setting and what is allowed";
            vec![finding(Level::Bad, what, "the server does not start with it", remedy)]
        }
    }
}

fn of_config(config: &Config) -> Vec<Finding> {
    let Some(settings) = config.tls.server() else { return vec![plain(config)] };
    let reloader = match Reloader::new(settings.clone()) {
        Ok(reloader) => reloader,
        Err(error) => return vec![unusable(&error)],
    };
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let certificates = reloader.current().certificates().iter();
    let mut found: Vec<Finding> = certificates.map(|info| certificate(info, now_s)).collect();
    found.push(clients(&settings));
    if settings.early_data != EarlyData::Off {
        found.push(finding(
            Level::Note,
            "TLS: early data is taken of clients that resume".to_owned(),
            "who records it can send it again: only what is deduplicated acts before the handshake ends",
            "leave out tls.early_data where the round trip is not worth that",
        ));
    }
    found
}

fn plain(config: &Config) -> Finding {
    let listen = config.listen;
    if listen.ip().to_canonical().is_loopback() {
        let what = format!("no TLS: the data port speaks plain text, on loopback only ({listen})");
        return finding(Level::Ok, what, "", "");
    }
    finding(
        Level::Warn,
        format!("no TLS: the data port speaks plain text at {listen}"),
        "tokens and records can be read and changed on their way",
        "give it a certificate: --tls-cert FILE --tls-key FILE",
    )
}

fn unusable(error: &MaterialError) -> Finding {
    let what = format!("TLS: {}", error.what());
    finding(Level::Bad, what, "the server does not start with it", error.fault.remedy())
}

fn certificate(info: &CertificateInfo, now_s: u64) -> Finding {
    let what = format!("TLS: {}", certificate_text(info));
    let renew = "put a new certificate and its key into the files: a running server takes them by itself";
    match info.not_after_s {
        Some(end_s) if end_s < now_s => {
            finding(Level::Bad, format!("{what}, which is over"), "every client refuses it", renew)
        }
        Some(end_s) if end_s - now_s < SOON_S => {
            let days = (end_s - now_s) / (24 * 60 * 60);
            finding(
                Level::Warn,
                format!("{what}, {days} days from now"),
                "then every client refuses it",
                renew,
            )
        }
        _ => finding(Level::Ok, what, "", ""),
    }
}

fn clients(settings: &ServerSettings) -> Finding {
    let mut what = match &settings.client_auth {
        ClientAuth::None => "TLS: clients show no certificates".to_owned(),
        ClientAuth::Optional(file) => format!("TLS: clients may show certificates by {}", file.display()),
        ClientAuth::Required(file) => format!("TLS: clients have to show certificates by {}", file.display()),
    };
    if !settings.revocation_lists.is_empty() {
        what += &format!(", judged by {} files of revocation lists", settings.revocation_lists.len());
    }
    if let Some(rule) = &settings.tenant_rule {
        what += &format!(", which name tenants by {rule}");
    }
    finding(Level::Ok, what, "", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate_ending(end_s: Option<u64>) -> Finding {
        let info =
            CertificateInfo { file: "s.pem".into(), names: vec!["a.example".into()], not_after_s: end_s };
        certificate(&info, 1_800_000_000)
    }

    #[test]
    fn what_is_over_is_bad_and_what_is_soon_over_is_told() {
        assert_eq!(certificate_ending(None).level, Level::Ok);
        assert_eq!(certificate_ending(Some(1_800_000_000 + SOON_S)).level, Level::Ok);
        let soon = certificate_ending(Some(1_800_000_000 + 2 * 86_400 + 1));
        assert_eq!(soon.level, Level::Warn);
        assert!(soon.what.contains("a.example") && soon.what.contains("2 days"), "{}", soon.what);
        let over = certificate_ending(Some(1_799_999_999));
        assert!(over.level == Level::Bad && !over.remedy.is_empty());
    }

    #[test]
    fn plain_text_beyond_loopback_is_told() {
        let mut config = Config::default();
        assert_eq!(of_config(&config)[0].level, Level::Ok);
        config.listen = "0.0.0.0:7440".parse().expect("an address");
        assert_eq!(of_config(&config)[0].level, Level::Warn);
        config.tls.cert = Some("/nonexistent/s.pem".into());
        config.tls.key = Some("/nonexistent/s.key".into());
        let [bad] = &of_config(&config)[..] else { panic!("one finding") };
        assert!(bad.level == Level::Bad && bad.what.contains("/nonexistent/s.pem"), "{}", bad.what);
        assert!(!bad.what.contains("(try:") && !bad.remedy.is_empty());
    }
}
