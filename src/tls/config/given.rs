//! Sessions' makings from memory, with a crypto provider of the caller's: for worlds in which nothing is left to chance.
//!
//! Everything else is as with files: the same checks, protocol, record layer and time.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption as ClientResumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets};

use super::client::{ClientMaterial, ClientTls};
use super::material::{
    CertificateFiles, ClientAuth, EarlyData, Material, MaterialError, Pair, ServerSettings,
};
use super::server::{Resumption, ServerTls};

/// What errors name in place of a file.
const NO_FILE: &str = "memory";

impl ServerTls {
    /// One certificate, asked of by nobody; whoever resumes does so by these tickets.
    ///
    /// # Errors
    /// When the certificate or the key cannot be used.
    pub fn given(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        provider: Arc<CryptoProvider>,
        tickets: Arc<dyn ProducesTickets>,
    ) -> Result<ServerTls, MaterialError> {
        let files = CertificateFiles { certificate: NO_FILE.into(), key: NO_FILE.into() };
        let settings = ServerSettings {
            certificates: vec![files.clone()],
            client_auth: ClientAuth::None,
            revocation_lists: Vec::new(),
            tenant_rule: None,
            early_data: EarlyData::Off,
        };
        let material = Material {
            settings,
            pairs: vec![Pair { files, chain, key }],
            authorities: None,
            lists: Vec::new(),
            digest: [0; 32],
            client_digest: [0; 32],
        };
        let resumption = Resumption {
            early_data: EarlyData::Off,
            tickets: Some(tickets),
            storage: Arc::new(NoServerSessionStorage {}),
        };
        ServerTls::with(material, provider, resumption)
    }
}

impl ClientTls {
    /// It trusts who is signed for by `root`, and shows nothing. `resumes`: it goes on from tickets.
    ///
    /// # Errors
    /// When the root cannot be used.
    pub fn given(
        root: CertificateDer<'static>,
        provider: Arc<CryptoProvider>,
        resumes: bool,
    ) -> Result<ClientTls, MaterialError> {
        let material = ClientMaterial {
            file: PathBuf::from(NO_FILE),
            roots: vec![root],
            lenient: false,
            identity: None,
        };
        let resumption = if resumes { ClientResumption::default() } else { ClientResumption::disabled() };
        ClientTls::with(material, provider, resumption)
    }
}
