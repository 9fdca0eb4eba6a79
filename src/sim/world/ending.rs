//! The end of a run: nothing goes wrong any more, everything has to come right, the logs are held against what was
//! promised, and everybody goes.

use super::*;
use crate::sim::server::{CONNECTIONS, LISTENERS};

impl World<'_> {
    /// Nothing goes wrong any more.
    pub(super) fn calm_down(&mut self) {
        self.journal.note(self.now_ns, "calm", &[]);
        self.calm = true;
        self.faults = Faults::default();
        if let Some(server) = &mut self.server {
            server.set_faults(&self.faults);
        }
        self.awaited = None;
        self.queue.retain(|Reverse((_, _, due))| !matches!(due, Due::Crash { .. }));
        self.disk_full_ns = self.now_ns;
        self.set_disk_full(false);
        for shard in 0..self.shards.len() {
            self.shards[shard] = (u64::MAX, 0);
            self.wake_shard(shard, self.now_ns);
        }
        self.kept.files.borrow_mut().set_faults(&self.faults);
        // The last cut shows what is only thought to be on the disk.
        if self.random.chance(500) {
            self.crash(true, 100 * MS);
        }
        for topic in 0..self.plan.topics.len() {
            if self.operator.may_be_there(topic) {
                self.wish(Wish::Pause(topic, false), true);
            }
        }
        for at in 0..self.conns.len() {
            if let Some(conn) = &mut self.conns[at] {
                conn.parted_ns = 0;
                conn.room = DOWN_BYTES_MAX;
                self.plan_pipe(Due::Up(at), self.now_ns);
            }
        }
        for client in 0..self.clients.len() {
            self.clients[client].stalled_ns = 0;
            self.wake_client(client, self.now_ns);
        }
    }

    pub(super) fn is_settled(world: &World) -> bool {
        let Some(server) = &world.server else { return false };
        world.operator.is_content()
            && server.shards.iter().all(|shard| shard.is_all_visible())
            && world.strangers.iter().flatten().next().is_none()
            && !world.conns.iter().flatten().any(|conn| goes_on(conn, server))
            && world.clients.iter().all(|client| world.is_settled_for(client, server))
    }

    /// Whether there is nothing more for a client to wait for; nor is there when its topic was never made, or is deleted
    /// and it has heard so. A producer hears it with its next batch: one that has none left hears nothing.
    fn is_settled_for(&self, client: &Client, server: &Server) -> bool {
        let topic = self.operator.current(client.topic());
        let hears = matches!(client.role, Role::Consumer(_)) && self.operator.is_gone(topic);
        client.over || self.operator.is_absent(topic) || settled(client, self.name(client), server) && !hears
    }

    fn name(&self, client: &Client) -> &str {
        &self.plan.topics[client.topic()].name
    }

    /// Who still waits for something.
    pub(super) fn unsettled(&self) -> String {
        let Some(server) = &self.server else { return "the server is down".to_owned() };
        let mut waits = self.operator.what_waits();
        for known in self.strangers.iter().flatten() {
            waits += &format!("{known:?} is looked at; ");
        }
        for (at, conn) in self.conns.iter().enumerate() {
            if let Some(conn) = conn.as_ref().filter(|conn| goes_on(conn, server)) {
                let io = &server.shards[0].io.inner;
                let (holder, peer) = (io.holder(conn.sock), io.peer(conn.sock));
                let heard = (peer.inbound.len(), peer.outbound.len(), peer.ended, peer.reset, peer.finished);
                waits += &format!(
                    "connection {at} goes on, and was left or changed on the way (held by {holder:?}, {heard:?}); "
                );
            }
        }
        for (number, client) in
            self.clients.iter().enumerate().filter(|(_, of)| !self.is_settled_for(of, server))
        {
            waits += &format!("client {number} {}; ", what_waits(client, self.name(client), server));
        }
        waits
    }

    /// What the logs hold is held against what was promised.
    pub(super) fn audit(&mut self) {
        let first = self.clients.len();
        for topic in 0..self.plan.topics.len() {
            if self.plan.topics[topic].kind == TopicKind::Log && self.operator.is_there(topic) {
                let tls = self.secured.client(self.clients.len());
                let auditor = Client::auditor(&self.plan, topic, self.random.number(), tls);
                self.clients.push(auditor);
                self.wake_client(self.clients.len() - 1, self.now_ns);
            }
        }
        let settled = self.run_until(self.now_ns + GRACE_NS, World::is_settled);
        assert!(settled, "a log cannot be read to its end: {}", self.unsettled());
        for client in &mut self.clients[first..] {
            let Role::Consumer(consumer) = &mut client.role else { continue };
            let topic = consumer.topic();
            let mut kept = consumer.kept.take().expect("an auditor keeps what it reads");
            for partition in 0..self.plan.topics[topic].partitions {
                let records = kept.remove(&partition).unwrap_or_default();
                self.oracle.audit((topic, partition), &records);
            }
        }
    }

    /// All clients go; nothing of them is left.
    pub(super) fn leave(&mut self) {
        self.begin_something();
        self.clients.clear();
        for at in 0..self.conns.len() {
            self.end_towards_server(at, Cut::Reset);
        }
        self.conns.clear();
        for sock in std::mem::take(&mut self.crowd) {
            let server = self.server.as_mut().expect("nothing has stopped it");
            server.shards[0].io.inner.peer(sock).reset = true;
            self.wake_holder(sock);
        }
        self.queue.retain(|Reverse((_, _, due))| !matches!(due, Due::Client(_)));
        self.run_until(self.now_ns + 3 * S, |_| false);
        // Segments may go by retention at this very moment: their files are on their way then.
        self.run_until(self.now_ns + S, |world| {
            world.server.as_ref().is_none_or(|server| !server.files_are_moving())
        });
        let server = self.server.as_ref().expect("nothing has stopped it");
        audit::assert_nothing_leaked(&server.shards);
        server.assert_rings_conserved();
        server.assert_nobody_is_blamed(self.changed, self.plan.faults.secured.flips());
        for shard in &server.shards {
            assert_eq!(shard.io.untold(), 0, "completions that nobody has taken");
            assert_eq!(shard.io.lists_in_use(), 0, "lists of spans that no send has");
        }
        server.assert_files_at_rest();
        let in_flight = self.kept.disk.borrow().in_flight();
        assert!(in_flight.is_empty(), "operations on files: {in_flight:?}");
        server.assert_logs_are_of_topics();
        self.kept.assert_all_known(&server.folders(), &server.moving());
    }

    /// Nobody says goodbye first: there are batches on their way, and perhaps with a shard that stands still; and more
    /// connections than there may be, which are answered.
    fn begin_something(&mut self) {
        for client in &mut self.clients {
            if let Role::Producer(producer) = &mut client.role {
                let bytes = self.random.pick(&[20, 2_000, 20_000]);
                producer.publish(1 + u32::try_from(self.random.below(20)).expect("few"), bytes);
            }
        }
        for client in 0..self.clients.len() {
            self.wake_client(client, self.now_ns);
        }
        let shard = self.random.index(self.shards.len());
        let stands_ns = self.random.pick(&[US, 5 * MS, 200 * MS]);
        let soon_ns = self.now_ns + self.random.below(2 * MS);
        self.run_until(soon_ns, |_| false);
        self.act(Act::PauseShard { shard, ns: stands_ns });
        let soon_ns = self.now_ns + self.random.below(3 * MS);
        self.run_until(soon_ns, |_| false);
        self.crowd();
        self.run_until(self.now_ns + MS, |_| false);
    }

    /// Now and then all connect at once, and say nothing.
    fn crowd(&mut self) {
        if !self.random.chance(300) {
            return;
        }
        let shard = self.random.index(self.shards.len());
        let server = self.server.as_mut().expect("nothing has stopped it");
        let inner = &mut server.shards[shard].io.inner;
        self.crowd = (0..CONNECTIONS + 20).map(|_| inner.connect_to(LISTENERS[0])).collect();
        self.wake_shard(shard, self.now_ns);
    }
}

