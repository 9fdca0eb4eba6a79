//! What a peer may not do, each with its reason; and that it is told, once.

use super::exchange::padded;
use super::*;

use crate::tls::record::{
    CONTENT_BYTES_MAX, DATA_BYTES_BETWEEN_KEY_UPDATES, HEADER_BYTES, RECORD_BYTES_MAX, TAG_BYTES,
};
use crate::tls::{Alert, Failure};

over_each_implementation! {
    every_bit_of_a_record_is_protected,
    nothing_of_a_record_with_a_wrong_tag_is_left_in_the_output,
    replayed_reordered_and_lost_records_have_wrong_tags,
    lengths_that_no_record_has,
    inner_types,
    plaintext_records_have_no_place_any_more,
    empty_data_is_put_up_with_for_a_while,
    messages_that_have_no_place,
    a_ticket_of_any_announced_length_is_bounded,
    key_updates_without_data_are_put_up_with_for_a_while,
    alerts_of_the_peer,
    record_numbers_never_come_twice,
}

const SUITE: Suite = Suite::Aes128Gcm;

/// What a layer tells its peer after it failed: one alert, and nothing more.
fn told(layer: &mut RecordLayer) -> Option<Alert> {
    let mut out = [0; 200];
    let sealed = layer.transmit(b"data that may not go out", &mut out);
    assert_eq!(sealed.taken, 0);
    assert_eq!(layer.transmit(b"", &mut [0; 200]).written, 0, "once");
    if sealed.written == 0 {
        return None;
    }
    match hear(&mut client(SUITE), &out[..sealed.written]).1.then {
        Then::Failed(Failure { reason: Reason::PeerAlert, received: Some(alert), .. }) => Some(alert),
        other => panic!("{other:?}"),
    }
}

/// Good data, then a bad record: the data is delivered, the record's failure follows, and nothing after it counts.
#[track_caller]
fn refused(bad: impl FnOnce(&mut Keys) -> Vec<u8>, reason: Reason) {
    let (mut layer, mut keys) = (server(SUITE), keys_of_client(SUITE));
    let mut wire = record(&mut keys, Content::Data, b"good");
    wire.extend(bad(&mut keys));
    wire.extend(record(&mut keys, Content::Data, b"after"));
    let (plaintext, received) = hear(&mut layer, &wire);
    assert_eq!((&plaintext[..], received.consumed), (&b"good"[..], wire.len()));
    assert_eq!(received.then, Then::Failed(reason.into()));
    let again = record(&mut keys, Content::Data, b"again");
    assert_fails(&mut layer, &again, reason);
    assert_eq!(layer.end_of_stream(), Err(reason.into()));
    assert_eq!(told(&mut layer), reason.alert(), "{reason:?}");
}

fn every_bit_of_a_record_is_protected() {
    let good = record(&mut keys_of_client(SUITE), Content::Data, b"some content");
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let mut layer = server(SUITE);
        let (plaintext, received) = hear(&mut layer, &bad);
        assert_eq!(plaintext, b"", "bit {bit}");
        match received.then {
            Then::Failed(failure) => {
                let expected = match bit / 8 {
                    0 => Reason::UnexpectedRecord,
                    3 if failure.reason == Reason::RecordOverflow => Reason::RecordOverflow,
                    _ => Reason::BadRecordMac,
                };
                assert_eq!(failure.reason, expected, "bit {bit}");
            }
            // A longer length: the rest never comes.
            Then::Wants(bytes) => assert!((bit / 8 == 3 || bit / 8 == 4) && bytes > good.len()),
            other => panic!("bit {bit}: {other:?}"),
        }
    }
}

fn nothing_of_a_record_with_a_wrong_tag_is_left_in_the_output() {
    let mut bad = record(&mut keys_of_client(SUITE), Content::Data, &[0x5a; 5000]);
    *bad.last_mut().expect("a tag") ^= 1;
    let mut out = vec![0xee; 6000];
    assert_eq!(server(SUITE).receive(&bad, &mut out).produced, 0);
    assert!(out[..5001].iter().all(|&byte| byte == 0) && out[5001..].iter().all(|&byte| byte == 0xee));
}

