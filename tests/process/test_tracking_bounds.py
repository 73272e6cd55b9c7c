"""Engines at their limits: targets that never pause, memory that can't be tracked or is hardly
there, and what is left in a target when tracking ends, in whatever way.
"""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ckpt._native import ffi, lib
from ckpt.errors import KernelError, TargetError
from ckpt.infect.inject import infect
from ckpt.mem.extents import Extents
from ckpt.mem.tracking.choose import choose
from ckpt.mem.tracking.engine import Mode
from ckpt.mem.tracking.open import open_pagemap, open_uffd
from ckpt.mem.tracking.synchronous import Served, Synchronous
from ckpt.tracee.freeze import seize
from ckpt.units import PAGE
from tests.fault.controller import eventually
from tests.requirements import require
from tests.support.case import Case
from tests.support.hugepool import huge_page_pool
from tests.support.programs import program
from tests.support.tracked import (
    VARIANTS,
    Steps,
    Tracked,
    Variant,
    attach,
    steps,
    tracked,
)

TIB_PAGES = (1 << 40) // PAGE
ROUNDS = 150
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
ASYNC, SYNC = VARIANTS[:2]


class Copy:
    """What a chain of rounds would restore: only pages that were found written are read again."""

    def __init__(self, t: Tracked, area: int) -> None:
        self._t = t
        self._area = area
        self._mem = Path(f"/proc/{t.steps.pid}/mem").open("rb", buffering=0)  # noqa: SIM115
        self.pages: dict[int, bytes] = {}

    def round(self) -> None:
        found = self._t.round(self._area)
        here = {at for start, end in found.populated for at in range(start, end, PAGE)}
        self.pages = {at: text for at, text in self.pages.items() if at in here}
        for start, end in found.written:
            for at in range(start, end, PAGE):
                self.pages[at] = os.pread(self._mem.fileno(), PAGE, at)

    def assert_true(self) -> None:
        start, end = self._t.steps.areas[self._area]
        for at in range(start, end, PAGE):
            there = os.pread(self._mem.fileno(), PAGE, at)
            assert self.pages.get(at, bytes(PAGE)) == there, f"page {(at - start) // PAGE}"

    def close(self) -> None:
        self._mem.close()


@each_variant
def test_rounds_on_a_target_that_never_pauses(case: Case, variant: Variant) -> None:
    """Writes, madvise and mmap race with every step of every round; nothing is ever missed."""
    with tracked(case, variant) as t:
        t.steps.do("map 1 anon 512")
        t.steps.do("churn 1")
        copy = Copy(t, 1)
        try:
            for _ in range(ROUNDS):
                copy.round()
            t.steps.do("halt")
            copy.round()
            copy.assert_true()
            assert not variant.zero or not t.round(1).written
        finally:
            copy.close()


@each_variant
@pytest.mark.parametrize("own", ["", " async"])
def test_target_with_a_userfaultfd_of_its_own(case: Case, variant: Variant, own: str) -> None:
    """Its range is found whole each time, and its own marks are not taken from it."""
    with tracked(case, variant) as t:
        t.steps.do("map 1 anon 16")
        t.steps.do("map 2 anon 16")
        t.steps.do("write 1 0 8")
        t.steps.do("write 2 0 8")
        t.steps.do("own_uffd 1" + own)
        before = marks(t.steps, 1)
        for _ in range(2):
            found = t.round(1, 2)
            place = t.steps.pages(1, 0, 16)
            assert list(found.untracked) == list(place)
            assert list(found.written & place) == list(t.steps.pages(1, 0, 8))
            assert marks(t.steps, 1) == before
        assert list(found.written - place) == []


WP, SWAP = 57, 62


