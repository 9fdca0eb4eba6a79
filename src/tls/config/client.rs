//! A client's side.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use super::material::{CertificateFiles, MaterialError, MaterialFault, Pair, certificates, read};
use super::provider::{CallersTime, provider};
use super::server::{certified, roots_of};
use crate::tls::ALPN;

/// Whose servers a client trusts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Roots {
    /// Those this host trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` are heeded).
    #[default]
    Platform,
    /// Those in this file, and no others.
    File(PathBuf),
}

/// What a client's TLS is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientSettings {
    /// See there.
    pub roots: Roots,
    /// What it shows to servers that ask.
    pub identity: Option<CertificateFiles>,
}

/// What was in a client's files at one moment.
pub struct ClientMaterial {
    /// What the roots came from, for errors.
    pub(super) file: PathBuf,
    pub(super) roots: Vec<CertificateDer<'static>>,
    /// The platform's roots are a mixture: what cannot be used among them is left out.
    pub(super) lenient: bool,
    pub(super) identity: Option<Pair>,
}

impl ClientMaterial {
    /// Reads all files.
    ///
    /// # Errors
    /// When one cannot be read or is not what it should be, or the platform has no roots.
    pub fn read(settings: &ClientSettings) -> Result<ClientMaterial, MaterialError> {
        let mut digest = Context::new(&SHA256);
        let (file, roots, lenient) = match &settings.roots {
            Roots::File(file) => (file.clone(), certificates(file, &read(file, &mut digest)?)?, false),
            Roots::Platform => (PathBuf::from("the platform's roots"), platform_roots()?, true),
        };
        let identity = match &settings.identity {
            None => None,
            Some(files) => Some(Pair::read(files, &mut digest)?),
        };
        Ok(ClientMaterial { file, roots, lenient, identity })
    }
}

fn platform_roots() -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.first().map_or_else(|| "none were found".to_owned(), ToString::to_string);
        return Err(MaterialFault::NoPlatformRoots(why).of(Path::new("")));
    }
    Ok(found.certs)
}

/// What a client's sessions are made from. Cheap to clone; tickets are remembered in it.
#[derive(Clone)]
pub struct ClientTls {
    rustls: Arc<ClientConfig>,
    time: Arc<CallersTime>,
}

impl ClientTls {
    /// # Errors
    /// When a root, certificate or key cannot be used.
    pub fn new(material: ClientMaterial) -> Result<ClientTls, MaterialError> {
        ClientTls::with(material, provider(), Resumption::default())
    }

    pub(super) fn with(
        material: ClientMaterial,
        provider: Arc<CryptoProvider>,
        resumption: Resumption,
    ) -> Result<ClientTls, MaterialError> {
        let ClientMaterial { file, roots, lenient, identity } = material;
        let time = Arc::new(CallersTime::default());
        let roots = if lenient {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(roots);
            store
        } else {
            roots_of(&file, roots)?
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| MaterialFault::BadAuthority(error.to_string()).of(&file))?;
        let builder = ClientConfig::builder_with_details(Arc::clone(&provider), Arc::clone(&time) as _)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites of TLS 1.3")
            .with_webpki_verifier(verifier);
        let mut rustls = match identity {
            None => builder.with_no_client_auth(),
            Some(Pair { files, chain, key }) => {
                let key = certified(&files, chain, key, &provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
            }
        };
        rustls.alpn_protocols = vec![ALPN.to_vec()];
        rustls.enable_secret_extraction = true;
        rustls.resumption = resumption;
        Ok(ClientTls { rustls: Arc::new(rustls), time })
    }

    pub(in crate::tls) fn rustls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.rustls)
    }

    pub(in crate::tls) fn time(&self) -> Arc<CallersTime> {
        Arc::clone(&self.time)
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}
