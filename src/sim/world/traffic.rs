//! What passes between the clients and the server: connections, the clients' turns, and bytes that arrive.

use super::*;
use crate::client::core::Error;
use crate::limits::HEADER_BYTES;
use crate::proto::code::Code;
use crate::sim::server::{IDLE_MS, LISTENERS};

/// The server has let go of who has gone without a word by then.
const SILENT_NS: u64 = 2 * IDLE_MS * MS;

/// A new connection's first words are sent again after so long at the most.
const LATE_WORDS_NS: u64 = 300 * MS;

/// How operations on a connection may fail that is of no use any more: `None` is how nearly all do.
const RESETS: [Option<IoError>; 4] = [None, None, Some(IoError::NoMemory), Some(IoError::Os(libc::EIO))];

impl World<'_> {
    /// What a shard has sent goes on its way.
    pub(super) fn carry_down(&mut self, shard: usize) {
        for at in 0..self.conns.len() {
            let (Some(server), Some(conn)) = (&mut self.server, &mut self.conns[at]) else { continue };
            let mut peer = server.shards[shard].io.inner.peer(conn.sock);
            let ended = peer.finished || peer.closed;
            if peer.outbound.is_empty() && !ended {
                continue;
            }
            let mut bytes = std::mem::take(&mut peer.outbound);
            drop(peer);
            if !bytes.is_empty() && !conn.left {
                let line = &self.clients[conn.client].line;
                let changes = line.welcomed && self.random.chance(self.faults.secured.flip_down);
                if line.is_secured() && conn.tampers[1].pass(&mut bytes, changes, &mut self.random) {
                    self.journal.note(self.now_ns, "changed down", &[at as u64]);
                    conn.spoilt |= line.is_handshaking();
                }
                let numbers = [at as u64, bytes.len() as u64, crate::proto::checksum::crc32c(&bytes).into()];
                self.journal.note(self.now_ns, "sent", &numbers);
                let at_ns = conn.down.send(bytes, self.now_ns, &self.faults, &mut self.random);
                self.plan_pipe(Due::Down(at), at_ns);
            }
            if ended {
                self.plan_pipe(Due::Down(at), self.now_ns + 200 * US);
            }
        }
    }

    pub(super) fn arrive_up(&mut self, at: usize) {
        let now_ns = self.now_ns;
        let (Some(server), Some(Some(conn))) = (&mut self.server, self.conns.get_mut(at)) else { return };
        if conn.parted_ns > now_ns {
            let parted_ns = conn.parted_ns;
            return self.plan_pipe(Due::Up(at), parted_ns);
        }
        let bytes = conn.up.arrived(now_ns);
        let (sock, client, next_ns) = (conn.sock, conn.client, conn.up.next_ns());
        if !bytes.is_empty() {
            let mut peer = server.shards[0].io.inner.peer(sock);
            if !peer.reset && !peer.closed {
                peer.inbound.extend(bytes);
            }
        }
        self.wake_holder(sock);
        if let Some(at_ns) = next_ns {
            self.plan_pipe(Due::Up(at), at_ns);
        }
        self.wake_client(client, now_ns);
    }

    pub(super) fn wake_holder(&mut self, sock: SockId) {
        let Some(server) = &self.server else { return };
        match server.shards[0].io.inner.holder(sock) {
            Some(region) => self.wake_shard(shard_of(region), self.now_ns),
            // On its way between shards, or not accepted yet.
            None => (0..self.shards.len()).for_each(|shard| self.wake_shard(shard, self.now_ns)),
        }
    }

    pub(super) fn arrive_down(&mut self, at: usize) {
        let Some(Some(conn)) = self.conns.get(at) else { return };
        let client = conn.client;
        if !conn.left {
            self.wake_client(client, self.now_ns);
        }
    }

    fn connect(&mut self, client: usize) {
        let now_ns = self.now_ns;
        let Some(server) = &mut self.server else {
            return self.clients[client].core().disconnected(now_ns, "refused");
        };
        let shard = self.random.index(server.shards.len());
        let listener = LISTENERS[usize::from(self.secured.speaks(client))];
        let sock = server.shards[shard].io.inner.connect_to(listener);
        let mut peer = server.shards[shard].io.inner.peer(sock);
        if self.random.chance(self.faults.short_receives) {
            peer.receive_max = 1 + self.random.index(3_000);
        }
        let small = self.random.chance(self.faults.small_sends);
        let room = if small { 500 + self.random.index(8_000) } else { DOWN_BYTES_MAX };
        peer.room = room;
        drop(peer);
        let late = self.random.chance(self.faults.late_words);
        let parted_ns = if late { now_ns + self.random.below(LATE_WORDS_NS) } else { 0 };
        let conn = Conn {
            client,
            calm: self.calm,
            sock,
            up: Default::default(),
            down: Default::default(),
            parted_ns,
            corrupt: false,
            left: false,
            room,
            tampers: Default::default(),
            spoilt: false,
            turned_away: false,
        };
        let free = self.conns.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            self.conns.push(None);
            self.conns.len() - 1
        });
        self.conns[at] = Some(conn);
        self.journal.note(now_ns, "connect", &[client as u64, shard as u64, u64::from(sock.0)]);
        self.clients[client].conn = Some(at);
        let clock = self.clock();
        self.clients[client].connected(clock);
        self.wake_shard(shard, now_ns);
    }

    pub(super) fn step_client(&mut self, client: usize) {
        if self.clients[client].over || self.is_unheard(client) || self.has_left(client) {
            return;
        }
        let now_ns = self.now_ns;
        self.clients[client].core().expire(now_ns);
        for _ in 0..1_000 {
            let moved = match self.clients[client].core().wish() {
                Wants::Connect => {
                    self.connect(client);
                    true
                }
                Wants::Hangup => {
                    self.hang_up(client);
                    true
                }
                Wants::Wait | Wants::End => false,
                Wants::Run => self.exchange(client),
            };
            self.let_act(client);
            if !moved {
                break;
            }
        }
        if self.clients[client].core().wish() == Wants::End {
            return self.gave_up(client);
        }
        let next_ns = self.clients[client].core().next_deadline().unwrap_or(u64::MAX);
        let stalled_ns = self.clients[client].stalled_ns;
        let next_ns = if stalled_ns > now_ns { next_ns.min(stalled_ns) } else { next_ns };
        self.wake_client(client, next_ns.max(now_ns + US).min(now_ns + 100 * MS));
    }

    /// The application's part; what it hears may be what a crash waits for.
    fn let_act(&mut self, client: usize) {
        let (acknowledged, delivered) = (self.oracle.acknowledged, self.oracle.delivered);
        self.clients[client].act(&mut self.oracle, self.now_ns);
        let topic = self.operator.current(self.clients[client].topic());
        if self.plan.topics[topic].kind == TopicKind::Log {
            if self.oracle.acknowledged > acknowledged {
                self.moment(Moment::Acked);
            }
            if self.oracle.delivered > delivered {
                self.moment(Moment::Shown);
            }
        }
    }

    /// A client has come to its end, for a reason that is good.
    fn gave_up(&mut self, client: usize) {
        let (topic, hurt) = (self.clients[client].topic(), self.clients[client].hurt);
        let after_ns = match self.clients[client].core().failure() {
            // Whether that may be was looked at when it came.
            Some(Error::Refused {
                code: Code::UnknownTopic | Code::TopicDeleted | Code::NoSuchTopicNow,
                ..
            }) => {
                self.clients[client].over = self.operator.is_gone(self.operator.current(topic));
                if self.clients[client].over {
                    self.journal.note(self.now_ns, "over", &[client as u64]);
                    return self.hang_up(client);
                }
                10 * MS + self.random.below(if topic < self.plan.lasting { 100 * MS } else { S })
            }
            // It was of another topic, which had the name before.
            Some(Error::Refused { code: Code::UnknownPartition | Code::ImpossibleAckLevel, .. })
                if self.operator.current(topic) != topic =>
            {
                10 * MS
            }
            failure => {
                assert!(failure.is_none() || hurt, "no client gives up: {failure:?}");
                MS
            }
        };
        self.start_again(client, after_ns);
    }

    /// The application ends with its core, and another takes its place.
    pub(super) fn start_again(&mut self, client: usize, after_ns: u64) {
        self.hang_up(client);
        let producers = self.plan.producers.len();
        self.clients[client] = if client < producers {
            let waiting = self.clients[client].take_waiting();
            self.new_producer(client, waiting)
        } else {
            let of = self.plan.consumers[client - producers].clone();
            self.new_consumer(client, &of)
        };
        self.journal.note(self.now_ns, "another", &[client as u64]);
        self.wake_client(client, self.now_ns + after_ns);
    }

    /// The client writes and reads; whether anything moved.
    fn exchange(&mut self, client: usize) -> bool {
        let at = self.clients[client].conn.expect("a client that runs has a connection");
        let conn = self.conns[at].as_ref().expect("a client's connection is there");
        let mut moved = false;
        let handshaking = self.clients[client].line.is_handshaking();
        if handshaking && self.random.chance(self.faults.secured.cut) {
            let cut = self.random.pick(&[Cut::Reset, Cut::HalfOpen, Cut::MidFrame, Cut::End]);
            self.end_towards_server(at, cut);
            self.let_go(client, "cut in its handshake");
            return true;
        }
        if conn.up.bytes() < UP_BYTES_MAX {
            let clock = self.clock();
            let bytes = self.clients[client].write(clock);
            if !bytes.is_empty() {
                moved = true;
                let bytes = self.corrupt(client, at, bytes);
                let bytes = self.tamper(client, at, bytes, handshaking);
                self.send_up(at, bytes);
            }
        }
        moved | self.read(client, at)
    }

    /// Where nothing else notices that bytes are changed on their way, the protocol's checksums have to.
    fn corrupt(&mut self, client: usize, at: usize, mut bytes: Vec<u8>) -> Vec<u8> {
        let corrupt = self.conns[at].as_mut().is_some_and(|conn| std::mem::take(&mut conn.corrupt));
        if corrupt && !self.clients[client].line.is_secured() {
            // As often in a header as anywhere.
            let most = if self.random.chance(500) { HEADER_BYTES } else { bytes.len() };
            let index = self.random.index(bytes.len().min(most));
            bytes[index] ^= 1 << self.random.below(8);
            self.clients[client].hurt = true;
            self.changed = true;
        }
        bytes
    }

    /// What a client says is changed on its way, now and then. One that was never welcomed may take it for what the server
    /// is like, and give up.
    fn tamper(&mut self, client: usize, at: usize, mut bytes: Vec<u8>, handshaking: bool) -> Vec<u8> {
        let line = &self.clients[client].line;
        let Some(conn) = self.conns[at].as_mut().filter(|_| line.is_secured()) else { return bytes };
        let changes = line.welcomed && self.random.chance(self.faults.secured.flip_up);
        if conn.tampers[0].pass(&mut bytes, changes, &mut self.random) {
            self.journal.note(self.now_ns, "changed up", &[at as u64]);
            conn.spoilt |= handshaking;
        }
        bytes
    }

    /// What was changed on the way was not taken for good.
    fn assert_taken(&mut self, client: usize, at: usize, bytes: usize, lost: Option<&str>) {
        let Some(conn) = &mut self.conns[at] else { return };
        let greeted = self.clients[client].line.greeted;
        assert!(!(conn.spoilt && greeted), "a handshake that was changed on the way came to its end");
        if lost.is_none() {
            conn.tampers[1].assert_read(bytes);
        }
    }

    fn send_up(&mut self, at: usize, bytes: Vec<u8>) {
        let Some(conn) = &mut self.conns[at] else { return };
        let at_ns = conn.up.send(bytes, self.now_ns, &self.faults, &mut self.random);
        self.plan_pipe(Due::Up(at), at_ns);
    }

    fn read(&mut self, client: usize, at: usize) -> bool {
        let now_ns = self.now_ns;
        let conn = self.conns[at].as_mut().expect("a client's connection is there");
        if self.clients[client].stalled_ns > now_ns || conn.parted_ns > now_ns {
            return false;
        }
        let bytes = conn.down.arrived(now_ns);
        let next_ns = conn.down.next_ns();
        let (sock, room) = (conn.sock, conn.room.saturating_sub(conn.down.bytes()));
        let server = self.server.as_mut().expect("connections end with the server");
        let mut peer = server.shards[0].io.inner.peer(sock);
        let more_room = peer.room < room && !peer.closed;
        peer.room = peer.room.max(room);
        let over =
            (peer.closed || peer.finished || peer.reset) && peer.outbound.is_empty() && next_ns.is_none();
        drop(peer);
        if let Some(at_ns) = next_ns {
            self.plan_pipe(Due::Down(at), at_ns);
        }
        if more_room {
            self.wake_holder(sock);
        }
        let clock = self.clock();
        let lost = self.clients[client].read(&bytes, clock);
        for code in self.clients[client].line.take_refusals() {
            self.refused(client, code);
            if let Some(conn) = &mut self.conns[at] {
                conn.turned_away |= code == Code::TooManyConnections;
            }
        }
        self.assert_taken(client, at, bytes.len(), lost.as_deref());
        // Those that went without a word before it was calm have their time.
        let held = self.now_ns < EPOCH.mono_ns + self.plan.duration_ns + SILENT_NS;
        let stays = !self.server.as_ref().is_some_and(Server::is_draining);
        let calm = self.conns[at].as_ref().is_some_and(|conn| conn.calm && !(conn.turned_away && held));
        assert!(
            !(over && calm && stays),
            "the server ends client {client}'s connection, and nothing is in its way: {lost:?}"
        );
        let lost = lost.or_else(|| if over { self.clients[client].ended(clock) } else { None });
        if let Some(why) = lost {
            self.part(client, &why);
            return true;
        }
        !bytes.is_empty()
    }

    /// The client wants its connection to end.
    fn hang_up(&mut self, client: usize) {
        self.part(client, "hung up");
    }

    /// A client closes its connection: with its last words on the way (TLS has some), or with data that it has not read.
    fn part(&mut self, client: usize, why: &str) {
        if let Some(at) = self.clients[client].conn {
            let polite = self.random.chance(700);
            let goodbye = if polite { self.clients[client].line.goodbye() } else { Vec::new() };
            if !goodbye.is_empty() {
                self.send_up(at, goodbye);
            }
            self.end_towards_server(at, if polite { Cut::End } else { Cut::Reset });
        }
        self.let_go(client, why);
    }

    /// The client's side of a connection is over.
    pub(super) fn let_go(&mut self, client: usize, why: &str) {
        let Some(at) = self.clients[client].conn.take() else { return };
        self.journal.note(self.now_ns, "gone", &[client as u64, at as u64]);
        if let Some(conn) = &mut self.conns[at] {
            conn.left = true;
        }
        let closed = |world: &World| {
            let (Some(server), Some(conn)) = (&world.server, &world.conns[at]) else { return true };
            server.shards[0].io.inner.peer(conn.sock).closed
        };
        if closed(self) {
            self.conns[at] = None;
        }
        if self.clients[client].unheard_ns.is_none() {
            self.hears_the_end(client, why);
        }
        self.wake_client(client, self.now_ns);
    }

    fn hears_the_end(&mut self, client: usize, why: &str) {
        self.clients[client].core().disconnected(self.now_ns, why);
        self.may_leave(client);
    }

    /// A client that was not told of the server's end talks to nobody, until that has been long enough for it, or the host
    /// is back and answers that it knows of no connection; whether it does.
    fn is_unheard(&mut self, client: usize) -> bool {
        let now_ns = self.now_ns;
        let clock = self.clock();
        let Some(until_ns) = self.clients[client].unheard_ns else { return false };
        self.clients[client].core().expire(now_ns);
        // A socket takes what nobody receives, up to its memory.
        drop(self.clients[client].write(clock));
        self.let_act(client);
        let core = self.clients[client].core();
        let gives_up = !matches!(core.wish(), Wants::Run | Wants::Wait);
        if now_ns < until_ns && !gives_up {
            let next_ns = core.next_deadline().unwrap_or(u64::MAX);
            self.wake_client(client, next_ns.max(now_ns + US).min(until_ns));
            return true;
        }
        self.clients[client].unheard_ns = None;
        self.journal.note(now_ns, "unheard", &[client as u64, u64::from(gives_up)]);
        self.hears_the_end(client, "the server's host knows of no connection");
        false
    }

    pub(super) fn end_towards_server(&mut self, at: usize, cut: Cut) {
        let (Some(server), Some(conn)) = (&mut self.server, &mut self.conns[at]) else { return };
        let sock = conn.sock;
        let mut peer = server.shards[0].io.inner.peer(sock);
        match cut {
            Cut::Reset => {
                peer.reset = true;
                peer.reset_by = self.random.pick(&RESETS);
            }
            Cut::HalfOpen => {}
            Cut::MidFrame | Cut::End => {
                let unsent = conn.up.drain();
                let all = cut == Cut::End;
                let some = if all { unsent.len() } else { self.random.index(unsent.len() + 1) };
                peer.inbound.extend(&unsent[..some]);
                peer.ended = true;
            }
        }
        drop(peer);
        self.wake_holder(sock);
    }
}
