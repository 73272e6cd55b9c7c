"""Any sequence of changes to memory, rounds, failures and restores, against a model of memory.

The model is the only oracle: what a restored tree holds must be what the model says, for every page
of every process, and so must what each set holds for private pages, since the tree is idle then.
Both engines. `make test` takes a few short sequences, always the same; CKPT_STRESS=1 takes
thousands of steps, new ones each time.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from ckpt.dump.options import DumpOptions
from ckpt.dump.pre_dump import pre_dump
from ckpt.dump.run import dump
from ckpt.images.dedup import punch_overridden
from tests.fault.injection import Faults, run
from tests.property import changing_tree
from tests.property.changing_tree import BASE, END, Tree, images_of, memory_differs
from tests.property.set_contents import pages_of, set_differs, tasks_of
from tests.support import keepers, processes
from tests.support.case import fresh_case
from tests.support.chain import Listening, restored

STRESS = bool(os.environ.get("CKPT_STRESS"))
WHO = st.integers(0, 2)
WHERE = st.tuples(st.integers(0, 7), st.integers(0, 255), st.integers(1, 256))
SLOT = st.integers(0, changing_tree.NR_SLOTS - 1)
OFFSET = st.sampled_from((0, 0, 8, 100))
SIZE = st.sampled_from((1, 16, 40, 128, 256, 512))
KIND = st.sampled_from(("anonymous", "anonymous", "file", "shared", "noreserve", "none"))
BUILD_ON = st.sampled_from(("newest", "newest", "newest", "newest", "older", "none"))
CODE = st.sampled_from((0, 0, errno.ENOSPC, errno.EIO))


def operation(name: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A call of that method of Tree."""
    return st.tuples(st.just(name), st.fixed_dictionaries({"n": WHO, **arguments}))


FILL = operation(
    "fill",
    where=WHERE,
    step=st.integers(1, 4),
    by=st.sampled_from(("fill", "fill", "tfill", "foreign")),
)
OTHER = st.one_of(
    operation("map", kind=KIND, slot=SLOT, offset=OFFSET, nr=SIZE),
    operation("load", where=WHERE, at=st.integers(0, 300)),
    operation("touch", where=WHERE),
    operation("unmap", where=WHERE),
    operation("move", where=WHERE, slot=SLOT, offset=OFFSET, keep=st.booleans()),
    operation("resize", where=WHERE, nr=SIZE),
    operation("protect", where=WHERE, prot=st.sampled_from((0, 1, 3, 3))),
    operation("advise", where=WHERE, advice=st.sampled_from(changing_tree.ADVICES)),
    operation("lock", where=WHERE, on=st.booleans()),
    operation("brk", nr=st.integers(-20, 40)),
    operation("fork"),
    operation("leave"),
    operation("become_new"),
)
# As often as all others together.
CHANGES = st.lists(
    st.booleans().flatmap(lambda fill: FILL if fill else OTHER), min_size=1, max_size=12
)
Change = tuple[str, dict[str, Any]]


