"""The transaction of a round, against a model of memory, with every party killed between any steps.

The model has pages with version numbers, the kernel's own marks of what was written, and direct I/O
that was begun (which marks the page) and writes later (which does not). A client makes rounds,
copies page by page while the target writes, makes its image set whole and commits; it can die after
each of these steps, and so can the keeper. A dump of the standing target must restore to the model,
page by page, whatever happened before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from ckpt.mem.extents import Extents
from ckpt.mem.tracking.engine import Found
from ckpt.mem.tracking.state import Answer, Ledger, WrongRoundError
from ckpt.units import PAGE

NR_PAGES = 6
PIDS = (10, 11)
pages = st.integers(0, NR_PAGES - 1)
pids = st.sampled_from(PIDS)
ALL = Extents.of([(0, NR_PAGES * PAGE)])


def extents(numbers: Iterable[int]) -> Extents:
    return Extents.of((n * PAGE, (n + 1) * PAGE) for n in sorted(numbers)) | Extents.none()


def numbers(found: Extents) -> set[int]:
    return {n for start, end in found for n in range(start // PAGE, end // PAGE)}


@dataclass
class Memory:
    """One address space, and what the kernel knows of it. A page that is not in `version` is a
    hole; `clean` are pages not written since they were armed."""

    version: dict[int, int] = field(default_factory=dict)
    clean: set[int] = field(default_factory=set)
    in_flight: set[int] = field(default_factory=set)

    def scan(self, ranges: set[int], *, rearm: bool) -> Found:
        populated = self.version.keys() & ranges
        written = populated - self.clean
        if rearm:
            self.clean |= written
        return Found(extents(written), extents(populated), Extents.none())


@dataclass
class ImageSet:
    """What each address space has in this set, and the set before. A page that is in neither of
    `own` and `parent` is a hole."""

    parent: ImageSet | None = None
    own: dict[int, dict[int, int]] = field(default_factory=dict)
    inherited: dict[int, set[int]] = field(default_factory=dict)

    def page(self, pid: int, number: int) -> int:
        if number in self.own[pid]:
            return self.own[pid][number]
        assert number in self.inherited[pid]
        assert self.parent is not None
        return self.parent.page(pid, number)

    def restored(self, pid: int) -> dict[int, int]:
        held = self.own[pid].keys() | self.inherited[pid]
        return {number: self.page(pid, number) for number in held}


@dataclass
class Client:
    """One chain's next set in the making."""

    number: int
    answers: dict[int, Answer]
    image: ImageSet
    to_copy: list[tuple[int, int]]
    settled: bool = False
    whole: bool = False