def marks(victim: Steps, area: int, bit: int = WP) -> list[int]:
    """This bit of pagemap for each page of the area."""
    start, end = victim.areas[area]
    with Path(f"/proc/{victim.pid}/pagemap").open("rb", buffering=0) as pagemap:
        raw = os.pread(pagemap.fileno(), (end - start) // PAGE * 8, start // PAGE * 8)
    return [word >> bit & 1 for (word,) in struct.iter_unpack("=Q", raw)]


@each_variant
def test_a_tebibyte_that_is_not_there(case: Case, variant: Variant) -> None:
    """No page table is made for it, and what is put into it is found."""
    with tracked(case, variant) as t:
        t.steps.do(f"map 1 none {TIB_PAGES}")
        t.steps.do(f"map 2 noreserve {TIB_PAGES}")
        if variant.zero:
            before = page_tables(t.steps.pid)
            for _ in range(3):
                assert not t.round(1, 2).populated
            assert page_tables(t.steps.pid) == before
        else:  # words of pagemap: 4 GiB of them for 2 TiB
            t.engine.arm(t.steps.mappings(1, 2))
            before = page_tables(t.steps.pid)
        start = t.steps.areas[2][0] + (123 << 30)
        record = Extents.of([(start, start + 3 * PAGE)])
        text = bytes(3 * PAGE)
        written = lib.ckpt_vm_write(t.steps.pid, start, ffi.from_buffer(text), len(text))
        assert written == len(text)
        near = Extents.of([(start - (1 << 30), start + (1 << 30))])
        assert list(t.engine.look(near, rearm=True).written) == list(record)
        assert list(t.engine.look(near, rearm=True).written) == []
        assert page_tables(t.steps.pid) <= before + 12  # one page of each level for the three


def page_tables(pid: int) -> int:
    """VmPTE in KiB."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmPTE:")[1].split()[0])


@each_variant
def test_nothing_is_left(case: Case, variant: Variant) -> None:
    """Mappings, their flags and sizes, and descriptors are as before, on a standing target."""
    with steps(case) as victim:
        victim.do("map 1 anon 64")
        victim.do("map 2 file 64")
        victim.do("write 1 0 32")
        victim.do("write 2 0 32")
        with seize(victim.pid, deadline_s=60) as tree, infect(tree.tasks[victim.pid]):
            pass  # its private copies of code are not tracking's
        before = outside(victim.pid)
        with attach(victim, variant) as t:
            assert outside(victim.pid) == before
            victim.areas[3] = next(iter(everything(victim.pid)))
            for _ in range(2):
                t.engine.arm(everything(victim.pid))
                t.engine.look(everything(victim.pid), rearm=True)
            assert sum(marks(victim, 1)) == 32
        assert outside(victim.pid) == before
        assert sum(marks(victim, 1)) == 0
        victim.quit()


def everything(pid: int) -> Extents:
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    pairs = [tuple(int(x, 16) for x in line.split()[0].split("-")) for line in lines]
    return Extents.of((a, b) for a, b in pairs if b < 1 << 47)


def outside(pid: int) -> dict[str, str]:
    """All that can be seen of its memory and descriptors, but for what looking itself changes, and
    for how much of a file's own pages the kernel keeps just now."""
    proc = Path(f"/proc/{pid}")
    seen = {fd: os.readlink(proc / "fd" / fd) for fd in os.listdir(proc / "fd")}  # noqa: PTH115
    # One string for each mapping, from its first line on.
    for at in re.split(r"^(?=[0-9a-f]+-)", (proc / "smaps").read_text(), flags=re.MULTILINE):
        varies = "Referenced|Pss|Locked" + "|Rss|Shared_|Private_Clean" * ("/" in at)
        seen[at[:40]] = "\n".join(x for x in at.splitlines() if not re.match(varies, x))
    return seen


@contextmanager
def holder(victim: Steps, variant: Variant) -> Iterator[int]:
    """Another process that holds an engine over area 1, all of it armed; ended at the end."""
    heard, told = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with attach(victim, variant) as t:
                t.round(1)
                os.write(told, b"x")
                signal.pause()
        finally:
            os._exit(status)
    os.close(told)
    try:
        assert os.read(heard, 1) == b"x"
        yield pid
    finally:
        os.close(heard)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@each_variant
def test_holder_killed(case: Case, variant: Variant) -> None:
    """Without who holds the engine all protection is gone, and the target runs on."""
    with steps(case) as victim:
        victim.do("map 1 anon 64")
        victim.do("write 1 0 64")
        with holder(victim, variant):
            assert sum(marks(victim, 1)) == 64
            victim.do("write 1 0 2")
        assert sum(marks(victim, 1)) == 0
        victim.do("write 1 0 64")
        victim.quit()


def test_holder_killed_while_a_thread_waits(case: Case) -> None:
    """The thread that waits for the server of its fault goes on when that is dead."""
    with steps(case) as victim:
        victim.do("map 1 anon 64")
        victim.do("write 1 0 64")
        with holder(victim, SYNC) as pid:
            os.kill(pid, signal.SIGSTOP)
            assert eventually(lambda: thread_states(pid) == {"T"})  # its server as well
            os.write(victim.lines, b"write 1 0 64\n")
            syscall = Path(f"/proc/{victim.pid}/syscall")
            assert eventually(lambda: syscall.read_text().startswith("-1 "))  # asleep in none
            assert not select.select([victim.answers], [], [], 0)[0]
        victim._answer("write 1 0 64")
        victim.quit()


def thread_states(pid: int) -> set[str]:
    files = Path(f"/proc/{pid}/task").glob("*/stat")
    return {file.read_text().rpartition(")")[2].split()[0] for file in files}


def test_full_descriptor_table(case: Case) -> None:
    victim = case.start(program("files/full_table"))
    with seize(victim.pid, deadline_s=60) as tree:
        task = tree.tasks[victim.pid]
        before = sorted(os.listdir(f"/proc/{victim.pid}/fd"))
        with infect(task) as session, pytest.raises(KernelError, match="descriptor table is full"):
            open_uffd(session, task, Mode.ASYNC)
        assert sorted(os.listdir(f"/proc/{victim.pid}/fd")) == before
    victim.finish()


def test_without_the_device(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the task makes it by itself, if it may."""
    monkeypatch.setattr("ckpt.kerndat.uffd.DEVICE", "/nonexistent")
    for variant in (ASYNC, SYNC):
        with tracked(case, variant) as t:
            t.step("map 1 anon 16")
            t.step("write 1 0 16")
            t.step("write 1 3 2")
    with tracked(case, ASYNC, "nobody") as t:
        t.step("map 1 anon 16")
        t.step("write 1 0 16")
        t.step("receive 1 3 2")
    if Path("/proc/sys/vm/unprivileged_userfaultfd").read_text().strip() == "0":
        with (
            steps(case, "nobody") as victim,
            pytest.raises(KernelError, match="/nonexistent"),
            attach(victim, SYNC),
        ):
            pass


def test_events(case: Case) -> None:
    """Each fault as a range of pages; what finds the pipe full is counted. The writing thread goes
    on before its event is there."""
    with steps(case) as victim:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        with seize(victim.pid, deadline_s=60) as tree:
            task = tree.tasks[victim.pid]
            with infect(task) as session:
                uffd = open_uffd(session, task, Mode.SYNC)
        engine = Synchronous(uffd, open_pagemap(victim.pid), run_max=1, events=writer)
        t = Tracked(victim, engine, SYNC)
        t.step("map 1 anon 4096")
        t.step("write 1 0 4096")
        assert engine.served().nr_faults == 0
        t.step("write 1 5 3")
        got = b""
        while len(got) < 3 * 16:
            assert select.select([reader], [], [], 30)[0]
            got += os.read(reader, 65536)
        pages = [pair for at in (5, 6, 7) for pair in t.steps.pages(1, at, 1)]
        assert list(struct.iter_unpack("=QQ", got)) == pages
        room = 65536 // 16
        t.step("write 1 0 4096")
        t.step("write 1 0 100")
        lost = 4096 + 100 - room
        assert eventually(lambda: engine.served() == Served(4199, 4199, lost)), engine.served()
        assert len(os.read(reader, 1 << 20)) == room * 16
        os.close(reader)
        t.step("write 1 7 1")
        engine.close()
        os.close(writer)
        victim.quit()


def test_choice() -> None:
    assert choose() is Mode.ASYNC
    assert choose(Mode.SYNC) is Mode.SYNC


def test_choice_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("ckpt.kerndat.tracking.userfaultfd", refuse)
    for forced in (None, *Mode):
        with pytest.raises(KernelError, match=r"uffd_wp.*Function not implemented"):
            choose(forced)


@contextmanager
def swap(folder: Path) -> Iterator[None]:
    """Some swap, ours unless there is any."""
    if len(Path("/proc/swaps").read_text().splitlines()) > 1:
        yield
        return
    file = folder / "swap"
    file.write_bytes(bytes(32 << 20))
    file.chmod(0o600)
    made = subprocess.run(["mkswap", file], capture_output=True, check=False)
    on = subprocess.run(["swapon", file], capture_output=True, text=True, check=False)
    require(made.returncode == on.returncode == 0, f"no swap can be had: {on.stderr}")
    try:
        yield
    finally:
        subprocess.run(["swapoff", file], check=True)


@each_variant
def test_swapped_out(case: Case, variant: Variant) -> None:
    with swap(case.folder), tracked(case, variant) as t:
        t.step("map 1 anon 64")
        t.step("write 1 0 64")
        record = t.steps.do("write 1 10 4")
        for _ in range(2):
            t.steps.do("swap_out 1 0 64")
            require(sum(marks(t.steps, 1, SWAP)) > 32, "the kernel keeps the pages in memory")
            found = t.round(1)
            t.demand(found, record)
            assert found.populated.nr_pages == 64
            record = Extents.none()
        t.step("read 1 0 32")
        t.step("write 1 0 2")


@each_variant
@pytest.mark.parametrize("kind", ["hugetlb", "hugetlb_shared"])
def test_hugetlb(case: Case, variant: Variant, kind: str) -> None:
    """A huge page is one page: found whole by one write to it. Shared ones are no content."""
    with huge_page_pool(4), tracked(case, variant) as t:
        t.steps.do(f"map 1 {kind} 2048")
        for step in ("write 1 0 1", "write 1 512 1024", "write 1 700 1"):
            record = t.steps.do(step)
            found = t.round(1)
            if "shared" in kind:
                assert not found.populated
                continue
            assert not list(record - found.written)
            assert found.written.nr_pages == (1024 if step == "write 1 512 1024" else 512)
        assert not t.round(1).written


def test_pagemap_of_who_has_ended() -> None:
    """Before it was waited for, when it is a zombie, as well as after."""
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(TargetError, match="ended"):
        open_pagemap(process.pid)
    process.wait()
    with pytest.raises(TargetError, match="ended"):
        open_pagemap(process.pid)
