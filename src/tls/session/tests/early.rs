//! Data before the handshake is over (0-RTT): off unless allowed, marked, and taken once.

use std::io::Write as _;
use std::sync::Arc;

use rustls::ClientConnection;

use super::identity::EXPIRY_S;
use super::*;
use crate::tls::config::tests::{CLIENT, Leaf};
use crate::tls::{EarlyData, ServerSettings};

fn allowed(files: &Files) -> ServerSettings {
    let early_data = EarlyData::Allowed { bytes: 16 * 1024, sessions: 100 };
    ServerSettings { early_data, ..files.server() }
}

/// A client's flight with `data` as early data, made by rustls from the tickets our session has left behind.
fn early_flight(client: &ClientTls, data: &[u8]) -> Vec<u8> {
    let mut config = rustls::ClientConfig::clone(&client.rustls());
    config.enable_early_data = true;
    let name = "a.example".try_into().expect("a name");
    let mut conn = ClientConnection::new(Arc::new(config), name).expect("a client");
    conn.early_data().expect("the ticket allows it").write_all(data).expect("room");
    let mut flight = Vec::new();
    while conn.wants_write() {
        conn.write_tls(&mut flight).expect("into memory");
    }
    flight
}

#[test]
fn early_data_is_marked_and_a_replay_of_it_is_not_taken() {
    let files = Files::new();
    let (client, server) = (client_tls(&files.client()), server_tls(&allowed(&files)));
    let wire = connect(&client, &server, [Records::Own, Records::Own]);
    assert!(wire.server.session.can_send());
    let flight = early_flight(&client, b"published early");

    let mut first = End::new(Session::server(&server, Records::Own));
    first.hear(&flight);
    assert_eq!((&first.heard[..], first.early), (&b"published early"[..], 15));
    assert!(first.session.is_handshaking(), "it came before the end of the handshake");

    // The same bytes again: the session they resume was used, so a full handshake begins and the data is dropped.
    let mut replayed = End::new(Session::server(&server, Records::Own));
    replayed.hear(&flight);
    assert_eq!((&replayed.heard[..], replayed.early), (&b""[..], 0));
}

#[test]
fn early_data_of_a_client_that_may_not_come_any_more_is_not_heard() {
    let files = Files::new();
    files.pair("client", Leaf { until: 2027, ..CLIENT });
    let settings = ServerSettings { client_auth: files.mutual().client_auth, ..allowed(&files) };
    let (client, server) = (files.client_as("client"), server_tls(&settings));
    // Seconds pass: early data of an older ticket would not be taken for its age alone.
    let wire = connect_at(&client, &server, [Records::Own, Records::Own], EXPIRY_S - 20);
    assert!(wire.server.session.can_send());
    client.time().set(EXPIRY_S + 20);
    let flight = early_flight(&client, b"published early");
    let mut end = End::new(Session::server(&server, Records::Own));
    end.now_s = EXPIRY_S + 20;
    end.hear(&flight);
    assert_eq!((&end.heard[..], end.failure().reason), (&b""[..], Reason::CertificateExpired));
}

#[test]
fn early_data_waits_for_room() {
    let files = Files::new();
    let (client, server) = (client_tls(&files.client()), server_tls(&allowed(&files)));
    connect(&client, &server, [Records::Own, Records::Own]);
    let flight = early_flight(&client, &[7; 5000]);
    let mut session = Session::server(&server, Records::Own);
    let mut out = vec![0; 6000];
    let received = session.receive(&flight, &mut out[..100], NOW_S);
    assert!(matches!(received.then, Then::Room(bytes) if bytes >= 5000), "{received:?}");
    assert_eq!(received.produced, 0);
    let received = session.receive(&flight[received.consumed..], &mut out, NOW_S);
    assert_eq!((received.produced, received.early), (5000, 5000));
}

#[test]
fn without_leave_there_is_none() {
    let files = Files::new();
    let (client, server) = (client_tls(&files.client()), server_tls(&files.server()));
    connect(&client, &server, [Records::Own, Records::Own]);
    let mut config = rustls::ClientConfig::clone(&client.rustls());
    config.enable_early_data = true;
    let name = "a.example".try_into().expect("a name");
    let mut conn = ClientConnection::new(Arc::new(config), name).expect("a client");
    assert!(conn.early_data().is_none(), "the ticket says so");
}
