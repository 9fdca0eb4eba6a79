//! What passes between the clients and the server: connections, the clients' turns, and bytes that arrive.

use super::*;

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
            let bytes = std::mem::take(&mut peer.outbound);
            drop(peer);
            if !bytes.is_empty() && !conn.left {
                let numbers = [at as u64, bytes.len() as u64, crate::proto::checksum::crc32c(&bytes).into()];
                self.journal.note(self.now_ns, "sent", &numbers);
                let at_ns = conn.down.send(bytes, self.now_ns, &self.faults, &mut self.random);
                self.plan_at(at_ns, Due::Down(at));
            }
            if ended {
                self.plan_at(self.now_ns + 200 * US, Due::Down(at));
            }
        }
    }

    pub(super) fn arrive_up(&mut self, at: usize) {
        let now_ns = self.now_ns;
        let (Some(server), Some(Some(conn))) = (&mut self.server, self.conns.get_mut(at)) else { return };
        if conn.parted_ns > now_ns {
            let parted_ns = conn.parted_ns;
            return self.plan_at(parted_ns, Due::Up(at));
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
            self.plan_at(at_ns, Due::Up(at));
        }
        self.wake_client(client, now_ns);
    }

    fn wake_holder(&mut self, sock: SockId) {
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
        let sock = server.shards[shard].io.inner.connect();
        let mut peer = server.shards[shard].io.inner.peer(sock);
        if self.random.chance(self.faults.short_receives) {
            peer.receive_max = 1 + self.random.index(3_000);
        }
        let small = self.random.chance(self.faults.small_sends);
        let room = if small { 500 + self.random.index(8_000) } else { DOWN_BYTES_MAX };
        peer.room = room;
        drop(peer);
        let conn = Conn {
            client,
            sock,
            up: Default::default(),
            down: Default::default(),
            parted_ns: 0,
            left: false,
            room,
        };
        let free = self.conns.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            self.conns.push(None);
            self.conns.len() - 1
        });
        self.conns[at] = Some(conn);
        self.journal.note(now_ns, "connect", &[client as u64, shard as u64, u64::from(sock.0)]);
        self.clients[client].conn = Some(at);
        self.clients[client].reader.reset();
        self.clients[client].core().connected(now_ns);
        self.wake_shard(shard, now_ns);
    }

    pub(super) fn step_client(&mut self, client: usize) {
        let now_ns = self.now_ns;
        self.clients[client].core().expire(now_ns);
        for _ in 0..1_000 {
            let moved = match self.clients[client].core().wish() {
                Wish::Connect => {
                    self.connect(client);
                    true
                }
                Wish::Hangup => {
                    self.hang_up(client);
                    true
                }
                Wish::Wait | Wish::End => false,
                Wish::Run => self.exchange(client),
            };
            self.clients[client].act(&mut self.oracle, now_ns);
            if !moved {
                break;
            }
        }
        if self.clients[client].core().wish() == Wish::End {
            let failure = self.clients[client].core().failure().map(ToString::to_string);
            assert_eq!(failure, None, "no client gives up");
            return;
        }
        let next_ns = self.clients[client].core().next_deadline().unwrap_or(u64::MAX);
        let stalled_ns = self.clients[client].stalled_ns;
        let next_ns = if stalled_ns > now_ns { next_ns.min(stalled_ns) } else { next_ns };
        self.wake_client(client, next_ns.max(now_ns + US).min(now_ns + 100 * MS));
    }

    /// The client writes and reads; whether anything moved.
    fn exchange(&mut self, client: usize) -> bool {
        let now_ns = self.now_ns;
        let at = self.clients[client].conn.expect("a client that runs has a connection");
        let conn = self.conns[at].as_mut().expect("a client's connection is there");
        let mut moved = false;
        if conn.up.bytes() < UP_BYTES_MAX {
            let mut out = Vec::new();
            self.clients[client].core().transmit(64 * 1024, now_ns, &mut out);
            let bytes = out.concat();
            if !bytes.is_empty() {
                moved = true;
                let at_ns = conn.up.send(bytes, now_ns, &self.faults, &mut self.random);
                self.plan_at(at_ns, Due::Up(at));
            }
        }
        moved | self.read(client, at)
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
            self.plan_at(at_ns, Due::Down(at));
        }
        if more_room {
            self.wake_holder(sock);
        }
        self.feed(client, &bytes);
        if over {
            self.let_go(client, "closed by the server");
            return true;
        }
        !bytes.is_empty()
    }

    fn feed(&mut self, client: usize, mut bytes: &[u8]) {
        let now_ns = self.now_ns;
        let client = &mut self.clients[client];
        while !bytes.is_empty() {
            let room = client.reader.room();
            let taken = room.len().min(bytes.len());
            room[..taken].copy_from_slice(&bytes[..taken]);
            client.reader.filled(taken);
            bytes = &bytes[taken..];
            while let Some(frame) = client.reader.next_frame().expect("the server sends frames") {
                client.core().frame(frame, now_ns);
            }
        }
    }

    /// The client wants its connection to end.
    fn hang_up(&mut self, client: usize) {
        if let Some(at) = self.clients[client].conn {
            self.end_towards_server(at, Cut::Reset);
        }
        self.let_go(client, "hung up");
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
        self.clients[client].core().disconnected(self.now_ns, why);
        self.wake_client(client, self.now_ns);
    }

    pub(super) fn end_towards_server(&mut self, at: usize, cut: Cut) {
        let (Some(server), Some(conn)) = (&mut self.server, &mut self.conns[at]) else { return };
        let sock = conn.sock;
        let mut peer = server.shards[0].io.inner.peer(sock);
        match cut {
            Cut::Reset => peer.reset = true,
            Cut::HalfOpen => {}
            Cut::MidFrame => {
                let unsent = conn.up.drain();
                let some = self.random.index(unsent.len() + 1);
                peer.inbound.extend(&unsent[..some]);
                peer.ended = true;
            }
        }
        drop(peer);
        self.wake_holder(sock);
    }
}
