use proptest::prelude::*;

use super::*;
use crate::proto::header::body_checksum_matches;

/// The header and the body of one whole frame, checked as a receiver would.
fn split(frame: &[u8]) -> (FrameHeader, &[u8]) {
    let head = frame[..HEADER_BYTES].try_into().unwrap();
    let header = FrameHeader::parse(head, crate::limits::FRAME_BYTES_MAX_DEFAULT).unwrap();
    assert_eq!(header.frame_bytes(), frame.len());
    assert!(body_checksum_matches(frame));
    (header, &frame[HEADER_BYTES..])
}

#[test]
fn every_message_comes_back_as_it_was_sent() {
    let hello = Hello {
        client: "a client".into(),
        version_min: 1,
        version_max: 3,
        features: 7,
        token: "secret".into(),
    };
    let frame = hello.frame(0);
    let (header, body) = split(&frame);
    assert_eq!((header.kind, Hello::decode(body)), (Kind::Hello, Ok(hello)));

    let welcome = Welcome {
        server: "uringest/0.1".into(),
        version: 1,
        features: 2,
        session: 3,
        shard: 4,
        shards: 5,
        tenant: "t".into(),
        frame_bytes_max: 6,
        record_bytes_max: 7,
        batch_records_max: 8,
        inflight_batches_max: 9,
        channels_max: 10,
        subscriptions_max: 11,
        idle_timeout_ms: 12,
        shard_addresses: vec!["a:1".into(), "b:2".into()],
    };
    let frame = welcome.frame(5);
    let (header, body) = split(&frame);
    assert_eq!((header.kind, header.sequence, Welcome::decode(body)), (Kind::Welcome, 5, Ok(welcome)));

    let open = Open {
        topic: "a/b".into(),
        partition: 3,
        producer_id: 9,
        ack_level: Some(AckLevel::Durable),
        ack_every_batches: 4,
        ack_every_us: 500,
        connections: 3,
    };
    let frame = open.frame(77);
    let (header, body) = split(&frame);
    assert_eq!((header.kind, header.sequence, Open::decode(body)), (Kind::Open, 77, Ok(open.clone())));
    for ack_level in [None, Some(AckLevel::Received)] {
        let open = Open { ack_level, ..open.clone() };
        assert_eq!(
            Open::decode(split(&open.frame(1)).1),
            Ok(open),
            "received is not the same as nothing said"
        );
    }

    let opened = Opened {
        partition_id: 1,
        partition_count: 2,
        shard: 3,
        ack_level: AckLevel::Written,
        next_sequence: 5,
        credit: 6,
    };
    let frame = opened.frame(77, 12);
    let (header, body) = split(&frame);
    assert_eq!((header.kind, header.sequence, header.channel), (Kind::Opened, 77, 12));
    assert_eq!(Opened::decode(body), Ok(opened));

    for start in [Start::Earliest, Start::Latest, Start::Offset(9), Start::TimeNs(10)] {
        let name = "billing".to_owned();
        let subscribe =
            Subscribe { topic: "t".into(), partition: 1, start, name, resume: true, credit: 1 << 20 };
        let frame = subscribe.frame(2);
        let (header, body) = split(&frame);
        assert_eq!((header.kind, header.sequence), (Kind::Subscribe, 2));
        assert_eq!(Subscribe::decode(body), Ok(subscribe));
    }

    let subscribed =
        Subscribed { partition_count: 1, shard: 2, start_offset: 3, log_start_offset: 4, log_end_offset: 5 };
    let frame = subscribed.frame(2, 40);
    let (header, body) = split(&frame);
    assert_eq!((header.kind, header.sequence, header.channel), (Kind::Subscribed, 2, 40));
    assert_eq!(Subscribed::decode(body), Ok(subscribed));

    let commit = Commit { name: "billing".into(), offset: 99 };
    let frame = commit.frame(3, 40);
    let (header, body) = split(&frame);
    assert_eq!((header.kind, header.sequence, header.channel), (Kind::Commit, 3, 40));
    assert_eq!(Commit::decode(body), Ok(commit));

    for kind in [Kind::Nack, Kind::Error, Kind::Close] {
        for record in [None, Some(0), Some(5)] {
            let refusal =
                Refusal { code: Code::RecordTooLarge, retry_after_us: 10, record, detail: "x".into() };
            let frame = refusal.frame(kind, 4, 5);
            let (header, body) = split(&frame);
            assert_eq!((header.kind, header.channel, header.sequence), (kind, 4, 5));
            assert_eq!(Refusal::decode(body), Ok(refusal));
        }
    }
}

