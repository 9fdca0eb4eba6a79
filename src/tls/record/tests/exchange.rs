//! What two layers have to say to each other arrives, however it is cut.

use proptest::prelude::*;

use super::*;
use crate::tls::record::{
    CONTENT_BYTES_MAX, DATA_BYTES_BETWEEN_KEY_UPDATES, KEY_UPDATE_RECORD_BYTES, KEY_UPDATES_MAX,
    RECORD_BYTES_MAX, TAG_BYTES,
};

over_each_implementation! {
    every_suite_carries_every_length_of_interest,
    a_stream_may_be_cut_anywhere,
    without_room_a_record_waits,
    padding_is_not_content,
    data_may_be_placed_before_it_is_sealed,
    keys_change_in_time_in_both_directions,
    a_key_update_is_answered_once_before_data_and_without_a_question,
    what_is_owed_waits_for_room,
    messages_may_be_cut_over_records_and_joined_in_one,
    each_direction_closes_by_itself,
    an_end_without_close_notify_is_a_truncation,
    a_stream_survives_any_cutting,
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| u8::try_from((at * 7 + at / 251) % 256).expect("a byte")).collect()
}

/// Feeds a stream as it comes in pieces: what is not consumed stays.
fn hear_in_pieces(layer: &mut RecordLayer, stream: &[u8], pieces: &[usize], room: usize) -> Vec<u8> {
    let (mut pending, mut rest, mut heard) = (Vec::new(), stream, Vec::new());
    let mut pieces = pieces.iter().copied().cycle();
    let mut out = vec![0; room];
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(pieces.next().expect("a cycle").clamp(1, rest.len()));
        pending.extend_from_slice(piece);
        rest = later;
        loop {
            let received = layer.receive(&pending, &mut out);
            heard.extend_from_slice(&out[..received.produced]);
            pending.drain(..received.consumed);
            match received.then {
                Then::Wants(bytes) => {
                    assert!(bytes > pending.len(), "what is wanted is not there yet");
                    break;
                }
                Then::Room(bytes) => assert!(bytes <= room && received.produced > 0),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(pending, b"");
    heard
}

fn every_suite_carries_every_length_of_interest() {
    for suite in SUITES {
        let (mut server, mut client) = (server(suite), client(suite));
        for bytes in [1, 15, 16, 17, 16_383, 16_384, 16_385, 100_000] {
            let data = pattern(bytes);
            let wire = say(&mut client, &data);
            assert_eq!(wire.len(), bytes + bytes.div_ceil(CONTENT_BYTES_MAX) * OVERHEAD_BYTES);
            assert_eq!(hear(&mut server, &wire).0, data, "{suite:?} {bytes}");
            let wire = say(&mut server, &data);
            assert_eq!(hear(&mut client, &wire).0, data, "{suite:?} {bytes}");
        }
    }
}

fn a_stream_may_be_cut_anywhere() {
    let data = pattern(40);
    for at in 1..200 {
        let (mut server, mut client) = (server(Suite::Aes128Gcm), client(Suite::Aes128Gcm));
        let wire = [say(&mut client, &data), say(&mut client, &data[..7]), say(&mut client, &data)].concat();
        let at = at.min(wire.len());
        let heard = hear_in_pieces(&mut server, &wire, &[at, wire.len()], PLAINTEXT_ROOM_BYTES);
        assert_eq!(heard, [&data[..], &data[..7], &data].concat(), "cut at {at}");
    }
}

fn without_room_a_record_waits() {
    let (mut server, mut client) = (server(Suite::Aes256Gcm), client(Suite::Aes256Gcm));
    let wire = [say(&mut client, b"abc"), say(&mut client, b"defgh")].concat();
    let mut out = [0; 8];
    let received = server.receive(&wire, &mut out);
    let expected = Received { consumed: 3 + OVERHEAD_BYTES, produced: 3, early: 0, then: Then::Room(6) };
    assert_eq!(received, expected);
    let received = server.receive(&wire[received.consumed..], &mut out);
    assert_eq!((&out[..received.produced], received.then), (&b"defgh"[..], Then::Wants(5)));
}

fn padding_is_not_content() {
    let (mut layer, mut keys) = (server(Suite::Aes128Gcm), keys_of_client(Suite::Aes128Gcm));
    // Content, type, zeros: sealed as the content of a record whose own type byte is one of the zeros.
    let inner = [b"payload\0\0".to_vec(), vec![Content::Data as u8], vec![0; 1000]].concat();
    let wire = padded(&mut keys, &inner);
    assert_eq!(hear(&mut layer, &wire).0, b"payload\0\0");
    let full = [vec![7; CONTENT_BYTES_MAX], vec![Content::Data as u8]].concat();
    assert_eq!(hear(&mut layer, &padded(&mut keys, &full)).0, vec![7; CONTENT_BYTES_MAX]);
}

fn data_may_be_placed_before_it_is_sealed() {
    let (mut server, mut client) = (server(Suite::Chacha20Poly1305), client(Suite::Chacha20Poly1305));
    let mut out = [0; 100];
    out[RecordLayer::PLACED_AT..][..5].copy_from_slice(b"hello");
    let written = client.seal_placed(5, &mut out);
    assert_eq!(written, 5 + OVERHEAD_BYTES);
    assert_eq!(hear(&mut server, &out[..written]).0, b"hello");
}

fn keys_change_in_time_in_both_directions() {
    for suite in SUITES {
        let (mut server, mut client) = (server(suite), client(suite));
        client.rekey_after(3);
        for number in 0..20_u8 {
            let wire = say(&mut client, &[number; 10]);
            let updates = usize::from(number % 3 == 2);
            assert_eq!(wire.len(), 10 + OVERHEAD_BYTES + updates * KEY_UPDATE_RECORD_BYTES, "{number}");
            assert_eq!(hear(&mut server, &wire).0, [number; 10]);
            assert!(server.sequences().0 < 3, "the update was the fourth record under its key");
            let wire = say(&mut server, &[number; 3]);
            assert_eq!(hear(&mut client, &wire).0, [number; 3], "no answer was asked for");
        }
    }
}

fn a_key_update_is_answered_once_before_data_and_without_a_question() {
    let mut layer = server(Suite::Aes128Gcm);
    let mut secrets = Secrets::new(Suite::Aes128Gcm, SERVER, CLIENT);
    let mut peer = keys_of_client(Suite::Aes128Gcm);
    for _ in 0..3 {
        let wire = record(&mut peer, Content::Handshake, &[24, 0, 0, 1, 1]);
        assert_eq!(hear(&mut layer, &wire).1.then, Then::Wants(5));
        peer = secrets.next_sending();
    }
    assert!(layer.owes());
    let wire = say(&mut layer, b"data");
    let mut client = layer_of(Side::Client, Secrets::new(Suite::Aes128Gcm, SERVER, CLIENT));
    let (update, data) = wire.split_at(KEY_UPDATE_RECORD_BYTES);
    assert_eq!(hear(&mut client, update).0, b"");
    assert!(!client.owes(), "an answer asks for none");
    assert_eq!(hear(&mut client, data).0, b"data");
    // Its own side has changed as well: the peer's fourth key is in use.
    let wire = record(&mut peer, Content::Data, b"back");
    assert_eq!(hear(&mut layer, &wire).0, b"back");
}

fn what_is_owed_waits_for_room() {
    let mut layer = server(Suite::Aes128Gcm);
    let wire = record(&mut keys_of_client(Suite::Aes128Gcm), Content::Handshake, &[24, 0, 0, 1, 1]);
    hear(&mut layer, &wire);
    let mut out = [0; 200];
    let none = crate::tls::record::Sealed::default();
    assert_eq!(layer.transmit(b"data", &mut out[..KEY_UPDATE_RECORD_BYTES - 1]), none);
    let sealed = layer.transmit(b"data", &mut out[..KEY_UPDATE_RECORD_BYTES]);
    assert_eq!((sealed.taken, sealed.written), (0, KEY_UPDATE_RECORD_BYTES));
    assert_eq!(layer.transmit(b"data", &mut out).taken, 4);
}

fn messages_may_be_cut_over_records_and_joined_in_one() {
    let ticket = [vec![4, 0, 0, 6], b"ticket".to_vec()].concat();
    for at in 1..ticket.len() {
        let (mut layer, mut keys) = (client(Suite::Aes128Gcm), keys_of_server(Suite::Aes128Gcm));
        let joined = [&ticket[..], &ticket, &ticket[..at]].concat();
        let wire = [
            record(&mut keys, Content::Handshake, &joined),
            record(&mut keys, Content::Handshake, &ticket[at..]),
            record(&mut keys, Content::Data, b"x"),
        ]
        .concat();
        assert_eq!(hear(&mut layer, &wire).0, b"x");
        assert_eq!(layer.tickets(), [b"ticket", b"ticket", b"ticket"], "cut at {at}");
    }
    // Byte by byte, behind a KeyUpdate that is cut as well.
    let (mut layer, mut keys) = (server(Suite::Aes128Gcm), keys_of_client(Suite::Aes128Gcm));
    for byte in [24, 0, 0, 1, 0] {
        let wire = record(&mut keys, Content::Handshake, &[byte]);
        assert_eq!(hear(&mut layer, &wire).1.then, Then::Wants(5));
    }
    assert_eq!(layer.sequences().0, 0, "the new key's first record comes next");
}

fn each_direction_closes_by_itself() {
    let (mut server, mut client) = (server(Suite::Aes128Gcm), client(Suite::Aes128Gcm));
    client.close();
    let wire = say(&mut client, b"");
    assert_eq!(hear(&mut server, &wire).1.then, Then::Closed);
    assert_eq!(server.end_of_stream(), Ok(()));
    let mut out = [0; 100];
    assert_eq!(client.transmit(b"late", &mut out), crate::tls::record::Sealed::default());
    assert!(!client.can_send() && server.can_send());

    let wire = say(&mut server, b"still here");
    assert_eq!(hear(&mut client, &wire).0, b"still here");
    server.close();
    let wire = say(&mut server, b"");
    assert_eq!(hear(&mut client, &wire).1.then, Then::Closed);
    // What comes after close_notify is dropped, whatever it is.
    assert_eq!(
        hear(&mut client, b"garbage").1,
        Received { consumed: 7, produced: 0, early: 0, then: Then::Closed }
    );
}

fn an_end_without_close_notify_is_a_truncation() {
    let mut layer = server(Suite::Aes128Gcm);
    let wire = say(&mut client(Suite::Aes128Gcm), b"data");
    assert_eq!(hear(&mut layer, &wire[..10]).1.then, Then::Wants(4 + OVERHEAD_BYTES));
    assert_eq!(layer.end_of_stream(), Err(Reason::Truncated.into()));
    assert!(!layer.owes(), "there is nobody to tell");
}

/// A record whose inner plaintext is given whole.
pub fn padded(keys: &mut Keys, inner: &[u8]) -> Vec<u8> {
    let bytes = inner.len() + 16;
    let [high, low] = u16::try_from(bytes).expect("short").to_be_bytes();
    let header = [23, 3, 3, high, low];
    let mut out = [inner, &[0; TAG_BYTES]].concat();
    keys.aead().seal_in_place(keys.nonce(), header, &mut out).expect("a fresh key");
    keys.advance();
    [&header[..], &out].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Any writes, any cuts, any room, rekeying all the time: the same bytes.
    fn a_stream_survives_any_cutting(
        writes in proptest::collection::vec(0_usize..40_000, 1..6),
        pieces in proptest::collection::vec(1_usize..20_000, 1..8),
        room in PLAINTEXT_ROOM_BYTES..3 * PLAINTEXT_ROOM_BYTES,
        send_room in OVERHEAD_BYTES + 1..RECORD_BYTES_MAX * 2,
        rekey in 1_u64..20,
        suite in 0..3_usize,
    ) {
        let (mut server, mut client) = (server(SUITES[suite]), client(SUITES[suite]));
        // Not more often than is put up with.
        let content = (send_room - OVERHEAD_BYTES) as u64;
        client.rekey_after(rekey.max(DATA_BYTES_BETWEEN_KEY_UPDATES as u64 / u64::from(KEY_UPDATES_MAX) / content + 1));
        let data = pattern(writes.iter().sum());
        let (mut wire, mut at) = (Vec::new(), 0);
        let mut out = vec![0; send_room.max(KEY_UPDATE_RECORD_BYTES)];
        for write in writes {
            let end = at + write;
            while at < end {
                let sealed = client.transmit(&data[at..end], &mut out);
                prop_assert!(sealed.written > 0);
                at += sealed.taken;
                wire.extend_from_slice(&out[..sealed.written]);
            }
        }
        prop_assert_eq!(hear_in_pieces(&mut server, &wire, &pieces, room), data);
    }
}
