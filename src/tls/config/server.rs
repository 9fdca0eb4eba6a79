//! A server's side: from what was in the files to what sessions are made from.

use std::fmt;
use std::mem::{Discriminant, discriminant};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoServerSessionStorage, ProducesTickets, ServerSessionMemoryCache, StoresServerSessions,
    VerifierBuilderError, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore, ServerConfig};

use super::certificate::{CertificateInfo, not_after_s};
use super::material::{ClientAuth, Digest, EarlyData, Material, MaterialError, MaterialFault, Pair};
use super::names::{ByName, Named};
use super::provider::{CallersTime, provider, time};
use super::tenant::{SanNames, TenantRefused, TenantRule};
use crate::tls::session::errors::of_certificate;
use crate::tls::{ALPN, Reason};

/// What a server's sessions are made from. Cheap to clone, the same for all shards; never changed.
#[derive(Clone)]
pub struct ServerTls(Arc<Inner>);

struct Inner {
    rustls: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    tenant_rule: Option<TenantRule>,
    time: Arc<CallersTime>,
    resumption: Resumption,
    names: Vec<String>,
    certificates: Vec<CertificateInfo>,
    digest: Digest,
    client_digest: Digest,
    /// How clients are asked, whatever the file.
    client_mode: Discriminant<ClientAuth>,
}

/// Where sessions that may be resumed are kept: in tickets under one key for all shards, or (for early data, where
/// each may be used once only) in one memory for all shards.
#[derive(Clone)]
pub(super) struct Resumption {
    pub(super) early_data: EarlyData,
    pub(super) tickets: Option<Arc<dyn ProducesTickets>>,
    pub(super) storage: Arc<dyn StoresServerSessions>,
}

impl Resumption {
    fn new(early_data: EarlyData) -> Result<Resumption, MaterialError> {
        Ok(match early_data {
            EarlyData::Off => Resumption {
                early_data,
                tickets: Some(Ticketer::new().map_err(|_| MaterialFault::NoRandomness.of(Path::new("")))?),
                storage: Arc::new(NoServerSessionStorage {}),
            },
            EarlyData::Allowed { sessions, .. } => {
                Resumption { early_data, tickets: None, storage: ServerSessionMemoryCache::new(sessions) }
            }
        })
    }
}

impl ServerTls {
    /// # Errors
    /// When a certificate, key, authority or list cannot be used.
    pub fn new(material: Material) -> Result<ServerTls, MaterialError> {
        let resumption = Resumption::new(material.settings.early_data)?;
        ServerTls::with(material, provider(), resumption)
    }

    /// The next one, in whose sessions the tickets of this one are still good, unless clients are judged by
    /// something else now.
    ///
    /// # Errors
    /// As [`ServerTls::new`].
    pub(super) fn renewed(&self, material: Material) -> Result<ServerTls, MaterialError> {
        let same = material.client_digest == self.0.client_digest
            && discriminant(&material.settings.client_auth) == self.0.client_mode
            && material.settings.early_data == self.0.resumption.early_data;
        if !same {
            return ServerTls::new(material);
        }
        ServerTls::with(material, Arc::clone(self.0.rustls.crypto_provider()), self.0.resumption.clone())
    }

    pub(super) fn with(
        material: Material,
        provider: Arc<CryptoProvider>,
        resumption: Resumption,
    ) -> Result<ServerTls, MaterialError> {
        let Material { settings, pairs, authorities, lists, digest, client_digest } = material;
        let time = Arc::new(CallersTime::default());
        let verifier = match authorities {
            None => None,
            Some((file, certificates)) => {
                let roots = Arc::new(roots_of(&file, certificates)?);
                let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
                let builder = match settings.client_auth {
                    ClientAuth::Optional(_) => builder.allow_unauthenticated(),
                    ClientAuth::Required(_) | ClientAuth::None => builder,
                };
                Some(builder.with_crls(lists).build().map_err(|error| match error {
                    VerifierBuilderError::InvalidCrl(why) => {
                        let file = settings.revocation_lists.first().unwrap_or(&file);
                        MaterialFault::BadList(format!("{why:?}")).of(file)
                    }
                    other => MaterialFault::BadAuthority(other.to_string()).of(&file),
                })?)
            }
        };
        let (mut certificates, mut named) = (Vec::new(), Vec::new());
        for pair in pairs {
            let (info, one) = usable(pair, &provider)?;
            certificates.push(info);
            named.push(one);
        }
        let names = named.iter().flat_map(|named: &Named| named.names.iter().cloned()).collect();
        let builder = ServerConfig::builder_with_details(provider, Arc::clone(&time) as _)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites of TLS 1.3");
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let mut rustls = builder.with_cert_resolver(Arc::new(ByName(named)));
        rustls.alpn_protocols = vec![ALPN.to_vec()];
        rustls.enable_secret_extraction = true;
        rustls.session_storage = Arc::clone(&resumption.storage);
        if let Some(tickets) = &resumption.tickets {
            rustls.ticketer = Arc::clone(tickets);
        }
        if let EarlyData::Allowed { bytes, .. } = settings.early_data {
            rustls.max_early_data_size = bytes;
        }
        Ok(ServerTls(Arc::new(Inner {
            rustls: Arc::new(rustls),
            verifier,
            tenant_rule: settings.tenant_rule,
            time,
            resumption,
            names,
            certificates,
            digest,
            client_digest,
            client_mode: discriminant(&settings.client_auth),
        })))
    }