#[test]
fn frames_are_appended_one_behind_the_other() {
    let mut out = Vec::new();
    Commit { name: "a".into(), offset: 1 }.encode_into(1, 1, &mut out);
    let first = out.len();
    Commit { name: "b".into(), offset: 2 }.encode_into(2, 1, &mut out);
    assert_eq!(Commit::decode(split(&out[..first]).1).unwrap().name, "a");
    assert_eq!(Commit::decode(split(&out[first..]).1).unwrap().name, "b");
}

#[test]
fn names() {
    for good in ["a", "A.b_c/d-9", "x.", &"n".repeat(TOPIC_NAME_BYTES_MAX)] {
        assert_eq!(topic_name_ok(good), Ok(()), "{good}");
    }
    for bad in ["", ".a", "a b", "a\n", "ä", "a:b", "a\0", &"n".repeat(TOPIC_NAME_BYTES_MAX + 1)] {
        assert_eq!(topic_name_ok(bad), Err(Code::BadName), "{bad}");
    }
    assert_eq!(consumer_name_ok(&"n".repeat(CONSUMER_NAME_BYTES_MAX)), Ok(()));
    assert_eq!(consumer_name_ok(&"n".repeat(CONSUMER_NAME_BYTES_MAX + 1)), Err(Code::BadName));
}

#[test]
fn what_is_not_acceptable_has_its_code() {
    let open = Open { topic: "t".into(), producer_id: 1, ..Open::default() };
    let refused = |open: Open| Open::decode(split(&open.frame(1)).1).unwrap_err();
    assert_eq!(refused(Open { producer_id: 0, ..open.clone() }), Code::BadControlBody);
    assert_eq!(refused(Open { topic: String::new(), ..open.clone() }), Code::BadName);
    assert_eq!(refused(Open { topic: "x".repeat(5000), ..open.clone() }), Code::BadName);
    assert_eq!(Open::decode(split(&open.frame(1)).1).unwrap().ack_every_batches, 1);

    let subscribe = Subscribe { topic: "t".into(), ..Subscribe::default() };
    let refused = |subscribe: Subscribe| Subscribe::decode(split(&subscribe.frame(1)).1).unwrap_err();
    assert_eq!(refused(Subscribe { resume: true, ..subscribe.clone() }), Code::BadName);
    assert_eq!(refused(Subscribe { name: "a b".into(), ..subscribe.clone() }), Code::BadName);
    assert_eq!(refused(Subscribe { name: "x".repeat(5000), ..subscribe.clone() }), Code::BadName);

    let hello = Hello { version_min: 1, version_max: 1, ..Hello::default() };
    let refused = |hello: Hello| Hello::decode(split(&hello.frame(1)).1).unwrap_err();
    assert_eq!(refused(Hello { version_min: 0, ..hello.clone() }), Code::BadHello);
    assert_eq!(refused(Hello { version_min: 2, ..hello.clone() }), Code::BadHello);

    let mut b = FlatBufferBuilder::new();
    let topic = b.create_string("t");
    let args = fb::SubscribeArgs { topic: Some(topic), start_at: fb::StartAt(4), ..Default::default() };
    let table = fb::Subscribe::create(&mut b, &args);
    b.finish(table, None);
    assert_eq!(Subscribe::decode(b.finished_data()), Err(Code::BadStart));
    let mut b = FlatBufferBuilder::new();
    let topic = b.create_string("t");
    let ack_level = Some(fb::AckLevel(3));
    let args = fb::OpenArgs { topic: Some(topic), producer_id: 1, ack_level, ..Default::default() };
    let table = fb::Open::create(&mut b, &args);
    b.finish(table, None);
    assert_eq!(Open::decode(b.finished_data()), Err(Code::ImpossibleAckLevel));
    let mut b = FlatBufferBuilder::new();
    let table = fb::Refusal::create(&mut b, &fb::RefusalArgs { code: 9999, ..Default::default() });
    b.finish(table, None);
    let refusal = Refusal::decode(b.finished_data()).unwrap();
    assert_eq!((refusal.code, &refusal.detail[..]), (Code::Unspecified, "code 9999: "));
    let mut b = FlatBufferBuilder::new();
    let client = b.create_string(&"c".repeat(PEER_NAME_BYTES_MAX + 1));
    let args = fb::HelloArgs { client: Some(client), version_min: 1, version_max: 1, ..Default::default() };
    let table = fb::Hello::create(&mut b, &args);
    b.finish(table, None);
    assert_eq!(Hello::decode(b.finished_data()), Err(Code::BadHello));
    assert_eq!(Commit::decode(&[]), Err(Code::BadControlBody));
    assert_eq!(Commit::decode(&[0; 4104]), Err(Code::BadControlBody));
}

