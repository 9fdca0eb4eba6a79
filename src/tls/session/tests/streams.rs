//! Data in both directions, cut everywhere, with either record layer on either side.

use proptest::prelude::*;

use super::*;
use crate::tls::ALPN;

over_each_implementation! {
    every_pair_of_record_layers_understands_each_other,
    keys_change_under_way_against_the_reference,
    random_streams_differ_in_nothing,
    nothing_taken_is_lost_whatever_the_room,
}

fn every_pair_of_record_layers_understands_each_other() {
    for client in BOTH {
        for server in BOTH {
            let mut wire = established([client, server]);
            for end in [&wire.client, &wire.server] {
                let peer = end.session.peer().expect("the handshake is over");
                assert_eq!((peer.suite, peer.key_exchange), (Suite::Aes128Gcm, "X25519MLKEM768"));
                assert!(peer.alpn && !peer.resumed && peer.tenant.is_none());
            }
            let data: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
            for _ in 0..3 {
                let sent = wire.client.say(&data);
                wire.server.hear(&sent);
                let sent = wire.server.say(&data[7..]);
                wire.client.hear(&sent);
            }
            assert_eq!(wire.server.heard, data.repeat(3), "{client:?} to {server:?}");
            assert_eq!(wire.client.heard, data[7..].repeat(3), "{server:?} to {client:?}");
            assert_eq!(wire.server.early, 0);

            wire.client.session.close();
            assert!(!wire.client.session.can_send() && wire.client.session.has_output());
            wire.settle();
            assert_eq!(wire.server.then, Then::Closed);
            assert_eq!(wire.server.session.end_of_stream(), Ok(()));
            // The other direction goes on.
            let sent = wire.server.say(b"last words");
            wire.client.hear(&sent);
            assert!(wire.client.heard.ends_with(b"last words"));
            wire.server.session.close();
            wire.settle();
            assert_eq!(wire.client.then, Then::Closed);
        }
    }
}

#[test]
fn a_handshake_may_be_cut_at_any_byte() {
    let files = Files::new();
    let (client, server) = (client_tls(&files.client()), server_tls(&files.server()));
    let hello = End::new(Session::client(&client, "a.example", Records::Own, NOW_S)).say(b"");
    assert!(hello.len() > 1200, "the hybrid key share is long: {}", hello.len());
    for records in BOTH {
        for at in (1..hello.len()).step_by(41) {
            let session = Session::client(&client, "a.example", records, NOW_S);
            let mut wire = Wire::new(session, Session::server(&server, records));
            let hello = wire.client.say(b"");
            wire.server.hear(&hello[..at]);
            assert!(!wire.server.session.has_output(), "half a ClientHello is no answer");
            wire.server.hear(&hello[at..]);
            wire.settle();
            assert!(wire.server.session.can_send(), "{records:?} cut at {at}");
        }
    }
}

#[test]
fn a_handshake_may_come_byte_by_byte_with_data_at_its_end() {
    for records in BOTH {
        let files = Files::new();
        let mut wire = connect_byte_by_byte(&files, records);
        let sent = wire.server.say(b"welcome");
        wire.client.hear(&sent);
        assert_eq!((&wire.client.heard[..], &wire.server.heard[..]), (&b"welcome"[..], &b"first"[..]));
    }
}

/// The client's Finished and its first data come in one go, then cut into bytes.
fn connect_byte_by_byte(files: &Files, records: Records) -> Wire {
    let client = Session::client(&client_tls(&files.client()), "a.example", records, NOW_S);
    let mut wire = Wire::new(client, Session::server(&server_tls(&files.server()), records));
    for byte in wire.client.say(b"") {
        wire.server.hear(&[byte]);
    }
    for byte in wire.server.say(b"") {
        wire.client.hear(&[byte]);
    }
    let finished = wire.client.say(b"first");
    for byte in finished {
        wire.server.hear(&[byte]);
    }
    wire.settle();
    wire
}

#[test]
fn nothing_of_the_data_goes_out_before_the_handshake_is_over() {
    let files = Files::new();
    let mut out = vec![0; 100_000];
    for records in BOTH {
        let mut client = Session::client(&client_tls(&files.client()), "a.example", records, NOW_S);
        assert!(client.is_handshaking() && !client.can_send());
        assert_eq!(client.transmit(b"too early", &mut out).taken, 0);
        let mut server = Session::server(&server_tls(&files.server()), records);
        assert_eq!(server.transmit(b"too early", &mut out), Sealed::default());
    }
}

