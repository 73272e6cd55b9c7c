"""Victims dumped from a fork while they run on, then killed and restored: whatever they hold is in
the copy as it was, and the copy is seen by none of them. `make test` takes a few, `make stress`
all."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest

from tests.fault.injection import Faults, run
from tests.support import visible
from tests.support.case import Case
from tests.support.copies import copies
from tests.support.programs import Program, programs

FEW = ("private", "cow_generations", "advice", "mlock_future", "prot_none", "aio", "dead_leaders")
STRESS = bool(os.environ.get("CKPT_STRESS"))
ROOMS = ("memory", "task", "tree", "time", "files") if STRESS else ("memory", "tree")
NOT_LIVE = frozenset(("--tcp-established", "--leave-stopped"))
SHARING = ("sharing",)
"""Tasks that share their memory are not dumped live."""

VICTIMS = {
    f"{p.source.parent.name}-{p.name}": p
    for p in programs(*ROOMS)
    if (STRESS or p.source.stem in FEW)
    and p.source.stem not in SHARING
    and NOT_LIVE.isdisjoint(p.words("dump"))
    if not p.all("not live")
}


@pytest.mark.parametrize("name", VICTIMS)
def test_from_a_fork(case: Case, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program: Program = VICTIMS[name]
    # They are small: without this nothing would be forked.
    monkeypatch.setattr("ckpt.live.fork.pays", lambda *_: True)
    victim = case.start(program)
    before = visible.look(victim.pid, exact=True)
    case.images.mkdir()
    words = ["-t", str(victim.pid), "-D", str(case.images), "-W", str(case.folder)]
    argv = ["dump", *words, "--live=fork", *program.words("dump")]
    done = run(argv, Faults(), case.folder / "dump.log")
    assert done.code == 0, str(done)
    visible.assert_same(before, visible.look(victim.pid, exact=True))
    assert not copies()
    pids = victim.tree
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    victim.await_gone(pids)
    case.ckpt.restore(case.images, *program.words("restore")).ok()
    victim.finish()
