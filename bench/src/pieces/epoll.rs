//! The epoll backend's loop: requests received from many sockets, an answer sent to each.
//!
//! The sockets are pairs of this process, so what the kernel reports is there before it is asked for, and the same
//! each time; only instructions of the program are counted, the kernel's are not.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use uringest::buf::{Mapping, Pages, Span};
use uringest::ids::{BufId, RegionId, SockId};
use uringest::io::epoll::{EpollIo, EpollSpec};
use uringest::io::{Completions, Io, Op, Outcome, SocketHandle, Token, TokenKind, Wait};
use uringest::limits::{COMPLETIONS_PER_TICK, HEADER_BYTES_U32, SHARED_RING_BYTES};

use super::{Piece, Repeat, frame};

const SOCKETS: u32 = 256;
const REGION: RegionId = RegionId(0);
/// Turns after which what was sent must have arrived.
const TURNS_MAX: usize = 100;

pub(super) const PIECES: &[Piece] =
    &[Piece { name: "epoll_answer_256", unit: "request", units: SOCKETS, prepare: || Box::new(Loop::new()) }];

struct Loop {
    io: EpollIo,
    socks: Vec<SockId>,
    clients: Vec<UnixStream>,
    request: Vec<u8>,
    /// Bytes of each socket's request that have not been received.
    missing: Vec<u32>,
    completions: Completions,
    /// Buffers the backend is done with.
    done: Vec<BufId>,
}

impl Loop {
    fn new() -> Loop {
        let mapping =
            Mapping::mirrored(SHARED_RING_BYTES as usize, Pages::Small).expect("memory for a benchmark");
        let mut spec = EpollSpec::new(REGION, Arc::new(mapping), SHARED_RING_BYTES, SOCKETS);
        spec.precise_waits = false; // not every valgrind knows epoll_pwait2
        let mut io = EpollIo::new(spec).expect("epoll");
        let mut clients = Vec::new();
        let mut socks = Vec::new();
        for index in 0..SOCKETS {
            let (client, server) = UnixStream::pair().expect("descriptors");
            let sock = io.attach(SocketHandle::Fd(OwnedFd::from(server))).expect("room in the table");
            io.submit(Op::ReceiveShared { sock }, Token::new(TokenKind::Receive, 1, index)).expect("room");
            clients.push(client);
            socks.push(sock);
        }
        let completions = Completions::with_capacity(COMPLETIONS_PER_TICK);
        Loop {
            io,
            socks,
            clients,
            request: frame(1, 1, 1, 1),
            missing: vec![0; SOCKETS as usize],
            completions,
            done: Vec::new(),
        }
    }

    fn answer(&mut self, index: u32, to: Span) {
        let list = self.io.span_list().expect("few sends");
        self.io.push_span(list, to);
        let send = Op::Send { sock: self.socks[index as usize], spans: list };
        self.io.submit(send, Token::new(TokenKind::Send, 1, index)).expect("room");
    }
}

impl Repeat for Loop {
    /// The clients read their answers and send the next requests.
    fn ready(&mut self) {
        let mut answer = [0; HEADER_BYTES_U32 as usize];
        for client in &mut self.clients {
            client.set_nonblocking(true).expect("a socket");
            let _none_the_first_time = client.read(&mut answer);
            client.write_all(&self.request).expect("room in the socket");
        }
        self.missing.fill(u32::try_from(self.request.len()).expect("small"));
        for buffer in self.done.drain(..) {
            self.io.recycle(buffer);
        }
    }

    fn work(&mut self) {
        let (mut received, mut sent) = (0, 0);
        for _ in 0..TURNS_MAX {
            self.io.reap(Wait::No, &mut self.completions).expect("epoll goes on");
            let mut completions = std::mem::take(&mut self.completions);
            for completion in completions.drain(..) {
                match completion.outcome {
                    Outcome::Received { buffer, at, bytes, buffer_done } => {
                        if buffer_done {
                            self.done.push(buffer);
                        }
                        // A request over the end of a buffer is reported in two parts.
                        let index = completion.token.index();
                        let missing = &mut self.missing[index as usize];
                        *missing -= bytes;
                        if *missing == 0 {
                            received += 1;
                            self.answer(
                                index,
                                Span { region: REGION, at, bytes: HEADER_BYTES_U32.min(bytes) },
                            );
                        }
                    }
                    Outcome::Sent { .. } => sent += 1,
                    outcome => panic!("{outcome:?}"),
                }
            }
            self.completions = completions;
            if sent == SOCKETS {
                break;
            }
        }
        assert!(received == SOCKETS && sent == SOCKETS);
    }
}