fn replayed_reordered_and_lost_records_have_wrong_tags() {
    let mut keys = keys_of_client(SUITE);
    let records: Vec<Vec<u8>> =
        (0..3_u8).map(|number| record(&mut keys, Content::Data, &[number; 20])).collect();
    for order in [&[0, 0][..], &[1], &[0, 2], &[0, 1, 0], &[0, 1, 1]] {
        let mut layer = server(SUITE);
        let (bad, good) = order.split_last().expect("not empty");
        for &number in good {
            assert_eq!(hear(&mut layer, &records[number]).1.then, Then::Wants(HEADER_BYTES));
        }
        assert_fails(&mut layer, &records[*bad], Reason::BadRecordMac);
        assert_eq!(told(&mut layer), Some(Alert::BAD_RECORD_MAC));
    }
}

fn lengths_that_no_record_has() {
    let with_length = |length: usize| {
        let [high, low] = u16::try_from(length).expect("short").to_be_bytes();
        [vec![23, 3, 3, high, low], vec![0; length]].concat()
    };
    // The header is enough to refuse it.
    refused(|_| with_length(RECORD_BYTES_MAX - HEADER_BYTES + 1)[..5].to_vec(), Reason::RecordOverflow);
    refused(|_| with_length(RECORD_BYTES_MAX - HEADER_BYTES), Reason::RecordOverflow);
    refused(|_| with_length(CONTENT_BYTES_MAX + 1 + TAG_BYTES), Reason::BadRecordMac);
    refused(|_| with_length(0), Reason::BadRecordMac);
    refused(|_| with_length(TAG_BYTES - 1), Reason::BadRecordMac);
    refused(|_| with_length(TAG_BYTES), Reason::BadRecordMac);
    // One byte too many inside, under a good tag.
    refused(
        |keys| padded(keys, &[vec![0; CONTENT_BYTES_MAX + 1], vec![23]].concat()),
        Reason::RecordOverflow,
    );
}

fn inner_types() {
    refused(|keys| padded(keys, b""), Reason::EmptyRecord);
    refused(|keys| padded(keys, &[0; 50]), Reason::EmptyRecord);
    refused(|keys| padded(keys, &[22]), Reason::EmptyRecord);
    refused(|keys| padded(keys, &[21]), Reason::EmptyRecord);
    refused(|keys| padded(keys, &[1, 20]), Reason::UnexpectedRecord);
    refused(|keys| padded(keys, b"x\x18"), Reason::UnexpectedRecord);
}

fn plaintext_records_have_no_place_any_more() {
    refused(|_| vec![20, 3, 3, 0, 1, 1], Reason::UnexpectedRecord);
    refused(|_| vec![21, 3, 3, 0, 2, 1, 0], Reason::UnexpectedRecord);
    refused(|_| vec![22, 3, 3, 0, 5, 24, 0, 0, 1, 0], Reason::UnexpectedRecord);
    // Which the header tells, whatever length it claims.
    refused(|_| b"GET / HTTP/1.1\r\n".to_vec(), Reason::UnexpectedRecord);
    refused(|_| vec![22, 3, 3, 0x40, 0], Reason::UnexpectedRecord);
}

fn empty_data_is_put_up_with_for_a_while() {
    let (mut layer, mut keys) = (server(SUITE), keys_of_client(SUITE));
    for round in 0..3 {
        for _ in 0..32 {
            let wire = record(&mut keys, Content::Data, b"");
            assert_eq!(hear(&mut layer, &wire).1.then, Then::Wants(HEADER_BYTES), "{round}");
        }
        let wire = record(&mut keys, Content::Data, b"x");
        assert_eq!(hear(&mut layer, &wire).0, b"x");
    }
    let wire: Vec<u8> = (0..33).flat_map(|_| record(&mut keys, Content::Data, b"")).collect();
    assert_fails(&mut layer, &wire, Reason::TooManyEmptyRecords);
}

fn handshake(bytes: &'static [u8]) -> impl FnOnce(&mut Keys) -> Vec<u8> {
    |keys| record(keys, Content::Handshake, bytes)
}

fn messages_that_have_no_place() {
    refused(handshake(&[1, 0, 0, 1, 0]), Reason::Renegotiation);
    refused(handshake(&[1]), Reason::Renegotiation);
    refused(handshake(&[0, 0, 0, 0]), Reason::Renegotiation);
    refused(handshake(&[4, 0, 0, 1, 0]), Reason::UnexpectedMessage); // tickets go to clients
    refused(handshake(&[20, 0, 0, 0]), Reason::UnexpectedMessage);
    refused(handshake(&[99]), Reason::UnexpectedMessage);
    refused(handshake(&[24, 0, 0, 1, 2]), Reason::IllegalParameter);
    refused(handshake(&[24, 0, 0, 2]), Reason::MalformedMessage);
    refused(handshake(&[24, 0, 0, 0]), Reason::MalformedMessage);
    refused(handshake(&[24, 255, 255, 255]), Reason::MalformedMessage);
    refused(handshake(&[24, 0, 0, 1, 0, 24]), Reason::UnalignedKeyUpdate);
    refused(handshake(&[24, 0, 0, 1, 0, 24, 0, 0, 1, 0]), Reason::UnalignedKeyUpdate);
    refused(
        |keys| [handshake(&[24, 0])(keys), record(keys, Content::Data, b"x")].concat(),
        Reason::InterleavedHandshake,
    );
    refused(
        |keys| [handshake(&[24])(keys), record(keys, Content::Alert, &[1, 0])].concat(),
        Reason::InterleavedHandshake,
    );
}