    /// The names of all certificates, in the configuration's order.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0.names
    }

    /// Its certificates, in the configuration's order.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateInfo] {
        &self.0.certificates
    }

    /// Clients are asked for certificates.
    #[must_use]
    pub fn asks_for_certificates(&self) -> bool {
        self.0.verifier.is_some()
    }

    pub(in crate::tls) fn rustls(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.rustls)
    }

    pub(in crate::tls) fn time(&self) -> Arc<CallersTime> {
        Arc::clone(&self.0.time)
    }

    pub(in crate::tls) fn early_data(&self) -> bool {
        self.0.resumption.early_data != EarlyData::Off
    }

    pub(super) fn digest(&self) -> &Digest {
        &self.0.digest
    }

    /// Judges a client's chain as a full handshake does.
    pub(in crate::tls) fn check_again(&self, chain: &[CertificateDer<'_>], now_s: u64) -> Result<(), Reason> {
        let Some(verifier) = &self.0.verifier else { return Ok(()) };
        let Some((own, others)) = chain.split_first() else {
            return if verifier.client_auth_mandatory() { Err(Reason::NoCertificate) } else { Ok(()) };
        };
        match verifier.verify_client_cert(own, others, time(now_s)) {
            Ok(_verified) => Ok(()),
            Err(Error::InvalidCertificate(error)) => Err(of_certificate(&error)),
            Err(_) => Err(Reason::BadCertificate),
        }
    }

    /// The tenant a client's chain stands for; `None` without a rule or a certificate.
    pub(in crate::tls) fn tenant_of(
        &self,
        chain: &[CertificateDer<'_>],
    ) -> Option<Result<String, TenantRefused>> {
        let names = SanNames::of(chain)?;
        self.0.tenant_rule.as_ref().map(|rule| rule.tenant(&names))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("names", &self.0.names).finish_non_exhaustive()
    }
}

pub(super) fn roots_of(
    file: &Path,
    certificates: Vec<CertificateDer<'static>>,
) -> Result<RootCertStore, MaterialError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| MaterialFault::BadAuthority(error.to_string()).of(file))?;
    }
    Ok(roots)
}

/// A pair whose certificate parses and whose key is its own.
fn usable(pair: Pair, provider: &CryptoProvider) -> Result<(CertificateInfo, Named), MaterialError> {
    let Pair { files, chain, key } = pair;
    let names = SanNames::of(&chain).map(|names| names.dns).unwrap_or_default();
    let names: Vec<String> = names.into_iter().map(|name| name.to_ascii_lowercase()).collect();
    let not_after_s = chain.first().and_then(|own| not_after_s(own));
    let key = certified(&files, chain, key, provider)?;
    let info = CertificateInfo { file: files.certificate, names: names.clone(), not_after_s };
    Ok((info, Named { names, key: Arc::new(key) }))
}

pub(super) fn certified(
    files: &super::CertificateFiles,
    chain: Vec<CertificateDer<'static>>,
    key: rustls::pki_types::PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, MaterialError> {
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| MaterialFault::BadKey(error.to_string()).of(&files.key))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(MaterialFault::KeyOfAnother { certificate: files.certificate.clone() }.of(&files.key))
        }
        Err(error) => Err(MaterialFault::BadCertificate(error.to_string()).of(&files.certificate)),
    }
}
