//! Two sessions whose handshake is over, without sockets.

use std::time::{SystemTime, UNIX_EPOCH};

use uringest::tls::record::RECORD_BYTES_MAX;
use uringest::tls::{
    CertificateFiles, ClientAuth, EarlyData, Material, Records, ServerSettings, ServerTls, Session, Then,
};

use crate::failure::Failure;
use crate::tls::{Certificates, LoadTls, SERVER_NAME, TlsWish};

/// Carrying back and forth that is more than any handshake takes.
const ROUNDS_MAX: usize = 16;

/// See the module. The client's records are always the product's own.
pub(crate) struct Pair {
    pub(crate) client: Session,
    pub(crate) server: Session,
    pub(crate) now_s: u64,
}

impl Pair {
    /// # Errors
    /// There is no place for certificates, or the two do not agree.
    pub(crate) fn new(records: Records) -> Result<Pair, Failure> {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let directory = tempfile::tempdir().map_err(|source| Failure::Host {
            what: "certificates have no place: set TMPDIR to a directory that can be written to".into(),
            source,
        })?;
        let files = Certificates::make(directory.path())?;
        let server = server_tls(&files)?;
        let load = LoadTls::new(&files.authority, TlsWish::default())?;
        let mut pair = Pair {
            client: Session::client(load.client(), SERVER_NAME, Records::Own, now_s),
            server: Session::server(&server, records),
            now_s,
        };
        for _ in 0..ROUNDS_MAX {
            let moved = carry(&mut pair.client, &mut pair.server, now_s)?
                | carry(&mut pair.server, &mut pair.client, now_s)?;
            if !moved {
                break;
            }
        }
        if pair.client.can_send() && pair.server.can_send() {
            return Ok(pair);
        }
        Err(Failure::Tls("the handshake does not end".into()))
    }
}

/// What a server with these files is made from.
pub(crate) fn server_tls(files: &Certificates) -> Result<ServerTls, Failure> {
    let settings = ServerSettings {
        certificates: vec![CertificateFiles {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
        }],
        client_auth: ClientAuth::None,
        revocation_lists: Vec::new(),
        tenant_rule: None,
        early_data: EarlyData::Off,
    };
    let made = Material::read(&settings).and_then(ServerTls::new);
    made.map_err(|error| Failure::Tls(error.to_string()))
}

/// Carries what one has to say to the other; says whether that was anything.
fn carry(from: &mut Session, to: &mut Session, now_s: u64) -> Result<bool, Failure> {
    let (mut said, mut room) = (Vec::new(), vec![0; RECORD_BYTES_MAX]);
    while from.has_output() {
        let written = from.transmit(&[], &mut room).written;
        said.extend_from_slice(&room[..written]);
    }
    let mut rest = &said[..];
    while !rest.is_empty() {
        let received = to.receive(rest, &mut room, now_s);
        if let Then::Failed(failure) = received.then {
            return Err(Failure::Tls(failure.to_string()));
        }
        rest = &rest[received.consumed..];
        assert!(rest.is_empty() || received.consumed > 0, "whole messages are carried");
    }
    Ok(!said.is_empty())
}
