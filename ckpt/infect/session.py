"""A session with a parasite: batches go in, outcomes come out.

Batches are written into the target's window with process_vm_writev(2); commands and replies are
messages of parasite/include/wire.h on a SEQPACKET socket whose other end only the parasite holds,
so that end of file means that the target is gone, and for the parasite that we are.

One thread of ours uses a session at a time. On any error the session is of no further use: leave
its scope, which cures or ends the target.
"""

from __future__ import annotations

import array
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ckpt._native import lib
from ckpt.errors import DeadlineError, KernelError, TargetError
from ckpt.infect.batch import Batch, Outcome
from ckpt.infect.blob import Layout
from ckpt.tracee import vm

if TYPE_CHECKING:
    from ckpt.infect.entry import Site

_COMMAND = struct.Struct("<IIQ")
_REPLY = struct.Struct("<IIq")
_HELLO = struct.Struct("<QQIiQ")
_LOOK_MS = 200

Look = Callable[[], None]
"""Called while a reply is awaited; raises when none can come any more."""


def _no_look() -> None:
    return


class Session:
    """The controller's end. `look` is asked every 200 ms of waiting whether the target still can
    answer (a tracer knows; a parent knows)."""

    can_pass_fds = True
    only: frozenset[str] | None = None
    """The calls that may be made, if not all."""
    further: Site | None = None
    """Where the piece of the other threads goes; None: there is no room. Chosen with the leader's,
    which it must not touch."""

    def __init__(
        self, pid: int, sock: socket.socket, layout: Layout, look: Look = _no_look
    ) -> None:
        self.pid = pid
        self.layout = layout
        self._sock = sock
        self._look = look
        self._seq = 0

    def hello(self, timeout_s: float = 5.0) -> None:
        """Check that a parasite of this build answers. Raises KernelError where it does not."""
        self._command(lib.CKPT_CMD_HELLO, 0)
        magic, wire_hash, version, _, window = _HELLO.unpack(self._receive(_HELLO.size, timeout_s))
        expected = (lib.CKPT_BLOB_MAGIC, lib.ckpt_wire_hash, lib.CKPT_WIRE_VERSION)
        if (magic, wire_hash, version) != expected or window != self.layout.window.start:
            raise KernelError("something else answers in the task", pid=self.pid)

    def run(self, batch: Batch, *, fds: Sequence[int] = (), timeout_s: float = 60.0) -> Outcome:
        """Run `batch`; `fds` are our descriptors that its `receive_fds` entries take, in order.

        Raises KernelError (an entry failed), TargetError (it died), DeadlineError.
        """
        raw = self.start(batch, fds=fds)
        return self.finish(batch, len(raw), timeout_s)

    def start(self, batch: Batch, *, fds: Sequence[int] = ()) -> bytes:
        """Write and start `batch` without waiting; `finish` must follow."""
        self._check(batch)
        at = self.layout.batches
        raw = batch.encode(at.start, self.layout.data)
        if len(raw) > len(at):
            raise ValueError(f"a batch of {len(raw)} bytes for a window of {len(at)}")
        vm.write(self.pid, at.start, raw)
        self._command(lib.CKPT_CMD_RUN, at.start)
        for first in range(0, len(fds), lib.CKPT_MAX_FDS):
            self._send_fds(fds[first : first + lib.CKPT_MAX_FDS])
        return raw

    def _check(self, batch: Batch) -> None:
        if self.only is not None and (beyond := batch.names - self.only):
            raise ValueError(f"calls that the task's filters were not asked about: {beyond}")

    def finish(self, batch: Batch, size: int, timeout_s: float = 60.0) -> Outcome:
        """Wait for the batch that `start` started; `size` is the length of what it returned."""
        seq, done, result = _REPLY.unpack(self._receive(_REPLY.size, timeout_s))
        if seq != self._seq:
            raise KernelError("an answer out of order", pid=self.pid, why=f"{seq}, not {self._seq}")
        if done < len(batch):
            error = batch.failure(done, result)
            error.pid = self.pid
            error.args = (str(error),)
            raise error
        at = self.layout.batches.start
        return batch.decode(at, vm.read(self.pid, at, size))

    def leave(self, timeout_s: float = 5.0) -> None:
        """Tell the parasite to go, and wait until it has let go of the socket."""
        self._command(lib.CKPT_CMD_LEAVE, 0)
        if self._receive(1, timeout_s, end_expected=True):
            raise KernelError("the parasite still talks after it was told to leave", pid=self.pid)

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        """Close our end; a parasite that still serves takes that as our death."""
        self._sock.close()

    def _send_fds(self, fds: Sequence[int]) -> None:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
        self._sock.sendmsg([b"f"], [rights])

    def _command(self, what: int, arg: int) -> None:
        self._seq += 1
        lib.ckpt_fault_point()
        try:
            self._sock.send(_COMMAND.pack(what, self._seq, arg))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise TargetError("the task ended", pid=self.pid) from error

    def _receive(self, size: int, timeout_s: float, *, end_expected: bool = False) -> bytes:
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        lib.ckpt_fault_point()
        while not poll.poll(_LOOK_MS):
            self._look()
            if time.monotonic() > deadline:
                raise DeadlineError(
                    "the parasite does not answer", pid=self.pid, why=f"{timeout_s:g} s are over"
                )
        try:
            message = self._sock.recv(256)
        except ConnectionResetError:
            message = b""
        if end_expected and not message:
            return message
        if len(message) != size:
            raise TargetError("the task ended while it was being worked on", pid=self.pid)
        return message
