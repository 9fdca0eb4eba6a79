//! Connections that speak TLS, in the scripted world: every cut of the input, where the bytes lie, what a peer may do
//! wrong, and what becomes of sends that no socket takes.

use super::clients::{code_of, header_only};
use super::rig::*;
use crate::buf::CopyReason;
use crate::ids::SockId;
use crate::metrics::Counter;
use crate::proto::code::Code;
use crate::proto::control::{Hello, Open};
use crate::proto::header::{FrameHeader, Kind};
use crate::shard::messages::Command;
use crate::tls::{Alert, Reason, Reloader, ServerSettings, Then, early, fixture};
use crate::topic::{Overflow, TopicKind};

fn hello() -> Hello {
    Hello { client: "test".into(), version_min: 1, version_max: 1, ..Hello::default() }
}

fn open(producer_id: u64) -> Open {
    Open { topic: "t".into(), producer_id, ack_every_batches: 1, ..Open::default() }
}

fn read(rig: &Rig, counter: Counter) -> u64 {
    rig.shards.iter().map(|shard| shard.counters.read(counter)).sum()
}

fn failed(rig: &Rig, reason: Reason) -> u64 {
    rig.shards.iter().map(|shard| shard.counters.read_tls_failed(reason)).sum()
}

fn copied(rig: &Rig, reason: CopyReason) -> u64 {
    rig.shards.iter().map(|shard| shard.buffers.memory.copies().of(reason).bytes).sum()
}

fn peer(rig: &mut Rig, sock: SockId) -> &mut Peer {
    rig.tls.as_mut().expect("clients that speak TLS").peers.get_mut(&sock).expect("a client")
}

/// The frames of these kinds that the server has said since the last look.
fn kinds(rig: &mut Rig, sock: SockId) -> Vec<Kind> {
    rig.heard(sock).iter().map(|(header, _)| header.kind).collect()
}