#[test]
fn what_the_server_sends_fits_in_a_control_block() {
    let text = "é".repeat(4000);
    let welcome = Welcome {
        server: text.clone(),
        tenant: text.clone(),
        shard_addresses: vec!["192.168.100.100:17440".into(); SHARDS_MAX],
        ..Welcome::default()
    };
    let frame = welcome.frame(0);
    assert!(frame.len() <= CONTROL_BLOCK_BYTES as usize, "{}", frame.len());
    assert_eq!(Welcome::decode(split(&frame).1).unwrap().shard_addresses.len(), SHARDS_MAX);
    let long = Welcome { shard_addresses: vec!["h".repeat(70); SHARDS_MAX], ..welcome };
    let frame = long.frame(0);
    assert!(frame.len() <= CONTROL_BLOCK_BYTES as usize, "{}", frame.len());
    assert!(Welcome::decode(split(&frame).1).unwrap().shard_addresses.is_empty());
    let refusal = Refusal { code: Code::Unavailable, retry_after_us: 1, record: Some(1), detail: text };
    let frame = refusal.frame(Kind::Error, 1, 1);
    assert!(frame.len() <= CONTROL_BLOCK_BYTES as usize, "{}", frame.len());
    assert_eq!(Refusal::decode(split(&frame).1).unwrap().detail.len(), DETAIL_BYTES_MAX);
}

/// Each decoder over the same bytes.
fn decode_as_everything(body: &[u8]) {
    let _ = Hello::decode(body);
    let _ = Welcome::decode(body);
    let _ = Open::decode(body);
    let _ = Opened::decode(body);
    let _ = Subscribe::decode(body);
    let _ = Subscribed::decode(body);
    let _ = Commit::decode(body);
    let _ = Refusal::decode(body);
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        decode_as_everything(&body);
    }

    /// Nearly right bytes reach further than random ones.
    #[test]
    fn no_damage_makes_a_decoder_panic(which in 0..3, at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let frame = match which {
            0 => Hello { client: "c".into(), version_min: 1, version_max: 1, features: 1, token: "t".into() }.frame(1),
            1 => Welcome { server: "s".into(), shard_addresses: vec!["a".into(), "b".into()], ..Welcome::default() }.frame(1),
            _ => Subscribe { topic: "t".into(), name: "n".into(), start: Start::Offset(4), ..Subscribe::default() }.frame(1),
        };
        let mut body = frame[HEADER_BYTES..].to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        decode_as_everything(&body);
        body.truncate(cut.index(body.len() + 1));
        decode_as_everything(&body);
    }
}
