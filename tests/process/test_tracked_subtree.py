"""A part of a tree that is tracked: whoever dumps it alone is told what is in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.case import Case
from tests.support.waiting import wait_until


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_dump_of_a_tracked_subtree(case: Case, mode: str) -> None:
    victim = case.start_command("sh", "-c", "setsid sleep 1000; true")
    wait_until(victim.pid, lambda: len(victim.tree) == 2 and _is(victim.tree[1], "sleep"))
    child = victim.tree[1]
    folder = case.folder / "pre"
    folder.mkdir()
    words = ("-t", victim.pid, "-D", folder, "--track-mode", mode)
    case.ckpt.run("pre-dump", *words).ok()
    case.ckpt.dump(child, case.images, "-R").failed(3, "userfaultfd", "ckpt untrack PID")
    assert not os.listdir(case.images)
    case.ckpt.run("untrack", victim.pid).ok()
    case.ckpt.dump(child, case.images, "-R").ok()
    assert processes.tree(victim.pid) == [victim.pid, child]


def _is(pid: int, name: str) -> bool:
    return Path(f"/proc/{pid}/comm").read_text() == f"{name}\n"
