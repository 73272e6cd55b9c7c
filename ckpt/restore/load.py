"""An image set, read and checked, as the tasks that it holds. Pure: no kernel is asked.

Everything that a later stage relies on is checked here: a set that passes can fail for what the
machine lacks, but not for what it says.
"""

from __future__ import annotations

import gc
import mmap
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ckpt._native import check, ffi, lib
from ckpt.images.chain import Chain
from ckpt.images.checksums import Verification
from ckpt.images.types import TYPES
from ckpt.mem import aio, policy, vma
from ckpt.mem.build import Memory, Pages, clip, segments_fit
from ckpt.mem.extents import Extents
from ckpt.mem.missing.split import Share, split
from ckpt.mem.resolve import resolve
from ckpt.mem.vdso import LONGEST
from ckpt.ns.sysv_objects import Object, read_objects
from ckpt.ns.sysv_shm import Segment, segments_of
from ckpt.pstree.model import Task, Tree
from ckpt.pstree.sharing import ALONE, VM, Sharing
from ckpt.record import field, record, replace
from ckpt.restore.loadtree import read_sharing, read_tree
from ckpt.restore.shares import shares_of
from ckpt.restore.sound import check_thread, clocks_of, wrong
from ckpt.task import seccomp, signals, timers
from ckpt.units import PAGE, Range

if TYPE_CHECKING:
    from ckpt.images.reader import ImageSet
    from ckpt.mem.vma import Vma

_AUXV_MAX = 128
_NOWHERE = -1
_IN_EVERY_SET = (
    "inventory",
    "ckpt-checksums",
    "pstree",
    "core",
    "ckpt-thread",
    "timens",
    "mm",
    "pagemap",
    "fs",
    "fdinfo",
    "files",
)
_OF_TASK = re.compile(r"pagemap-\d+").fullmatch


# With the rest of what is imported, which goes on beside the start of the holder of lazy restores.
for _stem in _IN_EVERY_SET:
    TYPES[_stem].message(0)


@record(frozen=True)
class TaskImage:
    """One live task: its messages, its memory, and what ckpt itself added (may be missing). `late`:
    mappings whose contents are not in `memory`, but come when the task runs."""

    task: Task
    core: Any
    threads: dict[int, Any]
    mm: Any
    fs: Any
    memory: Memory
    own: dict[int, Any]
    chains: dict[int, seccomp.Chain] = field(default_factory=dict)
    rings: tuple[aio.Ring, ...] = ()
    late: tuple[Range, ...] = ()

    def sealed_starts(self) -> frozenset[int]:
        """Of the mappings under mseal(2)."""
        own = self.own.get(self.task.pid)
        return frozenset(own.sealed) if own is not None else frozenset()


