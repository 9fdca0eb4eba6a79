//! What clients are refused, held against what is so in the world: each reason has to be possible.

use super::*;
use crate::proto::code::Code;
use crate::sim::plan::TopicPlan;
use crate::sim::server::{CONNECTIONS, FRAME_MS, HANDSHAKE_MS, IDLE_MS};
use crate::topic::Overflow;

impl World<'_> {
    /// A client was told why something of it is refused.
    ///
    /// # Panics
    /// When that cannot be the reason.
    pub(super) fn refused(&mut self, client: usize, code: Code) {
        self.journal.note(self.now_ns, code.name(), &[client as u64]);
        let is_true = self.may_be_refused(client, code);
        assert!(is_true, "client {client} is refused with {}, which cannot be", code.name());
    }

    fn may_be_refused(&self, client: usize, code: Code) -> bool {
        let client = &self.clients[client];
        let topic = client.topic();
        let met: Vec<_> = self
            .operator
            .met(topic, client.connected_ns)
            .map(|topic| (topic, &self.plan.topics[topic]))
            .collect();
        let of_a_log = met.iter().any(|(_, of)| of.kind == TopicKind::Log);
        // What it goes by may be another topic's, which had the name before.
        let is_later = self.operator.current(topic) != topic;
        let faults = &self.plan.faults;
        let draining = self.server.as_ref().is_some_and(Server::is_draining);
        let lasts = |ms: u64| self.now_ns >= client.connected_ns + ms * MS;
        match code {
            Code::ServerDraining | Code::Draining => draining,
            Code::UnknownTopic => self.operator.may_be_unknown(topic, client.connected_ns, self.lied),
            Code::TopicDeleted | Code::NoSuchTopicNow => {
                met.iter().any(|(topic, _)| self.operator.is_doomed(*topic))
            }
            Code::TopicPaused => met.iter().any(|(topic, _)| self.operator.may_be_paused(*topic)),
            Code::RingFull => self.may_be_full(&met),
            Code::DiskFull => {
                let failed = self.kept.files.borrow().failed() > 0;
                of_a_log && (failed || self.oracle.was_full || faults.disk_no_space > 0)
            }
            Code::PartitionFenced => of_a_log && (faults.disk_sync_fails > 0 || faults.disk_write_fails > 0),
            Code::UnknownPartition | Code::ImpossibleAckLevel => client.hurt || is_later,
            // A word about a subscription may cross that of its end.
            Code::NotSubscribed => {
                client.hurt || is_later || met.iter().any(|(topic, _)| self.operator.is_doomed(*topic))
            }
            Code::HandshakeTimeout => lasts(HANDSHAKE_MS),
            Code::FrameTimeout => lasts(FRAME_MS),
            Code::IdleTimeout => lasts(IDLE_MS),
            Code::TooManyConnections => {
                let others = self.strangers.iter().flatten().count() + self.crowd.len();
                self.conns.iter().flatten().count() + others >= CONNECTIONS as usize
            }
            // Saturation, and what becomes of batches and producers where connections or lives end.
            Code::StraddleExhausted
            | Code::PeerNotReading
            | Code::TooManyChannels
            | Code::TooManySubscriptions
            | Code::Unavailable
            | Code::SequenceTooOld
            | Code::UnknownProducer
            | Code::ProducerFenced
            | Code::OutOfSequence
            | Code::BackPressure => true,
            // Nobody breaks the protocol here, nobody has rules, and there is room for all.
            _ => client.hurt,
        }
    }

    /// A ring is full of what somebody has yet to receive: there is a consumer, and no log goes by its ring.
    fn may_be_full(&self, met: &[(usize, &TopicPlan)]) -> bool {
        met.iter().any(|(_, of)| {
            let is_read = self.plan.consumers.iter().any(|consumer| consumer.topic == of.first);
            of.kind != TopicKind::Log && of.overflow == Overflow::Reject && is_read
        })
    }
}
