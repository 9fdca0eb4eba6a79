//! Files of certificates, keys and lists: which ones, what was in them, and what was wrong with them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use super::tenant::TenantRule;

/// Bytes of one file at most: a revocation list may be long, nothing else is.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A certificate chain, the server's or client's own certificate first, and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain.
    pub certificate: PathBuf,
    /// The key, PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// None are asked for.
    #[default]
    None,
    /// Those that are shown must be by these authorities; a client may show none.
    Optional(PathBuf),
    /// Every client shows one by these authorities.
    Required(PathBuf),
}

impl ClientAuth {
    /// The authorities' file.
    #[must_use]
    pub fn authorities(&self) -> Option<&Path> {
        match self {
            ClientAuth::None => None,
            ClientAuth::Optional(file) | ClientAuth::Required(file) => Some(file),
        }
    }
}

/// Whether clients that resume may send data before the handshake is over. Such data can be replayed, so it is
/// for what may come twice. A server that allows it keeps sessions in memory and uses each once, instead of
/// tickets that carry them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EarlyData {
    /// It may not.
    #[default]
    Off,
    /// So many bytes of it, of so many sessions that are remembered.
    Allowed {
        /// Bytes for each handshake.
        bytes: u32,
        /// Sessions.
        sessions: usize,
    },
}

/// What a server's TLS is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// One pair for each set of names; the first also for clients that ask for no name or another.
    pub certificates: Vec<CertificateFiles>,
    /// See there.
    pub client_auth: ClientAuth,
    /// Revocation lists (PEM) of the clients' authorities. With one of them, each authority in a client's chain
    /// needs its own. They are used until they are replaced, whatever date they name for that.
    pub revocation_lists: Vec<PathBuf>,
    /// Which tenant a client's certificate stands for.
    pub tenant_rule: Option<TenantRule>,
    /// See there.
    pub early_data: EarlyData,
}

/// What was in a server's files at one moment.
pub struct Material {
    pub(super) settings: ServerSettings,
    pub(super) pairs: Vec<Pair>,
    pub(super) authorities: Option<(PathBuf, Vec<CertificateDer<'static>>)>,
    pub(super) lists: Vec<CertificateRevocationListDer<'static>>,
    /// Of all of it, to see whether anything has changed.
    pub(super) digest: Digest,
    /// Of what clients are judged by.
    pub(super) client_digest: Digest,
}

pub(super) type Digest = [u8; 32];

/// A chain and its key, as they were read.
pub(super) struct Pair {
    pub(super) files: CertificateFiles,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// Why files cannot be used. The operator's to mend: `Display` names the file and the remedy.
#[derive(Debug)]
pub struct MaterialError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub fault: MaterialFault,
}

/// What may be wrong with a file.
#[derive(Debug)]
#[allow(missing_docs)] // what `Display` says
pub enum MaterialFault {
    Unreadable(io::Error),
    TooLarge,
    NotPem(pem::Error),
    NoCertificate,
    NoKey,
    NoList,
    NoPairs,
    BadCertificate(String),
    BadKey(String),
    KeyOfAnother { certificate: PathBuf },
    BadAuthority(String),
    BadList(String),
    NoAuthorities,
    NoPlatformRoots(String),
    NoRandomness,
}

impl MaterialFault {
    pub(super) fn of(self, file: &Path) -> MaterialError {
        MaterialError { file: file.to_owned(), fault: self }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            MaterialFault::Unreadable(_) => "name a file that this user may read",
            MaterialFault::TooLarge => {
                "name the right file: a PEM file of certificates, a key or a revocation list"
            }
            MaterialFault::NotPem(_) | MaterialFault::NoCertificate => {
                "give it as PEM, between -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----"
            }
            MaterialFault::NoKey | MaterialFault::BadKey(_) => {
                "give an unencrypted private key (RSA, ECDSA or Ed25519) as PEM; `openssl pkey -in KEY` makes one"
            }
            MaterialFault::NoList | MaterialFault::BadList(_) => {
                "give a revocation list as PEM; `openssl crl -inform der -in LIST` makes one"
            }
            MaterialFault::NoPairs => {
                "name a certificate and its key; `uringest cert dev DIR` makes both for tests"
            }
            MaterialFault::BadCertificate(_) => {
                "the server's own certificate (X.509 v3) comes first in its file"
            }
            MaterialFault::KeyOfAnother { .. } => {
                "name the key that the certificate was made for; compare `openssl x509 -pubkey` and `openssl pkey -pubout`"
            }
            MaterialFault::BadAuthority(_) | MaterialFault::NoAuthorities => {
                "give the authorities' own certificates, not those they have signed"
            }
            MaterialFault::NoPlatformRoots(_) => {
                "install the system's ca-certificates, or name a file of authorities"
            }
            MaterialFault::NoRandomness => "the kernel gives no random bytes: check getrandom(2)",
        }
    }
}

