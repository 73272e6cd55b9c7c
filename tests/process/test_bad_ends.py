"""A restore that can't be is a clear error, builds nothing, and leaves the images as they were."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fault.injection import eventually
from tests.support import processes, visible
from tests.support.case import Case
from tests.support.imageset import fingerprint
from tests.support.programs import program
from tests.support.victim import Victim

USAGE, TARGET, IMAGE, RESTORE = 2, 4, 5, 6
SUBJECT = "tree/many_cycles"


def dumped(case: Case, name: str = SUBJECT) -> tuple[Victim, dict[str, str]]:
    """A victim that is gone, its images, and what they look like."""
    return case.dumped(program(name)), fingerprint(case.images)


@contextmanager
def nothing_changes(images: Path, prints: dict[str, str]) -> Iterator[None]:
    """No process more below us, no image touched."""
    known = set(processes.tree(os.getpid()))
    yield
    assert fingerprint(images) == prints, "the images were touched"

    def left() -> list[int]:
        """A dead one may still wait to be reaped by us: what counts is that none goes on."""
        found = set(processes.tree(os.getpid())) - known
        return [pid for pid in found if processes.state(pid) not in ("Z", "X", "")]

    assert eventually(lambda: not left()), f"left behind: {left()}"
    processes.end_leftovers(known)


def test_pid_taken(case: Case) -> None:
    """By the very process that was dumped, which goes on."""
    victim = case.start(program(SUBJECT))
    case.ckpt.dump(victim.pid, case.images, "--leave-running").ok()
    before = visible.look(victim.pid, exact=True)
    prints = fingerprint(case.images)
    with nothing_changes(case.images, prints):
        result = case.ckpt.restore(case.images).failed(RESTORE, "taken")
        tids = [int(tid) for pid in victim.tree for tid in os.listdir(f"/proc/{pid}/task")]
        assert any(f"pid {tid}:" in result.stderr for tid in tids), str(result)
    visible.assert_same(before, visible.look(victim.pid, exact=True))
    victim.finish()


def test_pid_taken_by_a_zombie(case: Case) -> None:
    """The dumped root, killed, not yet reaped by its parent: us."""
    victim = case.start(program("task/join"))
    case.ckpt.dump(victim.pid, case.images).ok()
    prints = fingerprint(case.images)
    assert processes.state(victim.pid) == "Z"
    with nothing_changes(case.images, prints):
        case.ckpt.restore(case.images).failed(RESTORE, str(victim.pid))
    victim.await_gone([victim.pid])
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_file_gone_and_back(case: Case) -> None:
    victim, prints = dumped(case, "files/offset")
    data = victim.folder / "data"
    data.rename(victim.folder / "elsewhere")
    with nothing_changes(case.images, prints):
        case.ckpt.restore(case.images).failed(RESTORE, str(data))
    (victim.folder / "elsewhere").rename(data)
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_file_of_another_size(case: Case) -> None:
    victim, prints = dumped(case, "files/offset")
    data = victim.folder / "data"
    content = data.read_bytes()
    data.write_bytes(content[:-1])
    with nothing_changes(case.images, prints):
        case.ckpt.restore(case.images).failed(RESTORE, str(data), "bytes")
    data.write_bytes(content)
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_working_directory_gone(case: Case) -> None:
    victim, prints = dumped(case, "task/cwd_umask")
    (victim.folder / "elsewhere").rmdir()
    with nothing_changes(case.images, prints):
        case.ckpt.restore(case.images).failed(RESTORE, str(victim.folder / "elsewhere"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


@pytest.mark.timeout(600)  # some sixty commands
@pytest.mark.parametrize("damage", [flip, truncate, os.unlink])
def test_damaged_images(case: Case, damage: object) -> None:
    """Every image in turn: named, nothing built. Whole again, the set restores."""
    victim, _ = dumped(case)
    whole = case.folder / "whole"
    shutil.copytree(case.images, whole)
    assert callable(damage)
    # The statistics are for people, and sums may be missing.
    names = [path.name for path in sorted(whole.iterdir()) if path.name != "stats-dump"]
    for name in names:
        if name.startswith("ckpt-") and damage is os.unlink:
            continue
        if name == "cpuinfo.img" and damage is not truncate:
            continue  # `ckpt cpuinfo dump` may replace it, so there is no sum of it
        damage(case.images / name)
        with nothing_changes(case.images, fingerprint(case.images)):
            case.ckpt.restore(case.images).failed(IMAGE, name)
        shutil.copy2(whole / name, case.images / name)
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_missing_sums_stop_nothing(case: Case) -> None:
    victim, _ = dumped(case)
    for path in case.images.glob("ckpt-*"):
        path.unlink()
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_folder_that_holds_a_set(case: Case) -> None:
    """Neither overwritten nor mixed: the second dump is an error before harm."""
    victim = case.start(program(SUBJECT))
    case.ckpt.dump(victim.pid, case.images, "-R").ok()
    prints = fingerprint(case.images)
    before = visible.look(victim.pid, exact=True)
    with nothing_changes(case.images, prints):
        case.ckpt.dump(victim.pid, case.images).failed(IMAGE, str(case.images))
    visible.assert_same(before, visible.look(victim.pid, exact=True))
    victim.finish()


def test_folder_without_a_set(case: Case) -> None:
    case.images.mkdir()
    with nothing_changes(case.images, {}):
        case.ckpt.restore(case.images).failed(IMAGE, str(case.images))


def test_no_such_folder(case: Case) -> None:
    result = case.ckpt.restore(case.folder / "nowhere")
    assert result.exit_code in (USAGE, IMAGE), str(result)
    assert "nowhere" in result.stderr


def test_no_such_target(case: Case) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    case.ckpt.dump(gone.pid, case.images).failed(TARGET, str(gone.pid))
    assert list(case.images.iterdir()) == []


def test_kernel_thread(case: Case) -> None:
    result = case.ckpt.dump(2, case.images)
    assert result.exit_code in (3, TARGET), str(result)
    assert list(case.images.iterdir()) == []


def test_no_room_for_the_images(case: Case) -> None:
    """A full file system: the target goes on as it was, nothing that looks like a set is left."""
    victim = case.start(program("memory/private"))
    before = visible.look(victim.pid, exact=True)
    case.images.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(case.images)], check=True)
    try:
        result = case.ckpt.dump(victim.pid, case.images)
        assert result.exit_code not in (0, -999), str(result)
        assert "space" in result.stderr.lower(), str(result)
        assert not (case.images / "inventory.img").exists()
        assert list(case.images.iterdir()) == []
    finally:
        subprocess.run(["umount", str(case.images)], check=True)
    visible.assert_same(before, visible.look(victim.pid, exact=True))
    victim.finish()


def test_dump_killed(case: Case) -> None:
    """SIGKILL at 25 moments of a dump that leaves its target running: the target never notices."""
    victim = case.start(program("task/blocked", "poll"))
    before = visible.look(victim.pid)
    for step in range(25):
        images = case.folder / f"images{step}"
        images.mkdir()
        dump = subprocess.Popen(
            case.ckpt.argv("dump", "-t", victim.pid, "-D", images, "-R"),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            dump.wait(step * 0.02)
        except subprocess.TimeoutExpired:
            dump.send_signal(signal.SIGKILL)
            dump.wait()
    # A stub that lost its controller goes back within its limit of 60 ms.
    case.ckpt.dump(victim.pid, case.images, "-R").ok()
    visible.assert_same(before, visible.look(victim.pid))
    victim.finish()
