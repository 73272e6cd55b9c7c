"""The kernel's own code in the tasks, where the kernel of the dump had other code there.

A program knows the addresses of the vdso's functions from its start on, so they must stay. Where
this kernel's vdso has the same bytes, it is moved to where the task had its own. Where it has not,
the dumped one stays where it was, as ordinary memory of the task that is never writable and
executable at once. Each of its functions begins with a jump to this kernel's function of the same
name, whose vdso stands elsewhere, at an address that is free in every task. Where the dumped one
had its data there are zeros. To the code of every kernel they say that there is no clock that can
be read without a call: a function that this kernel does not have makes the call.

The next dump finds an ordinary task: the old functions are memory of it, and lead to the vdso that
its kernel has mapped. On yet another kernel that one stays in turn, and leads on.

/proc/PID/auxv names the kernel's vdso; what the program itself has on its stack is left alone.

A thread that stands inside of the old one is found, and refused, and so is one in the handler of a
signal that has interrupted a function there in the bytes that become the jump.

Not guaranteed: that such a handler is found where it has used more of its stack than is looked at,
or where its stack comes late. One that has interrupted a function further on returns into the old
code, which then calls the kernel; but time(2) and coarse clocks may give 0 that once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.errors import RestoreError
from ckpt.infect.batch import number
from ckpt.infect.predecessor import STACK, frame_into
from ckpt.mem.build import clip
from ckpt.mem.vdso import Function, KernelCode, Vdso
from ckpt.mem.vma import (
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    PROT_EXEC,
    PROT_READ,
    Backing,
    Status,
    Vma,
)
from ckpt.procfs.auxv import AT_SYSINFO_EHDR
from ckpt.pstree.sharing import VM
from ckpt.record import record, replace
from ckpt.restore.load import vdso_bytes
from ckpt.units import Range, page_down, page_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckpt.mem.build import Memory
    from ckpt.restore.load import Loaded, TaskImage

_KINDS = Status.VDSO | Status.VVAR
_JUMP_LEN = 12
_CALLS = ("clock_getres", "clock_gettime", "getcpu", "gettimeofday", "time")
"""Functions that do what the system call of their name does."""

_ALONE = frozenset({"getrandom", "sgx_enter_enclave"})
"""Functions that work with zeros for data, or without any."""


@record(frozen=True)
class StandIn:
    """What becomes of a dumped vdso: where it was, and the function here that each entry leads to,
    by its offset there and here; None: it makes the system call of that name."""

    range: Range
    entries: tuple[tuple[int, int | None, str], ...]

    def patches(self, at: int) -> Iterator[tuple[int, bytes]]:
        """What to write and where, with this kernel's vdso `at` an address."""
        for offset, target, name in self.entries:
            code = _call(name) if target is None else _jump(at + target)
            yield self.range.start + offset, code


def adopt(loaded: Loaded, here: KernelCode) -> dict[int, StandIn]:
    """Have the memory of every task whose vdso is of another kernel hold it as memory of its own;
    what stands in for it, by the task (the first of those who share a memory).

    Raises RestoreError where the functions here can't take the place of those.
    """
    found: dict[int, StandIn] = {}
    memories: dict[int, Memory] = {}
    for pid, image in loaded.tasks.items():
        first = loaded.sharing.first(VM, pid)
        if first == pid and (stand_in := _stand_in(loaded, image, here)):
            found[pid] = stand_in
            memories[pid] = _as_memory(image.memory)
        if first in found:
            _check_threads(loaded, image, found[first])
            loaded.tasks[pid] = replace(image, memory=memories[first])
    return found


def entries_of(dumped: Vdso, here: Vdso | None) -> tuple[tuple[int, int | None, str], ...]:
    """See `StandIn`. Raises RestoreError."""
    try:
        theirs = dumped.functions
        ours = {name: f for f in here.functions for name in f.names} if here else {}
    except ValueError as error:
        raise _another(str(error)) from error
    return tuple(entry for function in theirs if (entry := _entry(function, ours)))


def _entry(function: Function, ours: dict[str, Function]) -> tuple[int, int | None, str] | None:
    """None for a function that stays as it is."""
    name = min(function.names)
    target = next((ours[n].offset for n in sorted(function.names) if n in ours), None)
    if target is None and name in _ALONE:
        return None
    if target is None and name not in _CALLS:
        raise _another(f"this kernel has no {name}")
    if function.size < _JUMP_LEN:
        raise _another(f"its {name} of {function.size} bytes has no room for a jump")
    return function.offset, target, name