impl MaterialError {
    /// What `Display` says, without the remedy.
    #[must_use]
    pub fn what(&self) -> String {
        let whole = self.to_string();
        let remedy = format!(" (try: {})", self.fault.remedy());
        whole.strip_suffix(&remedy).map_or_else(|| whole.clone(), str::to_owned)
    }
}

impl fmt::Display for MaterialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match &self.fault {
            MaterialFault::Unreadable(error) => write!(f, "cannot read {file}: {error}"),
            MaterialFault::TooLarge => write!(f, "{file} is longer than {FILE_BYTES_MAX} bytes"),
            MaterialFault::NotPem(error) => write!(f, "{file} is not PEM: {error}"),
            MaterialFault::NoCertificate => write!(f, "{file} has no certificate"),
            MaterialFault::NoKey => write!(f, "{file} has no private key"),
            MaterialFault::NoList => write!(f, "{file} has no revocation list"),
            MaterialFault::NoPairs => f.write_str("TLS needs a certificate"),
            MaterialFault::BadCertificate(why) => {
                write!(f, "the certificate in {file} cannot be used: {why}")
            }
            MaterialFault::BadKey(why) => write!(f, "the key in {file} cannot be used: {why}"),
            MaterialFault::KeyOfAnother { certificate } => {
                write!(f, "the key in {file} is not that of the certificate in {}", certificate.display())
            }
            MaterialFault::BadAuthority(why) => write!(f, "an authority in {file} cannot be used: {why}"),
            MaterialFault::BadList(why) => write!(f, "the revocation list in {file} cannot be used: {why}"),
            MaterialFault::NoAuthorities => {
                write!(f, "{file} is a revocation list, and no clients' authorities are named")
            }
            MaterialFault::NoPlatformRoots(why) => write!(f, "this host has no trusted authorities: {why}"),
            MaterialFault::NoRandomness => f.write_str("no keys for session tickets"),
        }?;
        write!(f, " (try: {})", self.fault.remedy())
    }
}

impl std::error::Error for MaterialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            MaterialFault::Unreadable(error) => Some(error),
            MaterialFault::NotPem(error) => Some(error),
            _ => None,
        }
    }
}

impl Material {
    /// Reads all files.
    ///
    /// # Errors
    /// When one cannot be read or is not what it should be.
    pub fn read(settings: &ServerSettings) -> Result<Material, MaterialError> {
        let mut all = Context::new(&SHA256);
        let mut of_clients = Context::new(&SHA256);
        let mut pairs = Vec::with_capacity(settings.certificates.len());
        for files in &settings.certificates {
            pairs.push(Pair::read(files, &mut all)?);
        }
        if pairs.is_empty() {
            return Err(MaterialFault::NoPairs.of(Path::new("")));
        }
        let authorities = match settings.client_auth.authorities() {
            None => None,
            Some(file) => Some((file.to_owned(), certificates(file, &read(file, &mut of_clients)?)?)),
        };
        let mut lists = Vec::new();
        for file in &settings.revocation_lists {
            if authorities.is_none() {
                return Err(MaterialFault::NoAuthorities.of(file));
            }
            lists.extend(revocation_lists(file, &read(file, &mut of_clients)?)?);
        }
        let client_digest = finish(of_clients);
        all.update(&client_digest);
        let (settings, digest) = (settings.clone(), finish(all));
        Ok(Material { settings, pairs, authorities, lists, digest, client_digest })
    }
}

impl Pair {
    pub(super) fn read(files: &CertificateFiles, digest: &mut Context) -> Result<Pair, MaterialError> {
        let chain = certificates(&files.certificate, &read(&files.certificate, digest)?)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&files.key, digest)?).map_err(|error| match error {
            pem::Error::NoItemsFound => MaterialFault::NoKey.of(&files.key),
            error => MaterialFault::NotPem(error).of(&files.key),
        })?;
        Ok(Pair { files: files.clone(), chain, key })
    }
}

pub(super) fn read(file: &Path, digest: &mut Context) -> Result<Vec<u8>, MaterialError> {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|open| open.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| MaterialFault::Unreadable(error).of(file))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(MaterialFault::TooLarge.of(file));
    }
    digest.update(&(bytes.len() as u64).to_le_bytes());
    digest.update(&bytes);
    Ok(bytes)
}

pub(super) fn certificates(file: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    all_of(file, CertificateDer::pem_slice_iter(bytes), MaterialFault::NoCertificate)
}

fn revocation_lists(
    file: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, MaterialError> {
    all_of(file, CertificateRevocationListDer::pem_slice_iter(bytes), MaterialFault::NoList)
}

fn all_of<T>(
    file: &Path,
    items: impl Iterator<Item = Result<T, pem::Error>>,
    none: MaterialFault,
) -> Result<Vec<T>, MaterialError> {
    let items: Vec<T> = items.collect::<Result<_, _>>().map_err(|e| MaterialFault::NotPem(e).of(file))?;
    if items.is_empty() { Err(none.of(file)) } else { Ok(items) }
}

fn finish(context: Context) -> Digest {
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}