/// Whether a connection is not at its end although something on it was changed, which the server has to notice, or its
/// client has gone, perhaps without a word. Nobody holds one that was turned away unheard.
pub(super) fn goes_on(conn: &Conn, server: &Server) -> bool {
    let over = conn.left || conn.tampers[0].is_changed();
    let inner = &server.shards[0].io.inner;
    over && !inner.peer(conn.sock).closed && inner.holder(conn.sock).is_some()
}

/// Whether everything has come through to a client, and from it.
fn settled(client: &Client, topic: &str, server: &Server) -> bool {
    match &client.role {
        Role::Producer(producer) => producer.is_idle(),
        Role::Consumer(consumer) => {
            let at_end = |(partition, next): (u32, u64)| {
                let end = server.visible_end(topic, partition);
                end.is_some_and(|(id, end)| next >= end && consumer.reads(partition, id.0))
            };
            consumer.core.is_subscribed() && consumer.core.positions().all(at_end)
        }
    }
}

/// What a client waits for, for whoever wonders why.
fn what_waits(client: &Client, topic: &str, server: &Server) -> String {
    match &client.role {
        Role::Producer(producer) => format!("publishes to {topic}: {}", producer.what_waits()),
        Role::Consumer(consumer) => {
            let at = |(partition, next): (u32, u64)| {
                let Some((id, end)) = server.visible_end(topic, partition) else {
                    return "which is not there".to_owned();
                };
                let why = if next < end { audit::consumers(&server.shards, id) } else { String::new() };
                format!("{next} of {end} in partition {partition} {why}")
            };
            let all: Vec<String> = consumer.core.positions().map(at).collect();
            format!("reads {topic}: {}", all.join(", "))
        }
    }
}