#[test]
fn an_end_in_the_wrong_place_is_told_apart() {
    let files = Files::new();
    for records in BOTH {
        let mut session = Session::server(&server_tls(&files.server()), records);
        assert_eq!(session.end_of_stream(), Err(Reason::HandshakeUnfinished.into()));
        let mut wire = established([records, records]);
        assert_eq!(wire.server.session.end_of_stream(), Err(Reason::Truncated.into()));
    }
}

fn keys_change_under_way_against_the_reference() {
    let mut wire = established([Records::Own, Records::Rustls]);
    wire.client.session.rekey_after(3);
    let mut sent = Vec::new();
    for number in 0..40_u8 {
        let data = vec![number; 500];
        let records = wire.client.say(&data);
        wire.server.hear(&records);
        sent.extend(data);
        // The reference asks for nothing back, and takes what our layer makes of its own update.
        let answer = wire.server.say(&[number]);
        wire.client.hear(&answer);
    }
    assert_eq!(wire.server.heard, sent);
    assert_eq!(wire.client.heard, (0..40).collect::<Vec<u8>>());
}

#[test]
fn the_protocols_name_is_what_the_document_says() {
    assert_eq!(ALPN, b"uringest/1");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// The same writes through our layer and through rustls, from either, in any pieces: the same stream.
    fn random_streams_differ_in_nothing(
        writes in proptest::collection::vec((any::<bool>(), 0_usize..30_000), 1..12),
        pieces in proptest::collection::vec(1_usize..9_000, 1..6),
        rekey in 2_u64..40,
    ) {
        for records in [[Records::Own, Records::Own], [Records::Own, Records::Rustls], [Records::Rustls, Records::Own]] {
            let mut wire = established(records);
            wire.client.session.rekey_after(rekey);
            wire.server.session.rekey_after(rekey);
            let (mut up, mut down) = (Vec::new(), Vec::new());
            let mut pieces = pieces.iter().copied().cycle();
            for (number, &(is_up, bytes)) in writes.iter().enumerate() {
                let data: Vec<u8> = (0..bytes).map(|at| u8::try_from((at + number) % 253).unwrap_or(0)).collect();
                let (from, to, all) = if is_up {
                    (&mut wire.client, &mut wire.server, &mut up)
                } else {
                    (&mut wire.server, &mut wire.client, &mut down)
                };
                let sent = from.say(&data);
                let mut rest = &sent[..];
                while !rest.is_empty() {
                    let (piece, later) = rest.split_at(pieces.next().unwrap_or(1).min(rest.len()));
                    to.hear(piece);
                    rest = later;
                }
                all.extend(data);
            }
            prop_assert!(wire.server.heard == up, "{:?} up", records);
            prop_assert!(wire.client.heard == down, "{:?} down", records);
        }
    }

    /// Whatever room each transmit has, and whether or not the content lies in its place: nothing is lost between
    /// what was taken and what was written, and what waits is said to wait.
    fn nothing_taken_is_lost_whatever_the_room(
        rooms in proptest::collection::vec((0_usize..400, any::<bool>()), 1..60),
        rekey in 2_u64..40,
    ) {
        for records in BOTH {
            let mut wire = established([Records::Own, records]);
            wire.server.session.rekey_after(rekey);
            let (mut sent, mut next) = (Vec::new(), 0_u8);
            for &(room, placed) in &rooms {
                let server = &mut wire.server.session;
                let mut out = vec![0; room];
                let content: Vec<u8> = std::iter::repeat_with(|| { next = next.wrapping_add(1); next }).take(300).collect();
                let written = if placed && room > OVERHEAD_BYTES && !server.has_output() {
                    let bytes = room - OVERHEAD_BYTES;
                    out[HEADER_BYTES..HEADER_BYTES + bytes].copy_from_slice(&content.repeat(2)[..bytes]);
                    sent.extend_from_slice(&content.repeat(2)[..bytes]);
                    server.seal_placed(bytes, &mut out)
                } else {
                    let sealed = server.transmit(&content, &mut out);
                    sent.extend_from_slice(&content[..sealed.taken]);
                    sealed.written
                };
                wire.client.hear(&out[..written]);
            }
            while wire.server.session.has_output() {
                let rest = wire.server.say(b"");
                prop_assert!(!rest.is_empty());
                wire.client.hear(&rest);
            }
            prop_assert!(wire.client.heard == sent, "{:?}", records);
        }
    }
}