class Rounds(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.clock = 0
        self.memory = {pid: Memory() for pid in PIDS}
        self.ledger = Ledger()
        self.sets: dict[str, ImageSet] = {}
        self.newest: str | None = None
        self.client: Client | None = None
        self.adopt(PIDS[0])

    # ---- the target

    @rule(pid=pids, page=pages)
    def write(self, pid: int, page: int) -> None:
        self.clock += 1
        self.memory[pid].version[page] = self.clock
        self.memory[pid].clean.discard(page)

    @rule(pid=pids, page=pages)
    def give_back(self, pid: int, page: int) -> None:
        memory = self.memory[pid]
        if page not in memory.in_flight:
            memory.version.pop(page, None)
            memory.clean.discard(page)

    @rule(pid=pids, page=pages)
    def begin_direct_read(self, pid: int, page: int) -> None:
        """Pinning a page for writing is a write for the kernel; what the device writes is not."""
        self.write(pid, page)
        self.memory[pid].in_flight.add(page)

    @rule(pid=pids, data=st.data())
    def end_direct_read(self, pid: int, data: st.DataObject) -> None:
        memory = self.memory[pid]
        if memory.in_flight:
            page = data.draw(st.sampled_from(sorted(memory.in_flight)))
            self.clock += 1
            memory.version[page] = self.clock
            memory.in_flight.discard(page)

    def end_all_direct_reads(self) -> None:
        for memory in self.memory.values():
            for page in sorted(memory.in_flight):
                self.clock += 1
                memory.version[page] = self.clock
            memory.in_flight.clear()

    @rule(pid=pids)
    def execute(self, pid: int) -> None:
        """A new address space under the old number; the keeper sees that."""
        self.memory[pid] = Memory()
        self.ledger.drop(pid)

    # ---- the parties

    @rule(pid=pids)
    def adopt(self, pid: int) -> None:
        if pid not in list(self.ledger):
            self.ledger.add(pid)
            self.memory[pid].clean.clear()

    @rule()
    def keeper_dies(self) -> None:
        """With it all protection; the next one knows nothing."""
        self.ledger = Ledger()
        self.client = None
        for memory in self.memory.values():
            memory.clean.clear()

    @rule(pid=pids)
    def keeper_dies_and_adopts(self, pid: int) -> None:
        self.keeper_dies()
        self.adopt(pid)

    @rule()
    def client_dies(self) -> None:
        self.client = None

    @rule(skipped=st.sampled_from([(), (PIDS[0],), (PIDS[1],)]), ranges=st.sets(pages))
    def round(self, skipped: tuple[int, ...], ranges: set[int]) -> None:
        """Of some tasks, and for `ranges` of one of them all but these: unmapped at this moment."""
        wanted = {pid: set(range(NR_PAGES)) for pid in PIDS if pid not in skipped}
        if skipped:
            for pid, asked in wanted.items():
                asked -= ranges & (asked - self.memory[pid].version.keys())
        self._round(wanted, rearm=True)

    def _round(self, wanted: dict[int, set[int]], *, rearm: bool) -> None:
        self.ledger.begin()
        answers = {}
        for pid, asked in wanted.items():
            if pid in list(self.ledger):
                found = self.memory[pid].scan(asked, rearm=rearm)
                answers[pid] = self.ledger.note(pid, extents(asked), found)
        image = ImageSet()
        to_copy: list[tuple[int, int]] = []
        linked = self.ledger.base is not None and self.ledger.base == self.newest
        if linked:
            image.parent = self.sets[str(self.newest)]
        for pid, asked in wanted.items():
            if pid in answers:
                answer = answers[pid]
                populated = numbers(answer.populated)
                stored = numbers(answer.stored) if linked else set()
                must = numbers(answer.must) | (populated - stored)
            else:
                populated = must = self.memory[pid].version.keys() & asked
            image.own[pid] = {}
            image.inherited[pid] = set(populated - must)
            to_copy += [(pid, page) for page in sorted(must)]
        self.client = Client(self.ledger.end(), answers, image, to_copy)

    @precondition(lambda self: self.client and not self.client.whole)
    @rule(data=st.data())
    def copy(self, data: st.DataObject) -> None:
        """Some of the pages, as they are now."""
        assert self.client
        nr = data.draw(st.integers(0, len(self.client.to_copy)))
        for _ in range(nr):
            self._copy_one(*self.client.to_copy.pop())

    def _copy_one(self, pid: int, page: int) -> None:
        assert self.client
        version = self.memory[pid].version
        self.client.image.own[pid][page] = version.get(page, 0)

    @precondition(lambda self: self.client and not self.client.settled)
    @rule()
    def cross_the_border(self) -> None:
        """Proves that what was begun before the round is done; only before anything is copied."""
        self.end_all_direct_reads()
        assert self.client
        if not any(self.client.image.own.values()):
            self.client.settled = True

    @precondition(lambda self: self.client and not self.client.whole)
    @rule()
    def image_set_becomes_whole(self) -> None:
        assert self.client
        while self.client.to_copy:
            self._copy_one(*self.client.to_copy.pop())
        self.clock += 1
        self.newest = f"set{self.clock}"
        self.sets[self.newest] = self.client.image
        self.client.whole = True

    @precondition(lambda self: self.client and self.client.whole)
    @rule()
    def commit(self) -> None:
        assert self.client
        assert self.newest
        stored = {
            pid: extents(self.client.image.own[pid].keys() | self.client.image.inherited[pid])
            for pid in self.client.answers
        }
        self.ledger.commit(
            self.client.number,
            self.newest,
            stored,
            settled=dict.fromkeys(PIDS, self.client.settled),
            io_contexts={},
        )
        with pytest.raises(WrongRoundError):
            self.ledger.commit(self.client.number, "again", {}, settled={}, io_contexts={})
        assert self.ledger.base == self.newest
        self.client = None

    @rule(
        steps=st.sampled_from(["round", "copied", "whole", "committed", "committed", "committed"]),
        settle=st.booleans(),
        during=st.lists(st.tuples(pids, pages), max_size=4),
    )
    def pre_dump(self, steps: str, settle: bool, during: list[tuple[int, int]]) -> None:
        """One transaction up to the step after which the client dies; writes while it copies."""
        self.round((), set())
        assert self.client
        if settle:
            self.cross_the_border()
        for pid, page in during[:2]:
            self.write(pid, page)
        if steps == "round":
            self.client = None
            return
        for pid, page in reversed(self.client.to_copy):
            self._copy_one(pid, page)
        self.client.to_copy = []
        for pid, page in during[2:]:
            self.write(pid, page)
        if steps != "copied":
            self.image_set_becomes_whole()
        if steps == "committed":
            self.commit()
        self.client = None

    @rule(commit=st.booleans())
    def dump(self, commit: bool) -> None:
        """All stand, so no call is under way: the set is the instant."""
        self.end_all_direct_reads()
        self._round({pid: set(range(NR_PAGES)) for pid in PIDS}, rearm=False)
        assert self.client
        self.client.settled = True
        self.image_set_becomes_whole()
        for pid in PIDS:
            assert self.sets[str(self.newest)].restored(pid) == self.memory[pid].version
        if commit:
            self.commit()
        self.client = None

    @invariant()
    def sets_are_within_bounds(self) -> None:
        for pid in getattr(self, "ledger", ()):
            held = self.ledger[pid]
            for one in (held.stored, held.owed, held.pending):
                assert numbers(one) <= numbers(ALL)


TestRounds = Rounds.TestCase
TestRounds.settings = settings(max_examples=400, stateful_step_count=30)


def test_a_commit_of_an_earlier_round_changes_nothing() -> None:
    ledger = Ledger()
    ledger.add(1)
    numbers_given = []
    for _ in range(2):
        ledger.begin()
        ledger.note(1, ALL, Found(extents({1}), extents({1, 2}), Extents.none()))
        numbers_given.append(ledger.end())
    with pytest.raises(WrongRoundError):
        ledger.commit(numbers_given[0], "a", {1: extents({1})}, settled={}, io_contexts={})
    assert ledger.base is None
    assert numbers(ledger[1].owed) == {1}
    assert numbers(ledger[1].stored) == set()


def test_a_round_under_way_makes_the_last_one_void() -> None:
    ledger = Ledger()
    ledger.begin()
    number = ledger.end()
    ledger.begin()
    with pytest.raises(WrongRoundError):
        ledger.commit(number, "a", {}, settled={}, io_contexts={})


def test_contexts_are_remembered_for_the_life_of_the_memory() -> None:
    ledger = Ledger()
    ledger.add(1)
    for contexts in (True, False):
        ledger.begin()
        ledger.note(1, ALL, Found(ALL, ALL, Extents.none()))
        ledger.commit(ledger.end(), "a", {1: ALL}, settled={}, io_contexts={1: contexts})
        assert ledger[1].io_contexts
    ledger.add(1)
    assert not ledger[1].io_contexts


def test_who_is_not_in_the_set_is_stored_nowhere() -> None:
    """And what was consumed of it is still owed."""
    ledger = Ledger()
    ledger.add(1)
    ledger.begin()
    ledger.note(1, ALL, Found(extents({3}), ALL, Extents.none()))
    ledger.commit(ledger.end(), "a", {1: ALL}, settled={1: True}, io_contexts={})
    ledger.begin()
    ledger.note(1, ALL, Found(extents({4}), ALL, Extents.none()))
    ledger.commit(ledger.end(), "b", {}, settled={}, io_contexts={})
    assert numbers(ledger[1].stored) == set()
    ledger.begin()
    assert numbers(ledger.note(1, ALL, Found(Extents.none(), ALL, Extents.none())).must) == {4}
