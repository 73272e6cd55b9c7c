"""A tree of processes that do to their memory what they are told, beside a model of it.

Every method is one change, done by a process of the tree (or to it, from outside) and by the
model. What to change is named by numbers that are taken modulo what there is, so any numbers will
do. A change that the kernel may refuse by its own rules is one that changes nothing then.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.property.memory_model import FILE_WORD, READ, WRITE, Object, Page, Space
from tests.support import processes
from tests.support.case import Case
from tests.support.machine import PAGE, Machine, mappings, start_machine

BASE = 1 << 44
NR_SLOTS, SLOT_PAGES = 6, 4096
END = BASE + NR_SLOTS * SLOT_PAGES * PAGE
FILE_PAGES = 512
MAX_PROCESSES, MAX_PAGES = 3, 1400
_SYS = {"mmap": 9, "mprotect": 10, "munmap": 11, "mremap": 25, "madvise": 28, "wait4": 61}
_SYS |= {"mlock": 149, "munlock": 150}
_FIXED, _NORESERVE, _ANONYMOUS, _SHARED, _PRIVATE = 0x10, 0x4000, 0x20, 1, 2
_MAYMOVE, _MOVE_TO, _DONTUNMAP = 1, 2, 4
DONTNEED, FREE, REMOVE, HUGEPAGE, NOHUGEPAGE, COLLAPSE = 4, 8, 9, 14, 15, 25
ADVICES = (DONTNEED, FREE, REMOVE, HUGEPAGE, NOHUGEPAGE, COLLAPSE)
Where = tuple[int, int, int]
"""Which run of pages, where in it, how many at most."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def contents(word: int) -> bytes:
    return struct.pack("<Q", word) * (PAGE // 8)


def in_slot(number: int) -> bool:
    """Whether a page is of the model's own mappings, and none of the heap."""
    return BASE <= number * PAGE < END


@dataclass
class Process:
    """`heap`: how many pages it got from brk(2), which end at `heap_end`."""

    machine: Machine
    space: Space
    parent: Process | None = None
    heap: int = 0
    heap_end: int = 0
    children: list[Process] = field(default_factory=list)

    def call(self, name: str, *words: int) -> int:
        return self.machine.command("call", _SYS[name], *words)

    def part(self, where: Where, fits: Callable[[Page], bool], *, heap: bool = True) -> range:
        """A range of pages that all fit; empty where there is none."""
        runs = [
            run
            for run in self.space.runs()
            if fits(self.space.pages[run.start]) and (heap or in_slot(run.start))
        ]
        if not runs:
            return range(0)
        run = runs[where[0] % len(runs)]
        first = run.start + where[1] % len(run)
        return range(first, min(run.stop, first + where[2]))


class Tree:
    """The processes, the oldest first, and the model of each one's memory."""

    def __init__(self, case: Case) -> None:
        data = b"".join(contents(FILE_WORD + i) for i in range(FILE_PAGES))
        self.case = case
        self.victim, machine = start_machine(case, data)
        self.all = [Process(machine, Space())]
        self._words = count(1 << 20, 1 << 20)
        self._numbers = count(1)

    @property
    def pid(self) -> int:
        return self.victim.pid

    def map(self, n: int, kind: str, slot: int, offset: int, nr: int) -> None:
        """Over whatever is there; at page `offset` of the slot."""
        p = self.all[n % len(self.all)]
        if len(p.space.pages) + nr > MAX_PAGES:
            return
        first = (BASE // PAGE) + slot % NR_SLOTS * SLOT_PAGES + offset
        rw = READ | WRITE
        if kind == "file":
            at = offset % (FILE_PAGES - nr + 1)
            flags = _PRIVATE | _FIXED
            got = p.machine.command("map", first * PAGE, nr * PAGE, rw, flags, at * PAGE)
            pages = [Page(rw, FILE_WORD + at + i, file=True) for i in range(nr)]
        else:
            flags = _ANONYMOUS | _FIXED | (_SHARED if kind == "shared" else _PRIVATE)
            flags |= _NORESERVE if kind == "noreserve" else 0
            prot = 0 if kind == "none" else rw
            got = p.call("mmap", first * PAGE, nr * PAGE, prot, flags, -1, 0)
            shared = Object([0] * nr) if kind == "shared" else None
            pages = [Page(prot, shared=shared, index=i) for i in range(nr)]
        assert got == first * PAGE
        p.space.unmap(first, nr)
        p.space.map(first, pages)

    def fill(self, n: int, where: Where, step: int, by: str) -> None:
        """`by`: fill, tfill (its second thread) or foreign (process_vm_writev of this process)."""
        p = self.all[n % len(self.all)]
        part = p.part(where, lambda page: page.prot == READ | WRITE)[::step]
        word = next(self._words)
        if not part:
            return
        if by == "foreign":
            for i, number in enumerate(part):
                self._foreign(p.machine.pid, number * PAGE, contents(word + i))
        else:
            p.machine.command(by, part.start * PAGE, len(part), step, word)
        for i, number in enumerate(part):
            p.space.pages[number].write(word + i)

    def load(self, n: int, where: Where, at: int) -> None:
        """read(2) of the file into the pages: the kernel writes."""
        p = self.all[n % len(self.all)]
        part = p.part(where, lambda page: page.prot == READ | WRITE)
        nr = min(len(part), FILE_PAGES - at)
        if nr > 0:
            assert p.machine.command("load", part.start * PAGE, nr, at) == nr * PAGE
            for i in range(nr):
                p.space.pages[part.start + i].write(FILE_WORD + at + i)

    def touch(self, n: int, where: Where) -> None:
        p = self.all[n % len(self.all)]
        part = p.part(where, lambda page: bool(page.prot & READ))
        p.machine.command("touch", part.start * PAGE, len(part))

    def unmap(self, n: int, where: Where) -> None:
        p = self.all[n % len(self.all)]
        if part := p.part(where, lambda _: True, heap=False):
            assert p.call("munmap", part.start * PAGE, len(part) * PAGE) == 0
            p.space.unmap(part.start, len(part))

    def move(self, n: int, where: Where, slot: int, offset: int, *, keep: bool) -> None:
        """mremap(2) to somewhere else, over whatever is there."""
        p = self.all[n % len(self.all)]
        part = p.part(where, lambda page: not keep or (page.anonymous and not page.locked))
        part = self._of_one_mapping(p, part)
        to = (BASE // PAGE) + slot % NR_SLOTS * SLOT_PAGES + offset
        if not part or not in_slot(part.start):
            return
        if to < part.stop and part.start < to + len(part):
            return
        if keep and len(p.space.pages) + len(part) > MAX_PAGES:
            return
        size, flags = len(part) * PAGE, _MAYMOVE | _MOVE_TO | (_DONTUNMAP if keep else 0)
        got = p.call("mremap", part.start * PAGE, size, size, flags, to * PAGE)
        assert got == to * PAGE
        p.space.move(part.start, len(part), to, keep=keep)

    def resize(self, n: int, where: Where, nr: int) -> None:
        """mremap(2) in place: to `nr` pages, if there is room."""
        p = self.all[n % len(self.all)]
        part = p.part(where, lambda page: page.shared is None)
        part = self._of_one_mapping(p, part)
        if not part or not in_slot(part.start):
            return
        first, more = part.start, range(part.stop, part.start + nr)
        model = p.space.pages[part.stop - 1]
        if more and (model.file or len(p.space.pages) + len(more) > MAX_PAGES):
            return
        got = p.call("mremap", first * PAGE, len(part) * PAGE, nr * PAGE, 0, 0)
        if any(number in p.space.pages for number in more):
            assert got < 0, "grown over another mapping"
            return
        assert got == first * PAGE
        p.space.unmap(first + nr, len(part) - nr)
        p.space.map(part.stop, (Page(model.prot, locked=model.locked) for _ in more))

    def protect(self, n: int, where: Where, prot: int) -> None:
        p = self.all[n % len(self.all)]
        if part := p.part(where, lambda _: True):
            assert p.call("mprotect", part.start * PAGE, len(part) * PAGE, prot) == 0
            for page in p.space.of(part):
                page.prot = prot

    def advise(self, n: int, where: Where, advice: int) -> None:
        p = self.all[n % len(self.all)]
        change, fits = _ADVICE.get(advice, (None, lambda _: True))
        part = p.part(where, fits)
        got = p.call("madvise", part.start * PAGE, len(part) * PAGE, advice)
        if change is not None:
            assert got == 0
            for page in p.space.of(part):
                change(page)

    def lock(self, n: int, where: Where, *, on: bool) -> None:
        p = self.all[n % len(self.all)]
        if part := p.part(where, lambda page: bool(page.prot & READ)):
            name = "mlock" if on else "munlock"
            assert p.call(name, part.start * PAGE, len(part) * PAGE) == 0
            for page in p.space.of(part):
                page.locked = on

    def brk(self, n: int, nr: int) -> None:
        """Let the heap grow by `nr` pages, or shrink by as much as is of our own making."""
        p = self.all[n % len(self.all)]
        now = p.machine.command("brk", 0) // PAGE
        if now != p.heap_end:
            p.heap, p.heap_end = 0, now
        nr = max(nr, -p.heap)
        p.machine.command("brk", nr * PAGE)
        if nr < 0:
            p.space.unmap(now + nr, -nr)
        p.space.map(now, (Page(READ | WRITE) for _ in range(nr)))
        p.heap += nr
        p.heap_end += nr

    def fork(self, n: int) -> None:
        if len(self.all) == MAX_PROCESSES:
            return
        p = self.all[n % len(self.all)]
        number = next(self._numbers)
        machine = Machine(p.machine.folder, number, 0)
        machine.pid = p.machine.command("fork", number)
        assert machine.answer() == 0
        child = Process(machine, p.space.forked(), p, p.heap, p.heap_end)
        p.children.append(child)
        self.all.append(child)

    def leave(self, n: int) -> None:
        """A child without children ends, and is waited for."""
        leaves = [p for p in self.all if p.parent and not p.children]
        if not leaves:
            return
        p = leaves[n % len(leaves)]
        assert p.parent is not None
        p.machine.send("exit")
        assert p.parent.call("wait4", p.machine.pid, 0, 0, 0) == p.machine.pid
        p.machine.forget()
        p.parent.children.remove(p)
        self.all.remove(p)

    def become_new(self, n: int) -> None:
        """execve(2): the same pid, another address space."""
        p = self.all[n % len(self.all)]
        assert p.machine.command("exec") == 0
        p.space, p.heap, p.heap_end = Space(), 0, 0

    def wait_idle(self) -> None:
        for p in self.all:
            p.machine.wait_idle()

    def wait_gone(self) -> None:
        self.victim.await_gone([p.machine.pid for p in self.all])
        assert [processes.state(p.machine.pid) for p in self.all] == [""] * len(self.all)

    def _of_one_mapping(self, p: Process, part: range) -> range:
        """As much of the beginning of `part` as is one mapping, which is all that mremap takes."""
        for m in mappings(p.machine.pid):
            if part and m.start <= part.start * PAGE < m.end:
                return range(part.start, min(part.stop, m.end // PAGE))
        return range(0)

    @staticmethod
    def _foreign(pid: int, addr: int, data: bytes) -> None:
        buffer = ctypes.create_string_buffer(data, len(data))
        here = _Iovec(ctypes.addressof(buffer), len(data))
        there = _Iovec(addr, len(data))
        done = _libc.process_vm_writev(
            pid, ctypes.byref(here), ctypes.c_ulong(1), ctypes.byref(there), ctypes.c_ulong(1), 0
        )
        assert done == len(data), ctypes.get_errno()


_ADVICE: dict[int, tuple[Callable[[Page], None], Callable[[Page], bool]]] = {
    DONTNEED: (Page.drop, lambda page: not page.locked),
    FREE: (Page.free, lambda page: page.anonymous and not page.locked),
    REMOVE: (Page.remove, lambda p: p.shared is not None and p.prot == 3 and not p.locked),
}
"""What it does to a page, and to which it may be given. Other advice changes nothing."""


def memory_differs(p: Process) -> list[str]:
    """Where the memory of a process is not what the model says, its access included."""
    found = []
    access = {
        number: m.access[:2]
        for m in mappings(p.machine.pid)
        if BASE <= m.start < END
        for number in range(m.start // PAGE, m.end // PAGE)
    }
    wanted = {n: page for n, page in p.space.pages.items() if in_slot(n)}
    found += [f"page {n:#x} is mapped" for n in access.keys() - wanted.keys()]
    for n, page in wanted.items():
        prot = ("r" if page.prot & READ else "-") + ("w" if page.prot & WRITE else "-")
        if access.get(n) != prot:
            found.append(f"page {n:#x} has access {access.get(n)}, not {prot}")
    for run in p.space.runs() if not found else ():
        data = memoryview(p.machine.read(run.start * PAGE, run.stop * PAGE))
        for i, n in enumerate(run):
            held, page = data[i * PAGE : (i + 1) * PAGE], p.space.pages[n]
            if bytes(held) not in [contents(word) for word in page.words]:
                found.append(_wrong(p, n, held, page))
            elif page.own is not None:
                page.own = (int.from_bytes(held[:8], "little"),)
    return found


def _wrong(p: Process, n: int, held: memoryview | bytes, page: Page) -> str:
    said = [hex(word) for word in page.words]
    return f"pid {p.machine.pid} page {n:#x} begins with {bytes(held[:8]).hex()}, not {said}"


def images_of(folder: Path) -> bool:
    """Whether `folder` holds a set that looks complete."""
    return (folder / "inventory.img").exists()
