"""Trees whose memory is not all there are dumped again: it is waited for while they run."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from ckpt.images.layers import layers_of
from tests.support.lazily import HOLDER, SERVER, named, pages_held, until, until_all_is_in
from tests.support.programs import program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.case import Case

WAITED = "is waited for"
WAYS = [(), ("--live",)]
MORE = [("--leave-running",), ("--pre-rounds", "1")] if os.environ.get("CKPT_STRESS") else []


@contextmanager
def waiting(case: Case, verb: str, *options: str | Path | int) -> Iterator[None]:
    """Within it the command waits for missing memory; after it, it has ended well."""
    argv = case.ckpt.argv(verb, "-v3", *options)
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    said = read_until(process.stderr, WAITED)
    assert WAITED in said[-1], said
    yield
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 0, (said, rest)


def read_until(stream: IO[str], words: str) -> list[str]:
    said = []
    for line in stream:
        said.append(line)
        if words in line:
            break
    return said


@pytest.mark.parametrize("options", WAYS + MORE)
def test_a_dump_waits(case: Case, options: tuple[str, ...]) -> None:
    """The victim runs meanwhile; what is dumped has all of its memory."""
    victim = case.dumped(program("lazy/machine", "5", "100"))
    second = case.folder / "second"
    second.mkdir()
    with pages_held(case) as hold:
        case.ckpt.restore(case.images, "--lazy").ok()
        with waiting(case, "dump", "-t", victim.pid, "-D", second, *options):
            hold.unlink()
    if "--live" in options or "--leave-running" in options:
        victim.kill()
    victim.await_gone([victim.pid])
    case.ckpt.restore(second).ok()
    victim.finish(timeout_s=100)
    until_all_is_in(case.images)


def test_a_dump_waits_no_longer_than_it_may(case: Case) -> None:
    """Then the tree is as it was."""
    victim = case.dumped(program("lazy/machine", "6", "100"))
    second = case.folder / "second"
    with pages_held(case) as hold:
        case.ckpt.restore(case.images, "--lazy").ok()
        refused = case.ckpt.dump(victim.pid, second, "--timeout", "0.1")
        refused.failed(8, "still missing", "--timeout")
        said = case.ckpt.run("check", "--tree", victim.pid).ok()
        assert "would wait" in said.stderr
        hold.unlink()
    victim.finish(timeout_s=100)
    until_all_is_in(case.images)


def test_a_tracked_tree_is_pre_dumped_at_once(case: Case) -> None:
    """The pre-dump waits, and what it writes is only what differs from the set of the restore."""
    victim = case.dumped(program("lazy/walk", "32"))
    second, third = (case.folder / name for name in ("second", "third"))
    second.mkdir()
    where = ("-t", victim.pid, "-D", second, "--prev-images-dir", "../images")
    with pages_held(case) as hold:
        victim.expect_ready()
        case.ckpt.restore(case.images, "--lazy", "--track-mem").ok()
        with waiting(case, "pre-dump", *where):
            hold.unlink()
    victim.go("touch")
    victim.wait_ready()
    case.ckpt.dump(victim.pid, third, "--prev-images-dir", "../second").ok()
    victim.await_gone([victim.pid])
    case.ckpt.restore(third).ok()
    victim.finish(timeout_s=100)
    own = [layer.present for layer in layers_of(third)[0]]
    assert len(own) == 3 and sum(own[:2]) < own[2] // 8, own


def test_a_subtree_waits(case: Case) -> None:
    victim = case.dumped(program("lazy/shared", "1", "50", "calm"))
    child = victim.tree[-1]
    second = case.folder / "second"
    second.mkdir()
    with pages_held(case) as hold:
        case.ckpt.restore(case.images, "--lazy").ok()
        with waiting(case, "pre-dump", "-t", child, "-D", second):
            hold.unlink()
    until_all_is_in(case.images)
    victim.finish(timeout_s=100)


def test_a_server_whose_holder_was_killed_is_waited_for(case: Case) -> None:
    victim = case.dumped(program("lazy/machine", "7", "100"))
    second = case.folder / "second"
    with pages_held(case) as hold:
        case.ckpt.restore(case.images, "--lazy").ok()
        (holder,) = named(HOLDER)
        os.kill(holder, signal.SIGKILL)
        until(lambda: not named(HOLDER))
        refused = case.ckpt.dump(victim.pid, second, "--timeout", "0.1")
        refused.failed(8, "still missing", "was killed")
        with waiting(case, "dump", "-t", victim.pid, "-D", second):
            hold.unlink()
    victim.await_gone([victim.pid])
    until(lambda: not named(SERVER))
    case.ckpt.restore(second).ok()
    victim.finish(timeout_s=100)
