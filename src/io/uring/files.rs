//! Operations on files: plain requests, one each. What the disk can do at once is started when it is submitted; what
//! could block (every sync, every write to a file that is not open for direct I/O) the kernel hands to its workers.
//!
//! Descriptors are used as they are: a file has thousands of operations a second at most, so that the look-up saved by
//! the ring's own table does not pay for keeping it (docs/decisions/0007).

use io_uring::{opcode, squeue, types};

use crate::buf::Span;
use crate::ids::FileId;
use crate::io::{Completions, Token, files};

use super::UringIo;
use super::ops::{Kind, OpArgument};

impl UringIo {
    /// Takes an operation on a file in; false when a table or queue is full.
    pub(super) fn start_file(
        &mut self,
        kind: Kind,
        file: FileId,
        at: u64,
        span: Option<Span>,
        token: Token,
    ) -> bool {
        assert!(span.is_none_or(|span| span.bytes > 0), "a transfer has bytes");
        if self.files.busy() || !self.room_for(1) {
            return false;
        }
        debug_assert!(self.ops.find(token).is_none(), "a token is in flight once: {token:?}");
        let argument = span.map_or(OpArgument::None, |span| OpArgument::InFile { at, span });
        let Some(index) = self.ops.insert(token, kind, file.0, argument) else { return false };
        self.files.began(file.0);
        self.arm(index);
        true
    }

    /// The request an operation on a file is.
    pub(super) fn file_request(&mut self, index: u32) -> Option<squeue::Entry> {
        let op = &self.ops[index];
        let (kind, argument, by_worker) = (op.kind, op.argument, op.by_worker);
        let fd = types::Fd(self.files.fd(op.sock));
        let entry = match argument {
            OpArgument::InFile { at, span } => self.transfer(kind, fd, at, span),
            _ => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
        };
        Some(if by_worker { entry.flags(squeue::Flags::ASYNC) } else { entry })
    }

    fn transfer(&mut self, kind: Kind, fd: types::Fd, at: u64, span: Span) -> squeue::Entry {
        let (address, registered) = self.regions.address(span);
        let durably = if kind == Kind::WriteFileDurably { libc::RWF_DSYNC } else { 0 };
        let bytes = span.bytes;
        match (kind == Kind::ReadFile, registered.or_else(|| self.file_buffer(span))) {
            (true, Some(slot)) => opcode::ReadFixed::new(fd, address, bytes, slot).offset(at).build(),
            (true, None) => opcode::Read::new(fd, address, bytes).offset(at).build(),
            (false, Some(slot)) => {
                opcode::WriteFixed::new(fd, address, bytes, slot).offset(at).rw_flags(durably).build()
            }
            (false, None) => opcode::Write::new(fd, address, bytes).offset(at).rw_flags(durably).build(),
        }
    }

    pub(super) fn file_completed(&mut self, index: u32, result: i32, out: &mut Completions) {
        let outcome = match (self.ops[index].kind, u32::try_from(result)) {
            (Kind::SyncFile, Ok(_)) => crate::io::Outcome::Done,
            (Kind::ReadFile, Ok(bytes)) => files::read(bytes),
            (_, Ok(bytes)) => files::written(bytes),
            // Nothing was done. Older kernels say so where it could not be done at once; a worker can wait.
            (_, Err(_)) if matches!(-result, libc::EAGAIN | libc::EINTR) && !self.closing => {
                self.ops[index].by_worker = true;
                return self.arm(index);
            }
            (_, Err(_)) => files::failed(-result),
        };
        self.finish(index, outcome, out);
    }
}
