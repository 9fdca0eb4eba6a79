//! Data before the handshake is over (0-RTT): off unless allowed, marked, and taken once.

use std::io::Write as _;
use std::sync::Arc;

use rustls::ClientConnection;

use super::identity::EXPIRY_S;
use super::*;
use crate::tls::config::tests::{CLIENT, Leaf, SERVER};
use crate::tls::record::RECORD_BYTES_MAX;
use crate::tls::{ClientAuth, EarlyData, Reloader, ServerSettings};

pub(crate) fn allowed(files: &Files) -> ServerSettings {
    let early_data = EarlyData::Allowed { bytes: 16 * 1024, sessions: 100 };
    ServerSettings { early_data, ..files.server() }
}

/// A client of rustls that says `data` early, with the tickets our session has left behind, and its first flight.
pub(crate) fn early_client(client: &ClientTls, data: &[u8]) -> (ClientConnection, Vec<u8>) {
    let mut config = rustls::ClientConfig::clone(&client.rustls());
    config.enable_early_data = true;
    let name = "a.example".try_into().expect("a name");
    let mut conn = ClientConnection::new(Arc::new(config), name).expect("a client");
    conn.early_data().expect("the ticket allows it").write_all(data).expect("room");
    let flight = said_by(&mut conn);
    (conn, flight)
}

fn early_flight(client: &ClientTls, data: &[u8]) -> Vec<u8> {
    early_client(client, data).1
}

pub(crate) fn said_by(conn: &mut ClientConnection) -> Vec<u8> {
    let mut said = Vec::new();
    while conn.wants_write() {
        conn.write_tls(&mut said).expect("into memory");
    }
    said
}