def _stand_in(loaded: Loaded, image: TaskImage, here: KernelCode) -> StandIn | None:
    """None where this kernel's own vdso takes its place, or nothing does."""
    raw = vdso_bytes(loaded, image)
    sizes = tuple((len(r), status) for r, status in kernel_mappings(image.memory))
    if not raw:
        return None
    if len(raw) > 1:
        raise _another("there are several", image.task.pid)
    start, content = raw.popitem()
    dumped = Vdso(content)
    if sizes == here.mappings and here.vdso is not None and dumped.same(here.vdso):
        return None
    try:
        return StandIn(Range(start, start + len(content)), entries_of(dumped, here.vdso))
    except RestoreError as error:
        sure = all(layer.has_sums for layer in loaded.chain.layers)
        rotten = "" if sure else ", or its pages are damaged, which no checksum tells"
        raise _another(error.why + rotten, image.task.pid) from error


def _as_memory(memory: Memory) -> Memory:
    return replace(memory, vmas=tuple(_own(v) if v.status & _KINDS else v for v in memory.vmas))


def _own(v: Vma) -> Vma:
    """Like any mapping that the task has made."""
    prot = PROT_READ | PROT_EXEC if v.status & Status.VDSO else PROT_READ
    return Vma(
        range=v.range,
        prot=prot,
        flags=MAP_PRIVATE | MAP_ANONYMOUS,
        status=Status.REGULAR | Status.ANON_PRIVATE,
        backing=Backing.NONE,
    )


def _check_threads(loaded: Loaded, image: TaskImage, stand_in: StandIn) -> None:
    start = stand_in.range.start
    entries = {start + offset for offset, _, _ in stand_in.entries}
    for tid, core in image.threads.items():
        registers = core.thread_info.gpregs
        if registers.ip in stand_in.range and registers.ip not in entries:
            raise _in_the_middle(image.task.pid, tid, "it stands")
        stack = _stack(loaded, image, registers.sp & ~7)
        if any(frame_into(stack, Range(entry + 1, entry + _JUMP_LEN)) for entry in entries):
            raise _in_the_middle(image.task.pid, tid, "a signal has interrupted it")


def _stack(loaded: Loaded, image: TaskImage, start: int) -> bytes:
    """What the set has of it; zeros elsewhere."""
    found = bytearray(STACK)
    for pages in clip(image.memory.pages, Range(page_down(start), page_up(start + STACK))):
        raw = loaded.read(pages)
        first = max(0, start - pages.range.start)
        at = pages.range.start + first - start
        part = raw[first : first + STACK - at]
        found[at : at + len(part)] = part
    return bytes(found)


def _in_the_middle(pid: int, tid: int, what: str) -> RestoreError:
    return RestoreError(
        f"its vdso is of another kernel, and {what} in the middle of that",
        pid=pid,
        resource=f"thread {tid}",
        hint="dump it again, or restore it on the kernel that it was dumped on",
    )


def _jump(target: int) -> bytes:
    """mov rax, target; jmp rax."""
    return b"\x48\xb8" + target.to_bytes(8, "little") + b"\xff\xe0"


def _call(name: str) -> bytes:
    """mov eax, the number; syscall; ret."""
    return b"\xb8" + number(name).to_bytes(4, "little") + b"\x0f\x05\xc3"


def _another(why: str, pid: int | None = None) -> RestoreError:
    hint = "restore it on the kernel that it was dumped on"
    return RestoreError("its vdso is of another kernel", pid=pid, why=why, hint=hint)


@record(frozen=True)
class Placing:
    """Where the kernel's mappings shall be in one address space, ascending, and what is to be
    written into it when it is filled. `foreign`: the dumped vdso is memory of the task now."""

    kernel: tuple[tuple[Range, Status], ...]
    patches: tuple[tuple[int, bytes], ...] = ()
    foreign: bool = False

    def __str__(self) -> str:
        kernel = next((str(where) for where, kind in self.kernel if kind & Status.VDSO), "none")
        return f"its vdso is of another kernel, {len(self.patches)} functions lead to {kernel}"


def place(image: TaskImage, stand_in: StandIn | None, here: KernelCode, at: int) -> Placing:
    """`at`: where this kernel's mappings go if something stands in for the dumped ones; tells the
    auxiliary vector so."""
    if stand_in is None:
        return Placing(tuple(kernel_mappings(image.memory)))
    kernel = []
    vdso = 0
    for size, status in here.mappings:
        kernel.append((Range(at, at + size), status))
        vdso = at if status & Status.VDSO else vdso
        at += size
    words = image.mm.mm_saved_auxv
    for i in range(0, len(words) - 1, 2):
        if words[i] == AT_SYSINFO_EHDR:
            words[i + 1] = vdso
    return Placing(tuple(kernel), tuple(stand_in.patches(vdso)), foreign=True)


def kernel_mappings(memory: Memory) -> list[tuple[Range, Status]]:
    """The vdso and its data, ascending."""
    return [(v.range, v.status & _KINDS) for v in memory.vmas if v.status & _KINDS]