@record
class Loaded:
    """A whole set. `dead` holds the cores of zombies; `shares`, by task, the mappings of shared
    memory that comes late. `shmem_sizes`: of shared memory that does not end with its mappings."""

    chain: Chain
    tree: Tree
    tasks: dict[int, TaskImage]
    dead: dict[int, Any]
    clocks_ns: tuple[int, int] | None
    sharing: Sharing = ALONE
    segments: dict[int, Segment] = field(default_factory=dict)
    objects: tuple[Object, ...] = ()
    shares: dict[int, tuple[Share, ...]] = field(default_factory=dict)
    shmem_sizes: dict[int, int] = field(default_factory=dict)
    _files: list[tuple[int, int]] = field(init=False)
    _ids: dict[tuple[int, int], int] = field(init=False)
    _mapped: dict[int, mmap.mmap] = field(default_factory=dict)

    def __post_init__(self) -> None:
        layers = reversed(list(enumerate(self.chain.layers)))
        self._files = [(n, number) for n, layer in layers for number in layer.names("pages")]
        self._ids = {where: ident for ident, where in enumerate(self._files)}

    @property
    def nr_files(self) -> int:
        """How many files with pages there are in all sets of the chain."""
        return len(self._files)

    def pages_lfd(self, pages_id: int) -> int:
        """The descriptor of the pages file that `Pages.pages_id` names."""
        layer, number = self._files[pages_id]
        return self.chain.layers[layer].pages_fd(number)

    def pages(self, name: str, *, nowhere: int | None = None) -> tuple[Pages, ...]:
        """The contents that image `name` tells of; ids of files are positions in a list here,
        those of older sets first. Pages that are in no file are an error, or have the id
        `nowhere`."""
        found = []
        for start, end, layer, number, offset, _ in self.chain.resolve(name):
            if offset is None and nowhere is not None:
                found.append(Pages(Range(start, end), 0, nowhere))
                continue
            if offset is None:
                raise wrong(name, f"the pages {Range(start, end)} are in no file")
            found.append(Pages(Range(start, end), offset, self._ids[layer, number]))
        return tuple(found)

    def late_objects(self) -> frozenset[int]:
        """The shared memory that comes late."""
        return frozenset(share.shmid for one in self.shares.values() for share in one)

    def verify_early(self) -> Verification:
        """Begin to verify what is not left to come late: of files that are read by and by, whoever
        reads them does."""
        used: list[dict[int, list[tuple[int, int]]]] = [{} for _ in self.chain.layers]
        late = {f"pagemap-shmem-{shmid}" for shmid in self.late_objects()}
        for name in self.chain.page_images():
            if name in late:
                continue
            image = self.tasks.get(int(name.removeprefix("pagemap-"))) if _OF_TASK(name) else None
            for p in self.pages(name) if image is None else image.memory.pages:
                layer, number = self._files[p.pages_id]
                used[layer].setdefault(number, []).append((p.offset, p.offset + len(p.range)))
        jobs = [
            job
            for layer, taken in zip(self.chain.layers, used, strict=True)
            if layer.has_sums
            for job in layer.page_sums({n: sorted(spans) for n, spans in taken.items()})
        ]
        return Verification(jobs)

    def differing(self, a: Pages, b: Pages) -> list[Range]:
        """Which of two equally long runs of pages differ, as addresses of `a`."""
        out = ffi.new("struct ckpt_extent **")
        nr = check(lib.ckpt_compare_pages(self._at(a), self._at(b), a.range.nr_pages, out), "pages")
        start = a.range.start
        return [
            Range(start + first * PAGE, start + last * PAGE)
            for first, last in Extents.filled(nr, out)
        ]

    def read(self, pages: Pages) -> bytes:
        """What is in them."""
        return bytes(ffi.buffer(self._at(pages), len(pages.range)))

    def let_go(self) -> None:
        """Unmap what was read, if nobody has a view of it, else with the last view."""
        self._mapped.clear()

    def _at(self, pages: Pages) -> Any:
        if pages.pages_id not in self._mapped:
            lfd = self.pages_lfd(pages.pages_id)
            self._mapped[pages.pages_id] = mmap.mmap(lfd, 0, prot=mmap.PROT_READ)
        return ffi.from_buffer(self._mapped[pages.pages_id]) + pages.offset


@contextmanager
def load(directory: str, *, verify: bool, lazily: bool = False) -> Iterator[Loaded]:
    """Read the set in `directory`; with `lazily` as much as possible comes late. Raises
    ImageError."""
    with ExitStack() as scope:
        chain = scope.enter_context(Chain(directory, verify=verify, resolver=resolve))
        images = chain.layers[0]
        # A chain's extents are many objects and no cycles: collecting would only walk them.
        gc.disable()
        scope.callback(gc.enable)
        entries = images.read("pstree")
        cores = {entry.pid: images.read_one(f"core-{entry.pid}") for entry in entries}
        tree = read_tree(images, entries, cores)
        clocks = images.read_one("timens-0") if images.exists("timens-0") else None
        loaded = Loaded(chain, tree, {}, {}, clocks_of(clocks), read_sharing(images, tree))
        ipc_ns = images.read_one(f"ids-{tree.root.pid}").ipc_ns_id
        loaded.segments = _segments(images, ipc_ns)
        loaded.objects = read_objects(images, ipc_ns)
        loaded.shmem_sizes = _shmem_sizes(images)
        for task in tree:
            if task.dead:
                loaded.dead[task.pid] = cores[task.pid]
            else:
                loaded.tasks[task.pid] = _task(loaded, task, cores[task.pid], lazily=lazily)
        if lazily:
            loaded.shares = shares_of(loaded)
        images.verify_rest()
        gc.freeze()
        scope.callback(gc.unfreeze)
        gc.enable()
        yield loaded
        loaded.let_go()


def _segments(images: ImageSet, ipc_ns: int) -> dict[int, Segment]:
    name = f"ipcns-shm-{ipc_ns}"
    return segments_of(images.read(name) if images.exists(name) else (), name)


def _shmem_sizes(images: ImageSet) -> dict[int, int]:
    entries = images.read("ckpt-shmem") if images.exists("ckpt-shmem") else ()
    for entry in entries:
        if not entry.size or entry.size % PAGE:
            raise wrong("ckpt-shmem", f"an object of {entry.size} bytes")
    return {entry.shmid: entry.size for entry in entries}


