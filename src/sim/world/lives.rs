//! The server's lives: how one begins, what control does in it, and how it ends.

use super::*;
use crate::control::exit;
use crate::ids::PartitionId;
use crate::limits::LOG_SETTLE_MS;
use crate::sim::secured::tamper::Tamper;
use crate::sim::server::DRAIN_MS;

/// The server has come to its end by then: its deadline, what a shard may take behind it, the logs' files, and the last
/// save.
const DRAINED_NS: u64 = (DRAIN_MS + 3_000 + LOG_SETTLE_MS + 10_000) * MS;

/// Whoever waits for a log has heard of its fence by then.
const TOLD_NS: u64 = 200 * MS;

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Without a word.
    Kill,
    /// And with the power.
    Power,
    /// In good order. `clean`: it says that everything is delivered and saved.
    Drained { clean: bool },
}

impl End {
    fn name(self) -> &'static str {
        match self {
            End::Kill => "kill",
            End::Power => "power cut",
            End::Drained { .. } => "drained",
        }
    }
}

impl World<'_> {
    pub(super) fn start(&mut self) {
        if self.server.is_some() {
            return;
        }
        self.life += 1;
        self.journal.note(self.now_ns, "start", &[self.life]);
        self.failed_before = self.kept.files.borrow().failed();
        self.start_ns = self.now_ns;
        let clock = self.clock();
        let tls = self.secured.server();
        match Server::start(&self.plan, self.mappings, &mut self.kept, clock, tls) {
            Ok(server) => self.begin(server),
            Err(why) => self.cannot_start(&why),
        }
    }

    fn begin(&mut self, mut server: Server) {
        let lost = server.lost();
        assert!(
            lost.is_empty() || self.plan.syncs_lie,
            "recovery reports what was durable as lost, on a disk that keeps it: {lost:?}"
        );
        if std::mem::take(&mut self.ended_cleanly) {
            // A snapshot that was no good already, and that no other has taken the place of, stays.
            // Nor is an index waited for that was being written: without it the segment is read.
            let is_news = |found: &&&str| **found != "index_rebuilt" && !self.found.contains(found);
            let news: Vec<_> = server.found().iter().filter(is_news).collect();
            assert!(news.is_empty(), "behind a clean end a start finds {news:?}");
        }
        self.found = server.found().to_vec();
        self.kept.files.borrow_mut().knows(&server.folders());
        for (topic, partition, offsets) in lost {
            let topic = self.plan.topics.iter().position(|of| of.name == topic).expect("a topic of the plan");
            self.oracle.reported((topic, partition), offsets);
        }
        server.set_faults(&self.faults);
        self.retained.begin();
        self.server = Some(server);
        self.control_ns = u64::MAX;
        self.wake_control(self.now_ns);
        for shard in 0..self.shards.len() {
            self.shards[shard] = (u64::MAX, 0);
            self.restless[shard] = 0;
        }
    }

    /// The server has ended before it took anything: only a disk that fails, or has lost what it had promised to keep, is
    /// a reason, or a shard that did not run.
    fn cannot_start(&mut self, why: &str) {
        self.journal.note(self.now_ns, "cannot start", &[why.len() as u64]);
        self.journal.tell(&why);
        let stood = self.paused_until_ns > self.start_ns;
        if self.kept.files.borrow().failed() == self.failed_before && !stood {
            assert!(self.lied, "the server does not start, and nothing stands in its way: {why}");
            // An operator gives up what was there.
            self.kept.files.borrow_mut().wipe();
            self.oracle.crashed(|_, _| false, |_| true);
        }
        let how = if self.random.chance(300) { End::Power } else { End::Kill };
        let down_ns = self.random.below(S);
        self.ended(how, down_ns);
    }

    /// Control's turn.
    pub(super) fn serve(&mut self) {
        self.control_ns = u64::MAX;
        let clock = self.clock();
        let Some(server) = &mut self.server else { return };
        let was_released = server.is_released();
        let next_ns = server.serve(clock);
        for topic in server.topics() {
            let named = self.plan.topics.iter().position(|of| of.name == topic.name);
            let of = self.operator.current(named.expect("a topic of the plan"));
            for (number, partition) in (0..).zip(&topic.partitions) {
                self.oracle.partition_is(partition.id.0, (of, number));
            }
        }
        let wakes = std::mem::take(&mut *server.wakes.borrow_mut());
        let released = server.is_released() && !was_released;
        let (started, answers) = (server.take_started(), server.take_answers());
        self.journal.note(self.now_ns, "control", &[next_ns.unwrap_or(0)]);
        for (step, well) in self.kept.files.borrow_mut().take_done() {
            self.journal.note(self.now_ns, "step", &[step, u64::from(well)]);
            if !well {
                self.oracle.commits.disturbed(self.now_ns, self.now_ns);
            }
        }
        // What was to be read from a file that is not opened is lost to each who waits for it.
        for _ in 0..self.kept.files.borrow_mut().take_unopened() {
            self.clients.iter().for_each(|_| self.oracle.read_failed());
        }
        if let Some(at_ns) = next_ns {
            // Never in the same moment again: it has done what it could.
            self.wake_control(at_ns.max(self.now_ns + US));
        }
        if released {
            (0..self.shards.len()).for_each(|shard| self.wake_shard(shard, self.now_ns));
        }
        for woken in wakes {
            self.woken(woken);
        }
        for (wish, answer) in answers {
            self.answered(wish, answer);
        }
        match started {
            Some(Ok(())) => self.started(),
            Some(Err(why)) => {
                self.server = None;
                return self.cannot_start(&why);
            }
            None => {}
        }
        self.look_for_fences();
        if let Some(status) = self.server.as_ref().and_then(Server::exited) {
            self.exited(status);
        }
    }

    /// The server is to come to its end in good order. It is not asked before it has started.
    pub(super) fn drain(&mut self, down_ns: u64) {
        let started = self.operator.is_started();
        let Some(server) = self.server.as_mut().filter(|server| started && !server.is_draining()) else {
            return;
        };
        server.drain();
        self.drain = (self.now_ns, down_ns);
        self.plan_at(self.now_ns + DRAINED_NS, Due::Drained { life: self.life });
        self.wake_control(self.now_ns);
    }

    /// A drain ends within its bound, but for time in which a shard did not run.
    pub(super) fn look_at_drain(&mut self) {
        if self.server.is_none() {
            return;
        }
        let due_ns = self.paused_until_ns.max(self.drain.0) + DRAINED_NS;
        assert!(due_ns > self.now_ns, "the server does not come to its end");
        self.plan_at(due_ns, Due::Drained { life: self.life });
    }

    /// The server has come to its end in good order, or nearly.
    fn exited(&mut self, status: u8) {
        self.journal.note(self.now_ns, "exited", &[status.into()]);
        assert!(matches!(status, exit::CLEAN | exit::LEFTOVER), "no shard has failed: exit status {status}");
        if let Some(server) = self.server.take() {
            server.assert_nobody_is_blamed(self.changed, self.plan.faults.secured.flips());
            if status == exit::CLEAN {
                self.assert_clean(&server);
            } else {
                assert!(
                    self.may_leave_some(&server),
                    "a drain leaves something, and nothing kept it from its end"
                );
            }
        }
        self.ended(End::Drained { clean: status == exit::CLEAN }, self.drain.1);
    }

    /// A server that says it has ended with nothing left leaves nothing: no operation on a file, no file that is half
    /// made or nobody's, and nothing for the next start to find.
    fn assert_clean(&mut self, server: &Server) {
        server.assert_ended_cleanly();
        let in_flight = self.kept.disk.borrow().in_flight();
        assert!(in_flight.is_empty(), "operations on files: {in_flight:?}");
        self.kept.assert_all_known(&server.folders(), &server.moving());
        let failed = self.kept.files.borrow().failed() > self.failed_before;
        self.ended_cleanly = !failed && !self.kept.is_fenced() && !self.plan.syncs_lie;
    }

    /// Whether something kept a drain from its end: a disk that failed, a shard that did not run, or a client that reads
    /// nothing, or little at a time from far away, cannot be reached, or has gone without a word.
    fn may_leave_some(&self, server: &Server) -> bool {
        let (began_ns, _) = self.drain;
        let failed = self.kept.files.borrow().failed() > self.failed_before || self.kept.is_fenced();
        let stalled = self.clients.iter().any(|client| client.stalled_ns > began_ns);
        let far = self.faults.slow > 0;
        let late = |conn: &Conn| {
            let gone = conn.left && ending::goes_on(conn, server);
            conn.parted_ns > began_ns || far && conn.room < DOWN_BYTES_MAX || gone
        };
        failed || stalled || self.paused_until_ns > began_ns || self.conns.iter().flatten().any(late)
    }

    /// An operator who hears of a fenced partition starts the server again.
    fn look_for_fences(&mut self) {
        let Some(server) = &self.server else { return };
        let fenced = server.degraded().into_iter().find(|(key, _)| *key == "partition_fenced");
        if let Some((_, why)) = fenced
            && self.fenced_ns.is_none()
        {
            assert!(!why.is_empty(), "a fence says why");
            self.fenced_ns = Some(self.now_ns);
            self.journal.note(self.now_ns, "fenced", &[]);
            let after_ns = self.random.below(S);
            self.plan_at(self.now_ns + after_ns, Due::Replace { life: self.life });
        }
    }

    /// The operator ends this life of the server, for a fence.
    pub(super) fn replace(&mut self) {
        self.assert_told_of_fence();
        let down_ns = self.random.below(S);
        self.crash(false, down_ns);
    }

    /// Who waits for an answer of a partition that was fenced has been told so, whether it sends more or not.
    fn assert_told_of_fence(&self) {
        let (Some(server), Some(fenced_ns)) = (&self.server, self.fenced_ns) else { return };
        let in_time = self.now_ns > fenced_ns + TOLD_NS && self.paused_until_ns < fenced_ns;
        if !in_time || self.faults.slow > 0 {
            return;
        }
        let fenced: Vec<_> = server.shards.iter().flat_map(|shard| shard.fenced()).collect();
        for client in &self.clients {
            let Role::Producer(producer) = &client.role else { continue };
            let Some(conn) = client.conn.and_then(|at| self.conns[at].as_ref()) else { continue };
            let is_heard = conn.parted_ns < fenced_ns && !conn.tampers.iter().any(Tamper::is_changed);
            if !is_heard || client.connected_ns > fenced_ns || client.line.told_of_fence {
                continue;
            }
            for place in fenced.iter().map(|id| self.oracle.place(id.0)) {
                let waits =
                    self.oracle.named(place).0 == client.topic() && producer.core.awaits_answers_of(place.1);
                assert!(
                    !waits,
                    "{place:?} is fenced, and who waits for an answer of it is not told: {conn:?}"
                );
            }
        }
    }

    pub(super) fn crash(&mut self, power: bool, down_ns: u64) {
        let Some(server) = self.server.take() else { return };
        server.assert_nobody_is_blamed(self.changed, self.plan.faults.secured.flips());
        drop(server);
        self.ended(if power { End::Power } else { End::Kill }, down_ns);
    }

    /// The process is gone, and comes back.
    fn ended(&mut self, how: End, down_ns: u64) {
        let power = how == End::Power;
        self.strangers.clear();
        self.operator.forget_asked();
        self.fenced_ns = None;
        self.journal.note(self.now_ns, how.name(), &[]);
        self.kept.ended(power);
        let plan = &self.plan;
        let fenced = self.kept.is_fenced();
        // Nothing outlives the power where syncs lie.
        let lied = power && plan.syncs_lie;
        self.lied |= lied;
        let survives = |topic: usize, level: AckLevel| {
            let least = match how {
                _ if power || fenced => AckLevel::Durable,
                // Who has come to its end in good order has written everything.
                End::Drained { clean: true } => AckLevel::Received,
                _ => AckLevel::Written,
            };
            plan.topics[topic].kind == TopicKind::Log && level >= least && !lied
        };
        // What was visible and not durable may be other records when the power is back.
        let forgotten = |(topic, _): (usize, u32)| {
            let of = &plan.topics[topic];
            of.kind != TopicKind::Log || (power || fenced) && of.durability < AckLevel::Durable || lied
        };
        self.oracle.crashed(survives, forgotten);
        self.oracle.commits.ended(self.now_ns, how == End::Drained { clean: true }, lied);
        for conn in 0..self.conns.len() {
            if let Some(client) = self.conns[conn].as_ref().filter(|conn| !conn.left).map(|conn| conn.client)
            {
                // A host without power says nothing.
                if power && self.random.chance(500) {
                    let until_ns = self.now_ns + down_ns + self.random.below(2 * S);
                    self.clients[client].unheard_ns = Some(until_ns);
                }
                self.let_go(client, "the server went");
            }
        }
        self.conns.clear();
        for client in &mut self.clients {
            client.conn = None;
        }
        self.plan_at(self.now_ns + down_ns, Due::Start);
    }

    pub(super) fn roll(&mut self, topic: usize, partition: u32) {
        if let Some(id) = self.partition(topic, partition)
            && self.plan.topics[topic].kind == TopicKind::Log
            && let Some(server) = &self.server
        {
            server.roll(id);
            self.wake_control(self.now_ns);
        }
    }

    fn partition(&self, topic: usize, partition: u32) -> Option<PartitionId> {
        if self.operator.current(topic) != topic {
            return None;
        }
        let topic = self.server.as_ref()?.topic(&self.plan.topics[topic].name)?;
        Some(topic.partitions[partition as usize].id)
    }
}
