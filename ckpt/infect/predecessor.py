"""What an earlier controller left behind that died in the middle.

Its stub brings the target out of it by itself, in a fraction of a second. Until then the target
must not be infected again: a thread may be in the stub, or have a signal frame whose return goes
there. Afterwards only bytes are left, in places that nobody uses.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ckpt.errors import TargetError
from ckpt.infect import way
from ckpt.infect.stub import LEADER_AT, MAGIC_BYTES, pieces
from ckpt.tracee import ops
from ckpt.units import Range

if TYPE_CHECKING:
    from ckpt.infect.place import Memory
    from ckpt.procfs.maps import Mapping
    from ckpt.tracee.stopped import SeizedTask

_STACK = 1 << 16


def check(
    task: SeizedTask,
    memory: Memory,
    mappings: Sequence[Mapping],
    seen: Iterable[tuple[Range, bytes]],
) -> None:
    """Raise TargetError while a predecessor is in the target. `seen` are its holes and what stands
    there."""
    marked = [(hole, held) for hole, held in seen if MAGIC_BYTES in held]
    if not marked:
        return
    stubs = [hole for hole, _ in marked]
    if _window_there(marked, mappings) or any(
        _points_into(memory, thread.tid, stubs) for thread in task.threads
    ):
        raise TargetError(
            "another ckpt, which was killed, has not left it yet",
            pid=task.pid,
            hint="try again in a second",
        )


def _window_there(marked: Iterable[tuple[Range, bytes]], mappings: Sequence[Mapping]) -> bool:
    starts = {m.start for m in mappings if not m.has_file and m.executable}
    for _, held in marked:
        at = held.find(MAGIC_BYTES)
        size = struct.unpack_from("<I", held.ljust(at + 12), at + 8)[0]
        if size != len(pieces()[0]) or at + LEADER_AT + 8 > len(held):
            continue
        if struct.unpack_from("<Q", held, at + LEADER_AT)[0] in starts:
            return True
    return False


def _points_into(memory: Memory, tid: int, stubs: Sequence[Range]) -> bool:
    regs = way.REGS.unpack(ops.get_regs(tid))
    stack = memory.read(regs[way.RSP] & ~7, _STACK)
    words = memoryview(stack[: len(stack) & ~7]).cast("Q")
    return any(
        regs[way.RIP] in stub or any(stub.start <= word < stub.end for word in words)
        for stub in stubs
    )