def _task(loaded: Loaded, task: Task, core: Any, *, lazily: bool) -> TaskImage:
    images = loaded.chain.layers[0]
    threads = {task.pid: core}
    for tid in task.threads:
        threads[tid] = images.read_one(f"core-{tid}")
    for tid, one in threads.items():
        check_thread(f"core-{tid}", one)
    if signals.damaged(core.tc.signals_s) or len(core.tc.sigactions) > signals.NR_SIGNALS:
        raise wrong(f"core-{task.pid}", "its signals are damaged")
    if core.tc.HasField("timers") and timers.damaged(core.tc.timers):
        raise wrong(f"core-{task.pid}", "its timers are damaged")
    mm = images.read_one(f"mm-{task.pid}")
    if len(mm.mm_saved_auxv) > _AUXV_MAX:
        raise wrong(f"mm-{task.pid}", "an auxiliary vector too long")
    first = loaded.sharing.first(VM, task.pid)
    own = {
        tid: images.read_one(f"ckpt-thread-{tid}")
        for tid in threads
        if images.exists(f"ckpt-thread-{tid}")
    }
    leader = own.get(task.pid)
    for tid, one in own.items():
        try:
            policy.check(one)
        except ValueError as error:
            raise wrong(f"ckpt-thread-{tid}", str(error)) from error
    if first == task.pid:
        memory, late = _memory(loaded, task.pid, mm, leader, lazily=lazily)
    else:
        memory, late = loaded.tasks[first].memory, ()
    return TaskImage(
        task=task,
        core=core,
        threads=threads,
        mm=mm,
        fs=images.read_one(f"fs-{task.pid}"),
        memory=memory,
        late=late,
        own=own,
        chains=_chains(images, threads),
        rings=_rings(loaded, task.pid, mm, memory) if first == task.pid else (),
    )


def _rings(loaded: Loaded, pid: int, mm: Any, memory: Memory) -> tuple[aio.Ring, ...]:
    try:
        return aio.rings(mm, memory, loaded.read)
    except ValueError as error:
        raise wrong(f"mm-{pid}", str(error)) from error


def _chains(images: ImageSet, threads: dict[int, Any]) -> dict[int, seccomp.Chain]:
    """The seccomp filters of those threads that have any."""
    found = {}
    for tid, core in threads.items():
        if not core.thread_core.seccomp_mode:
            continue
        try:
            found[tid] = seccomp.chain_of(core.thread_core, images.read_one("seccomp"))
        except ValueError as error:
            raise wrong(f"core-{tid}", str(error)) from error
    return found


def _memory(
    loaded: Loaded, pid: int, mm: Any, own: Any, *, lazily: bool
) -> tuple[Memory, tuple[Range, ...]]:
    """What is there before the task runs, and the mappings whose contents come later."""
    name = f"mm-{pid}"
    policies = policy.by_start(own)
    vmas: list[Vma] = []
    guards: list[Range] = []
    for entry in mm.vmas:
        try:
            if guard := vma.guard_of(entry):
                guards.append(guard)
                continue
            v = vma.from_entry(entry)
        except vma.VmaError as error:
            raise wrong(name, str(error)) from error
        if vmas and v.range.start < vmas[-1].range.end:
            raise wrong(name, f"mappings overlap at {v.range.start:#x}")
        if v.range.start in policies:
            v = replace(v, policy=policies[v.range.start])
        if not v.status & vma.Status.VSYSCALL:
            vmas.append(v)
    sizes = {segment.id: (segment.room, segment.huge_page) for segment in loaded.segments.values()}
    if lost := segments_fit(vmas, sizes):
        raise wrong(name, f"mapping {lost.range} is of no segment of System V shared memory")
    name = f"pagemap-{pid}"
    if not lazily:
        pages = loaded.pages(name)
        _check_covered(name, vmas, pages)
        return Memory(tuple(vmas), pages, tuple(guards)), ()
    pages = loaded.pages(name, nowhere=_NOWHERE)
    _check_covered(name, vmas, pages)
    sealed = frozenset(own.sealed) if own is not None else frozenset()
    memory, late = split(Memory(tuple(vmas), pages, tuple(guards)), sealed)
    for p in memory.pages:
        if p.pages_id == _NOWHERE:
            raise wrong(name, f"the pages {p.range} are in no file, and can't come late")
    return memory, late


def _check_covered(name: str, vmas: list[Vma], pages: tuple[Pages, ...]) -> None:
    at = start = end = 0
    for p in pages:
        addr, page_end = p.range.start, p.range.end
        while addr < page_end:
            while end <= addr and at < len(vmas):
                start, end = vmas[at].range.start, vmas[at].range.end
                at += 1
            if not start <= addr < end:
                raise wrong(name, f"page {addr:#x} is in no mapping")
            addr = end


def vdso_bytes(loaded: Loaded, image: TaskImage) -> dict[int, bytes]:
    """What the set says of the task's vdso, by address; empty where it does not say all."""
    found = {}
    for v in image.memory.vmas:
        if v.status & vma.Status.VDSO and len(v.range) <= LONGEST:
            raw = b"".join(map(loaded.read, clip(image.memory.pages, v.range)))
            if len(raw) == len(v.range):
                found[v.range.start] = raw
    return found
