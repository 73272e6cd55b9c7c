"""A session without a socket, for a target that can have no descriptor more.

The leader stands in its stub and each system call of a batch is made by sending it there with that
call's registers: some 50 us a call instead of one. No descriptor can be passed.

If we end, the call under way is made, the wait after it runs out, and the leader goes home by
itself as always.
"""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ckpt._native import lib
from ckpt.errors import DeadlineError, TargetError
from ckpt.infect import entry, way
from ckpt.infect.session import Look, Session
from ckpt.tracee import ops, vm

if TYPE_CHECKING:
    from ckpt.infect.batch import Batch, Outcome
    from ckpt.infect.blob import Layout
    from ckpt.tracee.stopped import Stopped

_HEAD = struct.Struct("<IIII")
_ENTRY = struct.Struct("<HHI6Q6BHqq")
_INSN = 2
_TOLD = 60
_ARGS = (way.RDI, way.RSI, way.RDX, way.R10, way.R8, way.R9)
_U64 = (1 << 64) - 1


class DrivenSession(Session):
    """As Session; `start`, `finish` and descriptors are not to be had."""

    can_pass_fds = False

    def __init__(self, leader: Stopped, layout: Layout, site: entry.Site, look: Look) -> None:
        self.pid = leader.tid
        self.layout = layout
        self._leader = leader
        self._site = site
        self._look = look
        self._seq = 0

    def run(self, batch: Batch, *, fds: Sequence[int] = (), timeout_s: float = 60.0) -> Outcome:
        """Make the calls of `batch`. Raises as Session.run; ValueError for descriptors."""
        if fds:
            raise ValueError("this session can't pass descriptors")
        self._check(batch)
        at = self.layout.batches
        raw = bytearray(batch.encode(at.start, self.layout.data))
        if len(raw) > len(at):
            raise ValueError(f"a batch of {len(raw)} bytes for a window of {len(at)}")
        vm.write(self.pid, at.start, bytes(raw))
        deadline = time.monotonic() + timeout_s
        results: list[int] = []
        for i in range(len(batch)):
            place = _HEAD.size + _ENTRY.size * i
            op, flags, nr, *rest = _ENTRY.unpack_from(raw, place)
            args = [
                self._argument(value, kind, results)
                for value, kind in zip(rest[:6], rest[6:12], strict=True)
            ]
            result = self._execute(op, nr, args, deadline)
            results.append(result)
            if not _accepted(flags, rest[12], rest[13], result):
                error = batch.failure(i, result)
                error.pid = self.pid
                error.args = (str(error),)
                raise error
        raw = bytearray(vm.read(self.pid, at.start, len(raw)))
        _HEAD.pack_into(raw, 0, len(batch), len(batch), 0, 1)
        for i, result in enumerate(results):
            struct.pack_into("<q", raw, _HEAD.size + _ENTRY.size * (i + 1) - 8, result)
        return batch.decode(at.start, bytes(raw))

    def leave(self, timeout_s: float = 5.0) -> None:
        """Send the leader to where the session is taken down."""
        entry.stand(self.pid, timeout_s)
        vm.write(self.pid, self.layout.data + _TOLD, struct.pack("<I", 1))
        self._send(self._site.addr + self._site.piece.back, {way.RDI: self.layout.data})
        ops.cont(self.pid)

    def close(self) -> None:
        """Nothing is held."""

    def fileno(self) -> int:
        return -1

    def _send(self, rip: int, changes: dict[int, int]) -> None:
        regs = list(way.REGS.unpack(way.entered(self._leader.regs, rip)))
        for register, value in changes.items():
            regs[register] = value & _U64
        ops.set_regs(self.pid, way.REGS.pack(*regs))

    def _call(self, nr: int, args: Sequence[int], deadline: float) -> int:
        drive = self._site.piece.drive
        waiting = self._site.within(drive.start + _INSN, drive.end)
        self._until_waiting(waiting, deadline)
        self._send(
            self._site.addr + drive.start,
            {way.RAX: nr, **dict(zip(_ARGS, args, strict=True))},
        )
        ops.cont(self.pid)
        self._until_waiting(waiting, deadline)
        result = int(way.REGS.unpack(ops.get_regs(self.pid))[way.RBP])
        return result - (1 << 64) if result >> 63 else result

    def _until_waiting(self, waiting: range, deadline: float) -> None:
        """The leader stands behind a call, its result in rbp."""
        pause_s = 0.0
        while True:
            rip = entry.stand(self.pid, max(0.1, deadline - time.monotonic()))[way.RIP]
            if rip in waiting and not self._in_front(rip):
                return
            if rip not in self._site.code.range:
                raise TargetError("the task went on by itself", pid=self.pid)
            if time.monotonic() > deadline:
                raise DeadlineError("a call in the task does not return", pid=self.pid)
            ops.cont(self.pid)
            time.sleep(pause_s)
            pause_s = min(0.02, pause_s + 0.0005)

    def _in_front(self, rip: int) -> bool:
        """Right behind the call's instruction the result is not in rbp yet."""
        return rip == self._site.addr + self._site.piece.drive.start + _INSN

    def _argument(self, value: int, kind: int, results: Sequence[int]) -> int:
        if kind == lib.CKPT_ARG_DATA:
            return value + self.layout.data
        if kind == lib.CKPT_ARG_RESULT:
            return results[value]
        if kind == lib.CKPT_ARG_LOAD32:
            return int(struct.unpack("<i", vm.read(self.pid, self.layout.data + value, 4))[0])
        if kind == lib.CKPT_ARG_LOAD64:
            return int(struct.unpack("<Q", vm.read(self.pid, self.layout.data + value, 8))[0])
        return value

    def _execute(self, op: int, nr: int, args: Sequence[int], deadline: float) -> int:
        if op == lib.CKPT_OP_CALL:
            return self._call(nr, args, deadline)
        if op == lib.CKPT_OP_COPY:
            vm.write(self.pid, args[0], vm.read(self.pid, args[1], args[2]))
            return 0
        return -errno.ENOSYS


def _accepted(flags: int, also: int, want: int, result: int) -> bool:
    if flags & lib.CKPT_ANY or (also and result == -also):
        return True
    if flags & lib.CKPT_EXACT:
        return result == want
    return not -4096 < result < 0
