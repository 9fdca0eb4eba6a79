//! What the log says when a server starts. Owns nothing.

use super::listeners::Addresses;
use crate::config::Config;
use crate::control::Degraded;
use crate::control::certificates::certificates_text;
use crate::io::Capabilities;
use crate::io::choice::Chosen;
use crate::log::{Field, Level, event};
use crate::tls::{ClientAuth, Records, ServerTls};

/// That it takes connections, on what, and what works worse than it could.
pub(super) fn started(
    config: &Config,
    addresses: &Addresses,
    io: &Chosen,
    capabilities: &[Capabilities],
    degraded: &[Degraded],
) {
    for Degraded { key, detail } in degraded {
        event(Level::Warn, key, detail, &[]);
    }
    let tier = capabilities.first().map_or(0, |first| first.tier);
    event(
        Level::Info,
        "starting",
        "taking connections",
        &[
            ("data", &addresses.data),
            ("data_speaks", &if config.tls.is_on() { "TLS 1.3" } else { "plain text" }),
            ("admin", &addresses.admin),
            ("shards", &config.shards),
            ("io", &io.backend.name()),
            ("tier", &tier),
            ("io_because", &io.why),
            ("version", &env!("CARGO_PKG_VERSION")),
            ("commit", &env!("URINGEST_COMMIT")),
        ],
    );
}

/// What speaks TLS and with which certificates, and what does not where others could listen in.
pub(super) fn speaks(config: &Config, addresses: &Addresses, tls: Option<&ServerTls>) {
    if let Some((tls, settings)) = tls.zip(config.tls.server()) {
        let records = if config.tls.records == Records::Own { "own" } else { "rustls" };
        let clients = match settings.client_auth {
            ClientAuth::None => "show no certificates",
            ClientAuth::Optional(_) => "may show certificates",
            ClientAuth::Required(_) => "have to show certificates",
        };
        let early_data = if config.tls.early_data { "allowed" } else { "off" };
        let fields: [Field<'_>; 5] = [
            ("data", &addresses.data),
            ("certificates", &certificates_text(tls)),
            ("clients", &clients),
            ("early_data", &early_data),
            ("records", &records),
        ];
        event(Level::Info, "tls_started", "the data port speaks TLS 1.3", &fields);
        let open = config.tenant.is_empty() && !matches!(settings.client_auth, ClientAuth::Required(_));
        if open && !addresses.data.ip().to_canonical().is_loopback() {
            let message = "anybody who reaches the data port may publish and subscribe: list [[tenant]]s, or have \
                           clients show certificates (tls.client_ca)";
            event(Level::Warn, "open_to_all", message, &[("data", &addresses.data)]);
        }
    }
    let data = if tls.is_some() { addresses.plaintext } else { Some(addresses.data) };
    let plain = [("data", data), ("admin", Some(addresses.admin))];
    for (port, address) in plain.into_iter().filter_map(|(port, address)| Some((port, address?))) {
        if !address.ip().to_canonical().is_loopback() {
            let message = "what crosses the network here can be read on the way";
            event(Level::Warn, "plaintext_exposed", message, &[("port", &port), ("address", &address)]);
        } else if port == "data" && tls.is_some() {
            event(Level::Info, "plaintext_listening", "a second data port", &[("address", &address)]);
        }
    }
}
