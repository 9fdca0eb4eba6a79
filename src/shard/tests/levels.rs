//! Which acknowledgement level a producer gets.

use crate::ids::TopicId;
use crate::proto::header::AckLevel::{self, Durable, Received, Written};
use crate::shard::session::agreed_level;
use crate::topic::{Overflow, Topic, TopicKind};

fn topic(kind: TopicKind, durability: AckLevel) -> Topic {
    let (name, partitions) = ("t".to_owned(), Vec::new());
    Topic { id: TopicId(1), name, kind, overflow: Overflow::Block, ring_bytes: 0, durability, partitions }
}

#[test]
fn what_is_asked_for_has_to_be_possible_and_nothing_asked_for_is_the_kinds_own() {
    for kind in [TopicKind::Live, TopicKind::Memory] {
        let topic = topic(kind, Received);
        assert_eq!(agreed_level(&topic, None), Ok(Received));
        assert_eq!(agreed_level(&topic, Some(Received)), Ok(Received));
        for level in [Written, Durable] {
            assert!(agreed_level(&topic, Some(level)).unwrap_err().contains("`received` only"));
        }
    }
    for least in [Received, Written, Durable] {
        let topic = topic(TopicKind::Log, least);
        assert_eq!(agreed_level(&topic, None), Ok(Durable));
        for level in [Received, Written, Durable] {
            let agreed = agreed_level(&topic, Some(level));
            assert_eq!(agreed.clone().ok(), (level >= least).then_some(level));
            assert!(agreed.is_ok() || agreed.unwrap_err().contains(least.name()));
        }
    }
}
