//! Messages from one shard to another, both ends in this thread.

use uringest::ids::PartitionId;
use uringest::ids::{ConnId, ShardId};
use uringest::mesh::MeshEnd;
use uringest::shard::messages::{ConnRef, Message};

use super::{Piece, Repeat};

const MESSAGES: u32 = 1_024;

pub(super) const PIECES: &[Piece] = &[
    Piece { name: "mesh_one_by_one", unit: "message", units: MESSAGES, prepare: || Ends::boxed(1) },
    Piece { name: "mesh_by_64", unit: "message", units: MESSAGES, prepare: || Ends::boxed(64) },
];

struct Ends {
    from: MeshEnd<Message>,
    to: MeshEnd<Message>,
    /// Messages on their way at a time.
    at_a_time: u32,
}

impl Ends {
    fn boxed(at_a_time: u32) -> Box<dyn Repeat> {
        let mut ends = MeshEnd::build(3, 1_024).into_iter();
        let (from, to) = ends.next().zip(ends.next()).expect("three ends");
        Box::new(Ends { from, to, at_a_time })
    }
}

impl Repeat for Ends {
    fn work(&mut self) {
        let home = ConnRef { shard: ShardId(0), conn: ConnId(1), generation: 1 };
        for first in (0..MESSAGES).step_by(self.at_a_time as usize) {
            for slot in first..first + self.at_a_time {
                let grant = Message::RemoteCredit {
                    to: home,
                    channel: 1,
                    partition: PartitionId(1),
                    owner_slot: slot,
                    grant: 4096,
                };
                let wake = self.from.send(1, grant).expect("room");
                assert!(!wake.0, "nobody sleeps here");
            }
            for slot in first..first + self.at_a_time {
                let received = self.to.receive();
                assert!(
                    matches!(received, Some((0, Message::RemoteCredit { owner_slot, .. })) if owner_slot == slot)
                );
            }
        }
    }
}