/// What a client of rustls makes of what the server says.
pub(crate) fn told(conn: &mut ClientConnection, mut said: &[u8]) -> Result<(), rustls::Error> {
    while !said.is_empty() {
        conn.read_tls(&mut said).expect("from memory");
        conn.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn early_data_is_marked_and_a_replay_of_it_is_not_taken() {
    for records in BOTH {
        let files = Files::new();
        let (client, server) = (client_tls(&files.client()), server_tls(&allowed(&files)));
        let wire = connect(&client, &server, [Records::Own, Records::Own]);
        assert!(wire.server.session.can_send());
        let (mut conn, flight) = early_client(&client, b"published early");

        let mut first = End::new(Session::server(&server, records));
        first.hear(&flight);
        assert_eq!((&first.heard[..], first.early), (&b"published early"[..], 15), "{records:?}");
        assert!(first.session.is_handshaking(), "it came before the end of the handshake");
        told(&mut conn, &first.say(b"")).expect("a good answer");
        assert!(conn.is_early_data_accepted());
        conn.writer().write_all(b", and late").expect("room");
        first.hear(&said_by(&mut conn));
        assert_eq!((&first.heard[..], first.early), (&b"published early, and late"[..], 15));
        assert!(!first.session.is_handshaking());

        // The same bytes again, to another shard: the session they resume was used, so a full handshake begins and
        // the data is dropped.
        for again in BOTH {
            let mut replayed = End::new(Session::server(&server.clone(), again));
            replayed.hear(&flight);
            assert_eq!((&replayed.heard[..], replayed.early), (&b""[..], 0));
            assert!(replayed.session.is_handshaking() && replayed.session.peer().is_none());
        }
    }
}

/// In one call: the early flight, the end of the handshake, data behind it.
#[test]
fn the_early_part_of_what_comes_at_once_is_told() {
    for records in BOTH {
        let files = Files::new();
        let (client, server) = (client_tls(&files.client()), server_tls(&allowed(&files)));
        connect(&client, &server, [Records::Own, Records::Own]);
        let (mut conn, flight) = early_client(&client, b"early");
        let (hello, early) = flight.split_at(hello_bytes(&flight));
        let mut session = Session::server(&server, records);
        let mut out = vec![0; PLAINTEXT_ROOM_BYTES * 2];
        let received = session.receive(hello, &mut out, NOW_S);
        assert_eq!((received.consumed, received.produced), (hello.len(), 0));
        let mut answer = vec![0; 10_000];
        let written = session.transmit(b"", &mut answer).written;
        told(&mut conn, &answer[..written]).expect("a good answer");
        conn.writer().write_all(b" and late").expect("room");
        let rest = [early, &said_by(&mut conn)].concat();
        let received = session.receive(&rest, &mut out, NOW_S);
        assert_eq!((&out[..received.produced], received.early), (&b"early and late"[..], 5), "{records:?}");
        assert!(!session.is_handshaking() && session.peer().is_some_and(|peer| peer.resumed));
    }
}

/// The first record, and the one in plaintext behind it that middleboxes want to see.
fn hello_bytes(flight: &[u8]) -> usize {
    let record = |at: usize| 5 + usize::from(u16::from_be_bytes([flight[at + 3], flight[at + 4]]));
    let hello = record(0);
    assert_eq!(flight[hello], 20, "change_cipher_spec");
    hello + record(hello)
}

/// Captured bytes stay worthless when certificates or the authorities of clients change.
#[test]
fn a_replay_is_not_taken_after_a_reload_either() {
    for clients_change in [false, true] {
        let files = Files::new();
        let optional = ClientAuth::Optional(files.path("ca.pem"));
        let settings = ServerSettings { client_auth: optional, ..allowed(&files) };
        let mut reloader = Reloader::new(settings.clone()).expect("good files");
        let client = client_tls(&files.client());
        let first = reloader.current().clone();
        let replay = |server: &ServerTls, flight: &[u8]| {
            let mut end = End::new(Session::server(server, Records::Own));
            end.hear(flight);
            (end.heard, end.early)
        };
        // Two tickets: the flight of one is heard before the reload, the other's is not heard at all.
        connect(&client, &first, [Records::Own, Records::Own]);
        let used = early_flight(&client, b"published early");
        assert_eq!(replay(&first, &used), (b"published early".to_vec(), 15));
        connect(&client, &first, [Records::Own, Records::Own]);
        let unused = early_flight(&client, b"another");

        files.pair("server", SERVER);
        if clients_change {
            files.write("list.pem", &files.authority.revoke(&[99]));
        }
        let lists = if clients_change { vec![files.path("list.pem")] } else { Vec::new() };
        let next =
            reloader.replace(ServerSettings { revocation_lists: lists, ..settings }).expect("good files");
        for _ in 0..2 {
            assert_eq!(replay(&next, &used), (Vec::new(), 0));
        }
        // While shards change over, some have the old one: whichever of them it comes to, it is heard once.
        let heard: Vec<usize> = [&next, &first, &next, &first].map(|server| replay(server, &unused).1).into();
        // What is judged by something else now begins anew, with nobody's sessions.
        assert_eq!(heard, if clients_change { [0, 7, 0, 0] } else { [7, 0, 0, 0] });
    }
}

#[test]
fn early_data_of_a_client_that_may_not_come_any_more_is_not_heard() {
    for records in BOTH {
        let files = Files::new();
        files.pair("client", Leaf { until: 2027, ..CLIENT });
        let settings = ServerSettings { client_auth: files.mutual().client_auth, ..allowed(&files) };
        let (client, server) = (files.client_as("client"), server_tls(&settings));
        // Seconds pass: early data of an older ticket would not be taken for its age alone.
        let wire = connect_at(&client, &server, [Records::Own, Records::Own], EXPIRY_S - 20);
        assert!(wire.server.session.can_send());
        client.time().set(EXPIRY_S + 20);
        let (mut conn, flight) = early_client(&client, b"published early");
        let mut end = End::new(Session::server(&server, records));
        end.now_s = EXPIRY_S + 20;
        end.hear(&flight);
        told(&mut conn, &end.say(b"")).expect("a good answer");
        conn.writer().write_all(b"late").expect("room");
        end.hear(&said_by(&mut conn));
        assert_eq!(
            (&end.heard[..], end.failure().reason),
            (&b""[..], Reason::CertificateExpired),
            "{records:?}"
        );
        assert!(!end.session.can_send());
        if records == Records::Own {
            let alert = told(&mut conn, &end.say(b"")).expect_err("it is told");
            assert_eq!(alert, rustls::Error::AlertReceived(rustls::AlertDescription::CertificateExpired));
        }
    }
}

#[test]
fn early_data_waits_for_room() {
    for records in BOTH {
        let files = Files::new();
        let (client, server) = (client_tls(&files.client()), server_tls(&allowed(&files)));
        connect(&client, &server, [Records::Own, Records::Own]);
        let flight = early_flight(&client, &[7; 5000]);
        let mut session = Session::server(&server, records);
        let mut out = vec![0; 6000];
        let received = session.receive(&flight, &mut out[..2000], NOW_S);
        assert!(matches!(received.then, Then::Room(bytes) if bytes >= 5000), "{received:?}");
        assert_eq!(received.produced, 0);
        let received = session.receive(&flight[received.consumed..], &mut out, NOW_S);
        assert_eq!((received.produced, received.early), (5000, 5000));
    }
}

/// The longest record there may be, all of it padding for all one knows: the documented room is enough.
#[test]
fn no_record_asks_for_more_room_than_is_documented() {
    let mut longest = vec![0; RECORD_BYTES_MAX];
    longest[..HEADER_BYTES].copy_from_slice(&[23, 3, 3, 0x41, 0]);
    let mut out = vec![0; PLAINTEXT_ROOM_BYTES];
    for records in BOTH {
        let files = Files::new();
        let (client, server) = (client_tls(&files.client()), server_tls(&allowed(&files)));
        connect(&client, &server, [Records::Own, Records::Own]);
        let flight = early_flight(&client, b"");
        let hello = hello_bytes(&flight);
        let mut early = Session::server(&server, records);
        let received = early.receive(&flight[..hello], &mut out, NOW_S);
        assert_eq!(received.consumed, hello);
        let established = established([Records::Own, records]).server.session;
        for mut session in [early, established] {
            let received = session.receive(&longest, &mut out[..100], NOW_S);
            assert!(
                matches!(received.then, Then::Room(bytes) if bytes <= PLAINTEXT_ROOM_BYTES)
                    || matches!(received.then, Then::Failed(_)),
                "{received:?}"
            );
            let received = session.receive(&longest, &mut out, NOW_S);
            assert!(matches!(received.then, Then::Failed(_)), "{received:?}");
        }
    }
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

/// As after a restart: the data is dropped, in however many records it came, and the client goes on without.
#[test]
fn early_data_for_another_servers_session_is_passed_over_and_counted_once() {
    let files = Files::new();
    let (client, old) = (client_tls(&files.client()), server_tls(&allowed(&files)));
    connect(&client, &old, [Records::Own, Records::Own]);
    let (mut conn, mut flight) = early_client(&client, &[b'e'; 2000]);
    for _ in 0..6 {
        conn.early_data().expect("there is room").write_all(&[b'e'; 2000]).expect("room");
        flight.extend(said_by(&mut conn));
    }
    let mut server = End::new(Session::server(&server_tls(&allowed(&files)), Records::Own));
    server.hear(&flight);
    told(&mut conn, &server.say(b"")).expect("a good answer");
    assert!(!conn.is_early_data_accepted());
    conn.writer().write_all(b"late").expect("room");
    server.hear(&said_by(&mut conn));
    assert_eq!((&server.heard[..], server.early), (&b"late"[..], 0), "{:?}", server.then);
}
