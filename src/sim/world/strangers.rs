//! Who connects where TLS is spoken and is no client: whoever says nothing, stops in the middle of a handshake, or speaks
//! something else. The server has to let go of each in time, and to tell who speaks something else by an alert.

use super::*;
use crate::proto::control::Hello;
use crate::sim::acts::Stranger;
use crate::sim::server::LISTENERS;

/// The handshake's time, and that of last words, are over by then; that of an idle connection is not.
const LET_GO_NS: u64 = 10 * S;
/// What an alert of TLS begins with.
const ALERT: [u8; 2] = [21, 3];

/// See the module.
#[derive(Debug)]
pub(super) struct Known {
    sock: SockId,
    how: Stranger,
    since_ns: u64,
}

impl World<'_> {
    /// Somebody connects to a shard.
    pub(super) fn stranger(&mut self, how: Stranger, shard: usize) {
        let now_s = self.clock().wall_ns / S;
        let Some(server) = self.server.as_mut().filter(|_| self.plan.secured.is_on()) else { return };
        let random = &mut self.random;
        let mut hello = self.secured.hello(now_s);
        let said = match how {
            Stranger::Silent => Vec::new(),
            Stranger::Stops => {
                hello.truncate(random.index(hello.len()));
                hello
            }
            Stranger::Deaf => hello,
            Stranger::Changed => {
                let at = random.index(hello.len());
                hello[at] ^= 1 << random.below(8);
                hello
            }
            Stranger::Plain => Hello { client: "stranger".to_owned(), ..Hello::default() }.frame(0),
            Stranger::Noise => {
                let mut noise: Vec<u8> =
                    (0..1 + random.index(3_000)).map(|_| random.number().to_le_bytes()[0]).collect();
                // The first byte of a record that may begin a handshake.
                noise[0] ^= u8::from(noise[0] == 22);
                noise
            }
        };
        let sock = server.shards[shard].io.inner.connect_to(LISTENERS[1]);
        let mut peer = server.shards[shard].io.inner.peer(sock);
        peer.receive_max = random.pick(&[1, 7, 400, usize::MAX]);
        peer.inbound.extend(&said);
        drop(peer);
        self.journal.note(self.now_ns, "stranger", &[u64::from(sock.0), said.len() as u64]);
        self.strangers.push(Some(Known { sock, how, since_ns: self.now_ns }));
        self.plan_at(self.now_ns + LET_GO_NS, Due::Stranger(self.strangers.len() - 1));
        self.wake_shard(shard, self.now_ns);
    }

    /// The time is over in which the server has to have let go of somebody.
    pub(super) fn look_at_stranger(&mut self, at: usize) {
        let Some(Some(Known { sock, how, since_ns })) = &self.strangers.get(at) else { return };
        let Some(server) = &self.server else { return };
        // Time in which a shard did not run is not counted.
        let due_ns = self.paused_until_ns.max(*since_ns) + LET_GO_NS;
        if due_ns > self.now_ns {
            return self.plan_at(due_ns, Due::Stranger(at));
        }
        let inner = &server.shards[0].io.inner;
        // One that was never heard has no holder, and gets no answer.
        let gone = inner.peer(*sock).closed || inner.holder(*sock).is_none();
        assert!(gone, "the server keeps {sock} of a stranger ({how:?})");
        // A shard that stands still may have all memory to receive into: then nobody is heard.
        let heard = self.paused_until_ns <= *since_ns;
        let speaks_something_else = heard && matches!(how, Stranger::Plain | Stranger::Noise);
        let peer = inner.peer(*sock);
        assert!(
            !speaks_something_else || !peer.closed || peer.outbound.starts_with(&ALERT),
            "a stranger ({how:?}) on {sock} was told {:?} in place of an alert",
            peer.outbound
        );
        drop(peer);
        self.strangers[at] = None;
    }
}