#[test]
fn batches_get_through_however_the_bytes_are_cut() {
    for (receive_max, record_bytes) in
        [(1, 16_384), (3, 1), (7, 200), (64, 16_384), (1_000, 999), (usize::MAX, 50)]
    {
        let mut rig = Rig::secured();
        rig.tls.as_mut().expect("TLS").record_bytes = record_bytes;
        rig.topic("t", TopicKind::Memory, Overflow::DropOldest, 1 << 20);
        let sock = rig.begin(0);
        rig.shards[0].io.peer(sock).receive_max = receive_max;
        for _ in 0..10 {
            rig.run();
            let _nothing_yet = rig.heard(sock);
        }
        rig.send(sock, &hello().frame(0));
        rig.run();
        assert_eq!(kinds(&mut rig, sock), [Kind::Welcome], "{receive_max} {record_bytes}");
        let (channel, _) = rig.open(sock, "t", 5);
        for sequence in 1..=3 {
            rig.send(sock, &batch_of(channel, 5, sequence, 700));
        }
        rig.run();
        let heard = rig.heard(sock);
        let acked = heard.iter().filter(|(header, _)| header.kind == Kind::Ack);
        assert_eq!(acked.map(|(header, _)| header.sequence).max(), Some(3), "{receive_max} {record_bytes}");
        assert_eq!((read(&rig, Counter::TlsHandshakes), read(&rig, Counter::BatchesAccepted)), (1, 3));
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

/// Frames of 64 KiB in records of any size: opened where they stay, in the ring and in a region of their own.
#[test]
fn frames_over_many_records_are_in_one_piece_without_a_copy() {
    for record_bytes in [1_000, 4_095, 16_384] {
        let mut rig = Rig::secured();
        rig.tls.as_mut().expect("TLS").record_bytes = record_bytes;
        rig.topic("t", TopicKind::Live, Overflow::Block, 1 << 20);
        let consumer = rig.client();
        rig.subscribe(consumer, all_of("t"));
        let producer = rig.client();
        let (channel, _) = rig.open(producer, "t", 5);
        let mut delivered = Vec::new();
        let mut sent = Vec::new();
        for sequence in 1..=60 {
            let payload: Vec<u8> =
                (0..62_000u32).map(|i| u8::try_from((i + sequence * 7) % 251).expect("small")).collect();
            let frame = batch(channel, 5, sequence.into(), &payload.chunks(31_000).collect::<Vec<_>>());
            rig.send(producer, &frame);
            rig.run();
            sent.push(payload);
            delivered.extend(rig.heard(consumer));
        }
        assert_eq!(delivered.len(), 60);
        for (payload, (_, frame)) in sent.iter().zip(&delivered) {
            let found = frame.windows(1_000).any(|window| window == &payload[..1_000]);
            assert!(found, "the payload is what was sent");
        }
        assert_eq!(read(&rig, Counter::Promotions), 1, "it is a bulk connection after some of them");
        for reason in [CopyReason::Straddle, CopyReason::Retain, CopyReason::Lagging] {
            assert_eq!(copied(&rig, reason), 0, "{} {record_bytes}", reason.name());
        }
        rig.disconnect_all();
        rig.assert_nothing_leaked();
    }
}

#[test]
fn a_few_handshakes_go_on_in_a_tick() {
    let mut rig = Rig::secured();
    let steady = rig.client();
    let many: Vec<_> = (0..10).map(|_| rig.begin(0)).collect();
    rig.tick();
    for waiting in (0..10).rev() {
        rig.send(steady, &header_only(Kind::Ping, 0));
        rig.tick();
        rig.tick();
        assert_eq!(
            kinds(&mut rig, steady),
            [Kind::Pong],
            "established traffic goes on with {waiting} waiting"
        );
        if rig.shards[0].handshakes.is_empty() {
            break;
        }
    }
    rig.run();
    for &sock in &many {
        let _flight = rig.heard(sock);
        assert!(peer(&mut rig, sock).session.can_send());
    }
    rig.run();
    assert_eq!(read(&rig, Counter::TlsHandshakes), 11);
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn a_refusal_is_told_when_the_handshake_is_over() {
    let mut rig = Rig::secured();
    let kept: Vec<_> = (0..32).map(|_| rig.client()).collect();
    let refused = rig.connect(0);
    let heard = rig.heard(refused);
    assert_eq!(heard.iter().map(|(_, frame)| code_of(frame)).collect::<Vec<_>>(), [Code::TooManyConnections]);
    assert_eq!(peer(&mut rig, refused).then, Then::Closed, "and close_notify behind it");
    assert!(rig.answers(kept[0]));
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn a_changed_record_ends_its_connection_with_an_alert() {
    let mut rig = Rig::secured();
    let (other, bad) = (rig.client(), rig.client());
    rig.send(bad, &header_only(Kind::Ping, 0));
    if let Some(last) = rig.shards[0].io.peer(bad).inbound.back_mut() {
        *last ^= 1;
    }
    rig.run();
    let _nothing = rig.heard(bad);
    let Then::Failed(failure) = &peer(&mut rig, bad).then else { panic!("it is told") };
    assert_eq!(failure.received, Some(Alert::BAD_RECORD_MAC));
    assert_eq!(failed(&rig, Reason::BadRecordMac), 1);
    assert!(rig.answers(other), "nobody else is touched");
    rig.pass(2_000);
    assert!(rig.closed(bad));
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn plain_text_on_a_port_of_tls_is_told_so() {
    let mut rig = Rig::secured();
    let sock = rig.shards[0].io.connect();
    rig.shards[0].io.peer(sock).inbound.extend(header_only(Kind::Ping, 0));
    rig.run();
    assert_eq!(rig.shards[0].io.peer(sock).outbound, [21, 3, 3, 0, 2, 2, 10], "an alert: unexpected_message");
    assert_eq!(failed(&rig, Reason::NotTls), 1);
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn an_end_that_was_announced_is_one_and_another_is_counted() {
    let mut rig = Rig::secured();
    let (polite, rude) = (rig.client(), rig.client());
    peer(&mut rig, polite).session.close();
    rig.send(polite, &[]);
    rig.shards[0].io.peer(polite).ended = true;
    rig.run();
    let _nothing = rig.heard(polite);
    assert_eq!(peer(&mut rig, polite).then, Then::Closed, "close_notify is answered");
    assert_eq!(failed(&rig, Reason::Truncated), 0);
    rig.shards[0].io.peer(rude).ended = true;
    rig.run();
    assert_eq!(failed(&rig, Reason::Truncated), 1);
    rig.pass(2_000);
    assert!(rig.closed(polite) && rig.closed(rude));
    rig.assert_nothing_leaked();
}

#[test]
fn keys_change_under_way_in_both_directions() {
    let mut rig = Rig::secured();
    rig.topic("t", TopicKind::Memory, Overflow::DropOldest, 1 << 20);
    let sock = rig.client();
    peer(&mut rig, sock).session.rekey_after(2);
    let (channel, _) = rig.open(sock, "t", 5);
    for shard in &mut rig.shards {
        for id in shard.conns.ids() {
            shard.conns[id].secured.as_mut().expect("TLS").session.rekey_after(2);
        }
    }
    for sequence in 1..=20 {
        rig.send(sock, &batch_of(channel, 5, sequence, 100));
        rig.run();
        assert_eq!(kinds(&mut rig, sock).first(), Some(&Kind::Ack), "{sequence}");
    }
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

/// Sealed bytes can only be sent: who takes nothing keeps a block, and who keeps the last ones from others is closed.
#[test]
fn consumers_that_take_nothing_do_not_keep_the_send_memory() {
    let mut rig = Rig::secured();
    rig.topic("t", TopicKind::Memory, Overflow::DropOldest, 1 << 20);
    let slow: Vec<_> = (0..20).map(|_| rig.client()).collect();
    for &sock in &slow {
        rig.subscribe(sock, all_of("t"));
        rig.set_room(sock, 10);
    }
    let producer = rig.client();
    let (channel, _) = rig.open(producer, "t", 5);
    for sequence in 1..=20 {
        rig.send(producer, &batch_of(channel, 5, sequence, 30_000));
        rig.run();
    }
    assert!(read(&rig, Counter::SendWaits) > 0, "there were not enough blocks for all");
    rig.pass(4_000);
    let fast = rig.client();
    rig.subscribe(fast, all_of("t"));
    rig.send(producer, &batch_of(channel, 5, 21, 30_000));
    rig.pass(10);
    let kept = slow.iter().filter(|&&sock| !rig.closed(sock)).count();
    assert!(kept < slow.len(), "who took nothing was closed");
    let delivered = rig.heard(fast);
    assert!(delivered.iter().any(|(header, _)| header.kind == Kind::Deliver));
    assert!(rig.shards[0].counters.read_refused(Code::PeerNotReading) > 0);
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn a_connection_moves_with_its_keys() {
    let files = fixture::Files::new();
    let mut rig = Rig::secured_with(2, 256, &files.server(), fixture::client_tls(&files.client()));
    rig.topic_on("t", TopicKind::Memory, Overflow::DropOldest, 1 << 20, &[(1, 0)]);
    for (producer, receive_max) in [(1, usize::MAX), (2, 50), (3, 1)] {
        let sock = rig.client_of(0);
        rig.shards[0].io.peer(sock).receive_max = receive_max;
        let moves = read(&rig, Counter::MovesIn);
        // More than the request arrives before it has moved.
        rig.send(sock, &open(producer).frame(1));
        rig.send(sock, &header_only(Kind::Ping, 0));
        rig.send(sock, &header_only(Kind::Ping, 0));
        rig.run();
        assert_eq!(kinds(&mut rig, sock), [Kind::Opened, Kind::Pong, Kind::Pong], "{receive_max}");
        assert_eq!(read(&rig, Counter::MovesIn), moves + 1);
        assert!(rig.answers(sock));
    }
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn new_certificates_are_for_new_connections() {
    let files = fixture::Files::new();
    let mut reloader = Reloader::new(files.server()).expect("good files");
    let mut rig = Rig::secured_with(1, 256, &files.server(), fixture::client_tls(&files.client()));
    let before = rig.client();
    files.pair("server", fixture::SERVER);
    let renewed = reloader.replace(files.server()).expect("good files");
    rig.command(Command::Tls(renewed));
    let after = rig.client();
    assert!(rig.answers(before) && rig.answers(after));
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

/// What comes before the end of a handshake may be a recording: only that acts which may be repeated.
#[test]
fn early_batches_are_stored_once_and_all_else_waits() {
    let files = fixture::Files::new();
    let settings: ServerSettings = early::allowed(&files);
    let client = fixture::client_tls(&files.client());
    let mut rig = Rig::secured_with(1, 256, &settings, client.clone());
    rig.topic("t", TopicKind::Memory, Overflow::DropOldest, 1 << 20);
    let first = rig.client();
    let (channel, _) = rig.open(first, "t", 5);
    rig.send(first, &batch_of(channel, 5, 1, 100));
    rig.run();
    let _acked = rig.heard(first);
    // A producer that is open elsewhere would be closed there by an early open.
    rig.send(first, &header_only(Kind::Release, channel));
    rig.run();
    // The handle that was given back is the next one.
    let next = channel;
    let known =
        [hello().frame(0), open(5).frame(1), batch_of(next, 5, 2, 100), header_only(Kind::Ping, 0)].concat();
    let (mut conn, flight) = early::early_client(&client, &known);
    let sock = rig.shards[0].io.connect();
    rig.shards[0].io.peer(sock).inbound.extend(&flight);
    rig.run();
    assert!(read(&rig, Counter::TlsEarlyBytes) > 0, "it was heard early");
    assert_eq!(read(&rig, Counter::BatchesAccepted), 2, "a producer that is remembered is heard");
    let said = std::mem::take(&mut rig.shards[0].io.peer(sock).outbound);
    early::told(&mut conn, &said).expect("a good answer");
    let finished = early::said_by(&mut conn);
    rig.shards[0].io.peer(sock).inbound.extend(&finished);
    rig.run();
    let said = std::mem::take(&mut rig.shards[0].io.peer(sock).outbound);
    early::told(&mut conn, &said).expect("a good answer");
    let mut plain = Vec::new();
    let _would_block = std::io::Read::read_to_end(&mut conn.reader(), &mut plain);
    let heard: Vec<Kind> = frames(&mut plain).iter().map(|(header, _)| header.kind).collect();
    assert_eq!(
        heard,
        [Kind::Welcome, Kind::Opened, Kind::Ack, Kind::Pong],
        "the rest is answered in its order"
    );

    // The same bytes again store nothing, and neither does a producer that may have been forgotten.
    let again = rig.shards[0].io.connect();
    rig.shards[0].io.peer(again).inbound.extend(&flight);
    rig.run();
    let stranger = [hello().frame(0), open(77).frame(1), batch_of(next + 1, 77, 1, 100)].concat();
    let (_, flight) = early::early_client(&client, &stranger);
    let other = rig.shards[0].io.connect();
    rig.shards[0].io.peer(other).inbound.extend(&flight);
    rig.run();
    assert_eq!(read(&rig, Counter::BatchesAccepted), 2);
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}

#[test]
fn a_frame_that_is_never_finished_runs_out_of_time_in_records_too() {
    let mut rig = Rig::secured();
    let sock = rig.client();
    rig.send(sock, &FrameHeader::new(Kind::Ping).alone());
    let held_back = rig.shards[0].io.peer(sock).inbound.pop_back();
    assert!(held_back.is_some());
    rig.run();
    rig.pass(11_000);
    assert_eq!(rig.shards[0].counters.read_refused(Code::FrameTimeout), 1);
    rig.disconnect_all();
    rig.assert_nothing_leaked();
}
