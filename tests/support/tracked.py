"""A victim that is told what to do with its memory, and an engine that tracks it, held here.

The victim (tests/victims/tracked/steps.c) keeps its own account of the pages it has changed; each
step returns it. Engines are asked for the mappings of an area as maps shows them at that moment.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from ckpt.infect.inject import infect
from ckpt.mem.extents import Extents
from ckpt.mem.tracking.asynchronous import Asynchronous
from ckpt.mem.tracking.engine import Engine, Found, Mode
from ckpt.mem.tracking.open import open_pagemap, open_uffd
from ckpt.mem.tracking.synchronous import Synchronous
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.reader import ProcDir
from ckpt.tracee.freeze import seize
from tests.support.case import Case
from tests.support.programs import program
from tests.support.victim import SUCCESS, Victim

TIMEOUT_S = 60


@dataclass(frozen=True)
class Variant:
    """An engine as the tests make it. `exact`: reports no page that was not written; `zero`: the
    zero page is no content."""

    name: str
    mode: Mode
    exact: bool = True
    zero: bool = True

    def make(self, uffd: int, pagemap: int) -> Engine:
        if self.mode is Mode.ASYNC:
            return Asynchronous(uffd, pagemap)
        run_max = 1 if self.exact else 64
        return Synchronous(uffd, pagemap, run_max=run_max, words=not self.zero)


VARIANTS = (
    Variant("async", Mode.ASYNC),
    Variant("sync", Mode.SYNC),
    Variant("sync-runs", Mode.SYNC, exact=False),
    Variant("sync-words", Mode.SYNC, zero=False),
)


class StepError(Exception):
    """The victim could not do it; errno is its reason."""

    def __init__(self, errno: int) -> None:
        super().__init__(os.strerror(errno))
        self.errno = errno


@dataclass
class Steps:
    """The victim. `areas` says where the areas are, by number."""

    victim: Victim
    lines: int
    answers: int
    areas: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        return self.victim.pid

    def do(self, what: str) -> Extents:
        """One step; the pages that it has changed. Raises StepError."""
        os.write(self.lines, what.encode() + b"\n")
        return self._answer(what)

    def _answer(self, what: str) -> Extents:
        text = b""
        poll = select.poll()
        poll.register(self.answers, select.POLLIN)
        while not text.endswith(b"\n"):
            assert poll.poll(TIMEOUT_S * 1000), f"no answer to {what!r}: {text!r}"
            more = os.read(self.answers, 65536)
            assert more, f"ended at {what!r}: {text!r}"
            text += more
        word, *rest = text.decode().split()
        if word == "fail":
            raise StepError(int(rest[0]))
        assert word == "ok", f"{what!r}: {text!r}"
        place, *changed = [(int(a, 16), int(b, 16)) for a, b in (r.split("-") for r in rest)]
        area = what.split()[1:2]
        if area:
            self.areas[int(area[0])] = place
        ranges = Extents.none()
        for one in changed:
            ranges = ranges | Extents.of([one])
        return ranges

    def mappings(self, *areas: int) -> Extents:
        """What maps shows in these areas, one range for each mapping."""
        with ProcDir(self.pid) as proc:
            found = parse_maps(proc.read("maps"), running=True)
        places = sorted(self.areas[area] for area in areas)
        return Extents.of(
            (max(m.start, start), min(m.end, end))
            for start, end in places
            for m in found
            if m.start < end and start < m.end
        )

    def pages(self, area: int, first: int, count: int) -> Extents:
        start = self.areas[area][0]
        return Extents.of([(start + first * 4096, start + (first + count) * 4096)])

    def quit(self) -> None:
        """It checks all its pages and ends with success."""
        os.write(self.lines, b"quit\n")
        text = b""
        while more := os.read(self.answers, 65536):
            text += more
        assert text.decode().rstrip().endswith(SUCCESS), text
        assert self.victim.process.wait(TIMEOUT_S) == 0


@dataclass
class Tracked:
    """Victim and engine."""

    steps: Steps
    engine: Engine
    variant: Variant

    def round(self, *areas: int, rearm: bool = True) -> Found:
        """Arm and look, as a round does."""
        ranges = self.steps.mappings(*areas)
        self.engine.arm(ranges)
        return self.engine.look(ranges, rearm=rearm)

    def step(self, what: str, *areas: int) -> Found:
        """One step, then a round over `areas` (else that of the step) that must find what the
        victim has changed: all of it, and nothing else where the engine promises that."""
        record = self.steps.do(what)
        looked = areas or (int(what.split()[1]),)
        found = self.round(*looked)
        record = record & self.steps.mappings(*looked)
        self.demand(found, record)
        return found

    def demand(self, found: Found, record: Extents) -> None:
        assert not list(record - found.written), f"missed, of {list(record)}"
        assert not list(found.written - found.populated)
        if self.variant.exact:
            assert not list(found.written - record), f"too many, beside {list(record)}"


@contextmanager
def steps(case: Case, *args: str) -> Iterator[Steps]:
    """A victim that waits for its first step."""
    with ExitStack() as stack:
        theirs_in, lines = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, lines)
        answers, theirs_out = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, answers)
        binary = program("tracked/steps").build(case.built)
        try:
            victim = case.start_command(str(binary), *args, stdin=theirs_in, output=theirs_out)
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        made = Steps(victim, lines, answers)
        made._answer("start")
        yield made


@contextmanager
def attach(victim: Steps, variant: Variant) -> Iterator[Tracked]:
    """An engine over the victim, until the end of the scope."""
    with seize(victim.pid, deadline_s=60) as tree:
        task = tree.tasks[victim.pid]
        with infect(task) as session:
            uffd = open_uffd(session, task, variant.mode)
        pagemap = open_pagemap(victim.pid)
    engine = variant.make(uffd, pagemap)
    try:
        yield Tracked(victim, engine, variant)
    finally:
        engine.close()


@contextmanager
def tracked(case: Case, variant: Variant, *args: str) -> Iterator[Tracked]:
    """Victim and engine; the victim must end with success."""
    with steps(case, *args) as victim:
        with attach(victim, variant) as both:
            yield both
        victim.quit()
