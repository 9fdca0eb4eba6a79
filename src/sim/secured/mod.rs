//! TLS in a simulated world: who is signed by whom, and what the server's and the clients' sessions are made from. The record
//! layer, the handshake and the drivers' piece between socket and frames are the product's own; chance is the seed's
//! ([`crypto`]).

pub mod crypto;
pub mod line;
pub mod tamper;

use std::sync::{Arc, OnceLock};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::client::core::Tls;
use crate::tls::{ClientTls, Records, ServerTls, Session};

use super::plan::secured::SecuredPlan;
use super::random::Random;
use crypto::{Groups, Tickets, provider};

/// What the server is called.
pub const SERVER_NAME: &str = "localhost";

/// What PKCS #8 (RFC 8410) has before the 32 bytes of an Ed25519 key.
const PKCS8_ED25519: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The certificates of every world: good from 1975 to 4096.
struct Certificates {
    root: CertificateDer<'static>,
    server: CertificateDer<'static>,
    server_key: Vec<u8>,
}

fn certificates() -> &'static Certificates {
    static MADE: OnceLock<Certificates> = OnceLock::new();
    MADE.get_or_init(|| {
        let pkcs8 = |number: u8| [&PKCS8_ED25519[..], &[number; 32]].concat();
        let pair = |pkcs8: &[u8]| {
            KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ED25519)
                .expect("a key of 32 bytes")
        };
        let (root_key, server_key) = (pkcs8(1), pkcs8(2));
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let of_root = pair(&root_key);
        let signed_root = root.self_signed(&of_root).expect("a good request");
        let issuer = Issuer::new(root, of_root);
        let server = CertificateParams::new([SERVER_NAME.to_owned()]).expect("a good name");
        let signed = server.signed_by(&pair(&server_key), &issuer).expect("a good request");
        Certificates { root: signed_root.der().clone(), server: signed.der().clone(), server_key }
    })
}

/// What a world speaks TLS with.
pub struct Secured {
    plan: SecuredPlan,
    clients: Tls,
}

impl Secured {
    /// As planned. All that is random in TLS comes from these numbers, on this thread, until the next one is made.
    ///
    /// # Panics
    /// When its own certificates are not good.
    #[must_use]
    pub fn new(plan: SecuredPlan, random: Random) -> Secured {
        crypto::begin(random);
        let provider = provider(plan.suite, Groups::Both);
        let tls = ClientTls::given(certificates().root.clone(), provider, plan.resumes);
        Secured { plan, clients: Tls::given(tls.expect("good certificates")) }
    }

    /// For the client of this number, if it speaks TLS.
    #[must_use]
    pub fn client(&self, number: usize) -> Option<Tls> {
        self.speaks(number).then(|| self.clients.clone())
    }

    /// Whether the client of this number speaks TLS.
    #[must_use]
    pub fn speaks(&self, number: usize) -> bool {
        self.plan.clients.get(number).copied().unwrap_or(self.plan.auditors)
    }

    /// The first words of a client that belongs to nobody.
    #[must_use]
    pub fn hello(&self, now_s: u64) -> Vec<u8> {
        let mut session = Session::client(self.clients.client(), SERVER_NAME, Records::Own, now_s);
        let mut said = vec![0; 4_096];
        let written = session.transmit(&[], &mut said).written;
        said.truncate(written);
        said
    }

    /// For one life of the server: no ticket of another is good.
    ///
    /// # Panics
    /// When its own certificates are not good.
    #[must_use]
    pub fn server(&self) -> Option<ServerTls> {
        self.plan.is_on().then(|| {
            let Certificates { server, server_key, .. } = certificates();
            let key = PrivatePkcs8KeyDer::from(server_key.clone()).into();
            let groups = if self.plan.comes_again { Groups::P256 } else { Groups::Both };
            let provider = provider(self.plan.suite, groups);
            let tickets: Arc<Tickets> = Tickets::new();
            ServerTls::given(vec![server.clone()], key, provider, tickets).expect("good certificates")
        })
    }
}