fn a_ticket_of_any_announced_length_is_bounded() {
    let (mut layer, mut keys) = (client(SUITE), keys_of_server(SUITE));
    let wire = record(&mut keys, Content::Handshake, &[4, 1, 0, 1]);
    assert_fails(&mut layer, &wire, Reason::MalformedMessage);
}

fn key_updates_without_data_are_put_up_with_for_a_while() {
    for (between, refused_at) in [(None, Some(32)), (Some(31), None)] {
        let mut layer = server(SUITE);
        let mut secrets = Secrets::new(SUITE, SERVER, CLIENT);
        let mut keys = keys_of_client(SUITE);
        let mut refused = None;
        for number in 0..60 {
            let wire = record(&mut keys, Content::Handshake, &[24, 0, 0, 1, 0]);
            if let Then::Failed(failure) = hear(&mut layer, &wire).1.then {
                assert_eq!(failure.reason, Reason::TooManyKeyUpdates);
                refused = Some(number);
                break;
            }
            keys = secrets.next_sending();
            if Some(number) == between {
                for _ in 0..DATA_BYTES_BETWEEN_KEY_UPDATES / 16_384 {
                    let wire = record(&mut keys, Content::Data, &[b'x'; 16_384]);
                    assert_eq!(hear(&mut layer, &wire).0.len(), 16_384);
                }
            }
        }
        assert_eq!(refused, refused_at);
    }
}

fn alert(bytes: &'static [u8]) -> impl FnOnce(&mut Keys) -> Vec<u8> {
    |keys| record(keys, Content::Alert, bytes)
}

fn alerts_of_the_peer() {
    refused(alert(&[2]), Reason::MalformedMessage);
    refused(alert(&[2, 20, 2, 20]), Reason::MalformedMessage);
    refused(alert(&[1, 0, 0]), Reason::MalformedMessage);
    for (level, number) in [(2, 20), (2, 80), (1, 40), (2, 200)] {
        let mut layer = server(SUITE);
        let wire = record(&mut keys_of_client(SUITE), Content::Alert, &[level, number]);
        let (_, received) = hear(&mut layer, &wire);
        assert_eq!(received.then, Then::Failed(Failure::by_peer(Alert(number))));
        assert_eq!(told(&mut layer), None, "an alert is not answered");
    }
    let (mut layer, mut keys) = (server(SUITE), keys_of_client(SUITE));
    for _ in 0..4 {
        let wire = record(&mut keys, Content::Alert, &[1, 90]);
        assert_eq!(hear(&mut layer, &wire).1.then, Then::Wants(HEADER_BYTES));
    }
    let wire = record(&mut keys, Content::Alert, &[1, 90]);
    assert_fails(&mut layer, &wire, Reason::TooManyWarnings);
}

fn record_numbers_never_come_twice() {
    let last = |keys: &[u8]| {
        let key = super::schedule::expand_label(SUITE, keys, "key", 16);
        Keys::new(SUITE, &key, [0; 12], u64::MAX).expect("16 bytes")
    };
    let secrets = Secrets::new(SUITE, CLIENT, SERVER);
    let (receiving, sending) = (last(&secrets.receiving), last(&secrets.sending));
    let mut layer = RecordLayer::new(Side::Server, receiving, sending, NextKeys::Secrets(secrets));
    layer.rekey_after(u64::MAX - 1);
    let sealed = layer.transmit(b"data", &mut [0; 100]);
    assert_eq!((sealed.taken, sealed.written, layer.can_send()), (0, 0, false));
    assert_fails(&mut layer, &[0; 30], Reason::Internal);
}

#[test]
fn reasons_are_named_once_and_in_order() {
    let mut names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    for (index, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(reason.index(), index);
        let alert = reason.alert();
        assert!(alert.is_none_or(|alert| alert.name() != "unknown" && alert.level() == 2), "{reason:?}");
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Reason::ALL.len());
}
