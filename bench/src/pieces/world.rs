//! The scripted world as a shard sees it, shared with whoever plays its clients; what the world does is not counted.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use uringest::buf::{Mapping, Span};
use uringest::ids::{BufId, FileId, RegionId, SockId};
use uringest::io::scripted::Scripted;
use uringest::io::{
    Capabilities, Clock, Completions, FileHandle, Io, IoError, IoFatal, Op, Refused, SocketHandle,
    SpanListId, Token, Wait, WakeHandle,
};

use crate::callgrind::uncounted;

/// See the module.
pub(super) struct World {
    shared: Rc<RefCell<Scripted>>,
    capabilities: Capabilities,
}

impl World {
    /// The world, and the hand on it.
    pub(super) fn new(scripted: Scripted) -> (World, Rc<RefCell<Scripted>>) {
        let capabilities = scripted.capabilities().clone();
        let shared = Rc::new(RefCell::new(scripted));
        (World { shared: Rc::clone(&shared), capabilities }, shared)
    }

    fn with<T>(&self, what: impl FnOnce(&mut Scripted) -> T) -> T {
        uncounted(|| what(&mut self.shared.borrow_mut()))
    }
}

impl Io for World {
    fn submit(&mut self, op: Op, token: Token) -> Result<(), Refused> {
        self.with(|world| world.submit(op, token))
    }

    fn reap(&mut self, wait: Wait, out: &mut Completions) -> Result<(), IoFatal> {
        self.with(|world| world.reap(wait, out))
    }

    fn recycle(&mut self, buffer: BufId) {
        self.with(|world| world.recycle(buffer));
    }

    fn span_list(&mut self) -> Option<SpanListId> {
        self.with(Scripted::span_list)
    }

    fn push_span(&mut self, list: SpanListId, span: Span) {
        self.with(|world| world.push_span(list, span));
    }

    fn drop_span_list(&mut self, list: SpanListId) {
        self.with(|world| world.drop_span_list(list));
    }

    fn attach(&mut self, socket: SocketHandle) -> Result<SockId, (IoError, SocketHandle)> {
        self.with(|world| world.attach(socket))
    }

    fn detach(&mut self, sock: SockId) -> SocketHandle {
        self.with(|world| world.detach(sock))
    }

    fn attach_file(&mut self, file: FileHandle) -> Result<FileId, (IoError, FileHandle)> {
        self.with(|world| world.attach_file(file))
    }

    fn detach_file(&mut self, file: FileId) -> FileHandle {
        self.with(|world| world.detach_file(file))
    }

    fn attach_region(&mut self, id: RegionId, mapping: &Arc<Mapping>, receive: bool) {
        self.with(|world| world.attach_region(id, mapping, receive));
    }

    fn detach_region(&mut self, id: RegionId) {
        self.with(|world| world.detach_region(id));
    }

    fn clock(&mut self) -> Clock {
        self.with(Scripted::clock)
    }

    fn wake_handle(&self) -> WakeHandle {
        self.with(|world| world.wake_handle())
    }

    fn wake(&mut self, peer: &WakeHandle) {
        self.with(|world| world.wake(peer));
    }

    fn overflows(&self) -> u64 {
        0
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}