class Incremental(RuleBasedStateMachine):
    """`built`: where compiled victims are. `sets`: those that can be built upon, the newest last.
    `base`: the set that the tracking is relative to, as far as it is `sure`; None: nothing is
    tracked."""

    built: Path
    mode: str

    def __init__(self) -> None:
        super().__init__()
        self.scope = ExitStack()
        self.case = self.scope.enter_context(fresh_case(self.built))
        self.tree = Tree(self.case)
        self.sets: list[Path] = []
        self.base: Path | None = None
        self.sure = True

    def teardown(self) -> None:
        for process in self.tree.all:
            os.close(process.machine.done)
        self.scope.close()

    @initialize(nr=SIZE)
    def first(self, nr: int) -> None:
        self.tree.map(0, "anonymous", 0, 0, nr)
        self.tree.fill(0, (0, 0, nr), 1, "fill")
        self._round("none", dedup=False)

    @rule(changes=CHANGES)
    def change(self, changes: list[Change]) -> None:
        for name, arguments in changes:
            getattr(self.tree, name)(**arguments)

    @rule(changes=CHANGES)
    def change_and_round(self, changes: list[Change]) -> None:
        """What most users do."""
        self.change(changes)
        self._round("newest", dedup=False)

    @invariant()
    def runs(self) -> None:
        """Nothing of ckpt holds a process of the tree."""
        for p in self.tree.all:
            assert processes.state(p.machine.pid) in ("R", "S", "D"), "not running"

    @rule(build_on=BUILD_ON, dedup=st.sampled_from((False, False, True)))
    def round(self, build_on: str, dedup: bool) -> None:
        self._round(build_on, dedup=dedup)

    def _round(self, build_on: str, *, dedup: bool) -> None:
        options = self._options(build_on, track_mem=True, auto_dedup=dedup)
        report = Listening()
        self.tree.wait_idle()
        pre_dump(options, report)
        self._made(options, report)

    @rule(build_on=BUILD_ON, dedup=st.sampled_from((False, False, True)))
    def dump_leave_running(self, build_on: str, dedup: bool) -> None:
        options = self._options(build_on, track_mem=True, auto_dedup=dedup, leave_running=True)
        report = Listening()
        self.tree.wait_idle()
        dump(options, report)
        self._made(options, report)

    @rule(build_on=BUILD_ON, at=st.integers(1, 250), code=CODE, keep=st.booleans())
    def failed_round(self, build_on: str, at: int, code: int, keep: bool) -> None:
        """A pre-dump dies (code 0), or fails, somewhere. `keep`: go on from its set if there is
        one, though nobody may have told the keeper."""
        options = self._options(build_on)
        argv = ["pre-dump", "-t", str(self.tree.pid), "--track-mode", self.mode]
        argv += ["-D", str(options.images_dir), "-W", str(options.work_dir)]
        if options.prev_images_dir:
            argv += ["--prev-images-dir", options.prev_images_dir]
        self.tree.wait_idle()
        end = run(
            argv, Faults(at=at, code=code, batches=False), self.case.folder / "controller.log"
        )
        whole = images_of(options.images_dir)
        assert whole or end.code != 0, str(end)
        self.sure = False
        if whole and (keep or end.code == 0):
            # A fault may have kept a task from being tracked: then the set lacks it.
            self._check(options.images_dir, tasks_of(options.images_dir))
            self.sets.append(options.images_dir)

    @rule()
    def keeper_killed(self) -> None:
        found = keepers.of(self.tree.pid)
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        processes.wait_gone(found)
        if found:
            self.base, self.sure = None, True

    @rule()
    def dedup(self) -> None:
        if not self.sets:
            return
        newest = self.sets[-1]
        before = [dict(pages_of(newest, pid)) for pid in tasks_of(newest)]
        punch_overridden(str(newest))
        assert before == [dict(pages_of(newest, pid)) for pid in tasks_of(newest)]
        del self.sets[:-1]

    @rule(build_on=BUILD_ON, dedup=st.sampled_from((False, False, True)))
    def dump_and_restore(self, build_on: str, dedup: bool) -> None:
        options = self._options(build_on, auto_dedup=dedup)
        report = Listening()
        self.tree.wait_idle()
        others = [p.machine.private(BASE, END) for p in self.tree.all]
        dump(options, report)
        self.tree.wait_gone()
        self._made(options, report)
        processes.wait_gone(keepers.of(self.tree.pid))
        self.base, self.sure = None, True
        restored(options.images_dir)
        for p, before in zip(self.tree.all, others, strict=True):
            assert not memory_differs(p)
            after = p.machine.private(BASE, END)
            assert after.keys() == before.keys(), (before.keys(), after.keys())
            changed = [
                hex(start) for (start, end), data in before.items() if after[start, end] != data
            ]
            assert not changed, f"memory of its own: {changed}"

    def _options(
        self,
        build_on: str,
        *,
        track_mem: bool = False,
        auto_dedup: bool = False,
        leave_running: bool = False,
    ) -> DumpOptions:
        folder = self.case.folder / f"set{len(list(self.case.folder.glob('set*')))}"
        folder.mkdir()
        prev = ""
        if self.sets and build_on != "none":
            prev = f"../{self.sets[-1 if build_on == 'newest' else 0].name}"
        return DumpOptions(
            tree=self.tree.pid,
            images_dir=folder,
            work_dir=folder,
            prev_images_dir=prev,
            track_mem=track_mem,
            track_mode=self.mode,
            auto_dedup=auto_dedup,
            leave_running=leave_running,
        )

    def _made(self, options: DumpOptions, report: Listening) -> None:
        """A set was made without an error: it builds on what it should, and holds the model."""
        folder = options.images_dir
        builds = (folder / "parent").is_symlink()
        prev = folder.parent / Path(options.prev_images_dir).name
        if not options.prev_images_dir:
            assert not builds
        elif self.sure:
            assert builds == (prev == self.base), report.warnings
            assert builds or report.said("is not built upon")
        self._check(folder)
        if options.auto_dedup and builds:
            self.sets.clear()
        self.sets.append(folder)
        self.base, self.sure = folder, True

    def _check(self, folder: Path, tasks: Collection[int] | None = None) -> None:
        """Of all tasks, or only of those."""
        for p in self.tree.all:
            if tasks is None or p.machine.pid in tasks:
                assert not set_differs(folder, p)


SETTINGS = settings(
    max_examples=100 if STRESS else 6,
    stateful_step_count=40 if STRESS else 18,
    derandomize=not STRESS,
    database=None,
    print_blob=True,
    phases=tuple(Phase) if STRESS else (Phase.explicit, Phase.generate),
    suppress_health_check=tuple(HealthCheck),
)


def campaign(built: Path, mode: str) -> None:
    machine = type("Tracked", (Incremental,), {"built": built, "mode": mode})
    run_state_machine_as_test(machine, settings=SETTINGS)


def test_async(built: Path) -> None:
    campaign(built, "async")


def test_sync(built: Path) -> None:
    campaign(built, "sync")
