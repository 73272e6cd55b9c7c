"""Descriptors without a file, where a dump or restore has something to say of them."""

from __future__ import annotations

import shutil

from tests.requirements import require
from tests.support import processes
from tests.support.case import Case
from tests.support.programs import program
from tests.support.waiting import wait_until

RESTORE_FAILED = 6


def test_a_watched_folder_that_is_gone_fails_the_restore(case: Case) -> None:
    """At the last step of all: nothing is left of the tree that was nearly complete, and the same
    images do once the folder is back."""
    victim = case.start(program("outside/watching"))
    pids = victim.tree
    assert len(pids) == 3
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    watched = victim.folder / "watched"
    watched.rmdir()
    case.ckpt.restore(case.images).failed(RESTORE_FAILED, str(watched), "can't be found")
    processes.wait_gone(pids)
    watched.mkdir()
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_a_folder_in_its_place_is_told(case: Case) -> None:
    victim = case.start(program("outside/watching"))
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    watched = victim.folder / "watched"
    # The old one still exists, so that its inode number can't be that of the new one.
    watched.rename(victim.folder / "old")
    watched.mkdir()
    said = case.ckpt.restore(case.images).ok().log
    assert "Warn" in said and f"{watched} is watched, and is not the file" in said, said
    victim.finish()


def test_a_oneshot_watch_that_nothing_disables_is_told(case: Case) -> None:
    victim = case.start(program("outside/oneshot"))
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    said = case.ckpt.restore(case.images).ok().log
    assert "Warn" in said and "one-shot watches" in said, said
    victim.finish()


def test_dry_run_names_them(case: Case) -> None:
    """And makes none of them."""
    victim = case.start(program("outside/watching"))
    case.ckpt.dump(victim.pid, case.images, "--leave-running").ok()
    plan = case.ckpt.run("restore", "-D", case.images, "--dry-run").ok().stdout
    assert f"make inotify instance that watches {victim.folder / 'watched'}" in plan
    victim.finish()


def test_tail_follows_on(case: Case) -> None:
    """tail(1) sleeps on inotify; what is written after the restore comes out of it."""
    require(shutil.which("tail"), "tail is not installed")
    log = case.folder / "log"
    log.write_text("before\n")
    victim = case.start_command("tail", "-n", "+1", "-f", str(log))
    wait_until(victim.pid, lambda: victim.out == "before\n")
    wait_until(victim.pid, lambda: processes.state(victim.pid) == "S")
    case.dump_and_restore(victim, [], [], [])
    with log.open("a") as more:
        more.write("after\n")
    wait_until(victim.pid, lambda: victim.out == "before\nafter\n")
