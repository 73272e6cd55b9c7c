"""Live dumps: the image is of one instant, the tree runs on, and nothing is left in it.

Oracles: the victim's own books (tests/victims/live), which no torn image would balance.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.case import Case
from tests.support.ckptcmd import Result
from tests.support.live import NOTHING, check_beside, traces
from tests.support.programs import program
from tests.support.victim import Victim

NR_SNAPSHOTS = 3
NR_STRESS = int(os.environ.get("CKPT_LIVE_SNAPSHOTS", "1000"))
LEAVES = ("UNMAP", "FREE", "MOVE", "EXEC", "EXIT")
MORE_LEAVES = ("SHRINK", "REPLACE", "BRK", "THREAD")


def _snapshot(case: Case, victim: Victim, number: int, *options: str) -> Path:
    images = case.folder / f"live{number}"
    case.ckpt.dump(victim.pid, images, *options).ok()
    return images


def _telling_script(case: Case, fifo: Path, what: str) -> Path:
    """An action script that writes into a FIFO while the tree stands."""
    script = case.folder / "script"
    script.write_text(
        f'#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != live-instant ] || printf {what} > {fifo}\n'
    )
    script.chmod(0o755)
    return script


def _check_each(case: Case, victim: Victim, sets: list[Path]) -> None:
    """Restore one after the other in the place of the original, which has been killed."""
    size = (victim.folder / "out").stat().st_size
    for images in sets:
        os.truncate(victim.folder / "out", size)
        case.ckpt.restore(images).ok()
        victim.finish()


@pytest.mark.parametrize("mode", ["wp", "fork"])
def test_one_instant(case: Case, mode: str) -> None:
    """Snapshots at moments that nobody has chosen; the original's own books stay right, too."""
    victim = case.start(program("live/accounts", "KEEP"))
    sets = [_snapshot(case, victim, number, f"--live={mode}") for number in range(NR_SNAPSHOTS)]
    assert traces(victim.pid) == NOTHING
    victim.kill()
    _check_each(case, victim, sets)


def test_memory_is_freed_all_the_time(case: Case) -> None:
    """By munmap(2), mremap(2) and free(3), in two threads, while two others move money."""
    victim = case.start(program("live/accounts", "FREE"))
    images = _snapshot(case, victim, 1, "--live=wp", "--live-catch=always")
    victim.kill()
    _check_each(case, victim, [images])


def test_kernel_writes(case: Case) -> None:
    """Reads into protected buffers, of a process that is not root."""
    victim = case.start(program("live/reader"))
    check_beside(case, victim, _snapshot(case, victim, 1, "--live=wp"))
    assert traces(victim.pid) == NOTHING
    victim.finish()


def test_requests_of_io_uring(case: Case) -> None:
    """An idle ring reads into all memory as soon as the tree runs: each page is copied before."""
    victim = case.start(program("live/rings"))
    victim.expect_ready()
    fifo = victim.folder / "told"
    script = _telling_script(case, fifo, "x")
    case.ckpt.dump(victim.pid, case.images, "--live=wp", f"--action-script={script}").ok()
    victim.wait_ready()
    assert traces(victim.pid) == NOTHING
    victim.kill()
    with fifo.open("r+b", buffering=0) as told:
        case.ckpt.restore(case.images).ok()
        told.write(b"y")
        victim.verdict()


@pytest.mark.parametrize("catch", ["auto", "always"])
def test_births_and_ends(case: Case, catch: str) -> None:
    """Threads that are born while the tree is watched are let go of as well."""
    victim = case.start(program("live/births"))
    options = ("--live=wp", f"--live-catch={catch}", "--max-slowdown=30")
    check_beside(case, victim, _snapshot(case, victim, 1, *options))
    assert traces(victim.pid) == NOTHING
    victim.finish()


def test_untouched_memory(case: Case) -> None:
    """It is not in the image, and nothing of it is waited for."""
    victim = case.start(program("live/untouched"))
    images = case.folder / "live"
    images.mkdir()
    done = case.ckpt.run("dump", "-t", victim.pid, "-D", images, "--live=wp", "--json").ok()
    assert "once more" not in done.log
    assert 2 <= int(str(_figures(done)["pages_written"])) < 1000
    victim.kill()
    _check_each(case, victim, [images])


def test_disk_full(case: Case) -> None:
    """There is no set, and the tree runs on: nobody waits for a page that can't be written."""
    victim = case.start(program("live/accounts", "FREE"))
    case.images.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", case.images], check=True)
    try:
        case.ckpt.dump(victim.pid, case.images, "--live=wp").failed(5, "space")
        assert not list(case.images.iterdir())
    finally:
        subprocess.run(["umount", case.images], check=True)
    assert traces(victim.pid) == NOTHING
    victim.finish()


@pytest.mark.stress
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("frees", ["KEEP", "FREE"])
def test_a_thousand_instants(case: Case, frees: str) -> None:
    """Each restored beside the original, which never stops."""
    victim = case.start(program("live/accounts", frees))
    for number in range(NR_STRESS // 2):
        images = _snapshot(case, victim, number, "--live=wp")
        check_beside(case, victim, images)
        shutil.rmtree(images)
        shutil.rmtree(images.with_name(f"{images.name}-copy"))
    assert traces(victim.pid) == NOTHING
    victim.finish()


@pytest.mark.parametrize(
    "how", [*LEAVES, *(pytest.param(how, marks=pytest.mark.stress) for how in MORE_LEAVES)]
)
def test_given_back_at_once(case: Case, how: str) -> None:
    """The first thing that the tree does when it runs again is to give its memory back."""
    victim = case.start(program("live/leaver", how))
    fifo = victim.folder / "told"
    script = _telling_script(case, fifo, "x")
    options = ("--live-catch=always", f"--action-script={script}")
    case.ckpt.dump(victim.pid, case.images, "--live=wp", *options).ok()
    victim.kill()
    with fifo.open("r+b", buffering=0) as told:
        case.ckpt.restore(case.images).ok()
        told.write(b"y")
        victim.verdict()


@pytest.mark.parametrize("mode", ["wp", "fork", "auto"])
def test_original_goes_on(case: Case, mode: str) -> None:
    victim = case.start(program("live/accounts", "KEEP"))
    _snapshot(case, victim, 1, f"--live={mode}")
    victim.finish()


def _figures(result: Result) -> dict[str, object]:
    return dict(json.loads(result.stdout))


@pytest.mark.parametrize("option", ["--max-slowdown=20", "--live-memory=4M"])
def test_bounds(case: Case, option: str) -> None:
    """A slow sweep and few buffers cost time, and never a page."""
    victim = case.start(program("live/accounts", "KEEP"))
    images = case.folder / "live"
    images.mkdir()
    result = case.ckpt.run(
        "dump", "-t", victim.pid, "-D", images, "--live=wp", "--json", option
    ).ok()
    live = _figures(result)["live"]
    assert isinstance(live, dict)
    if option.startswith("--live-memory"):
        assert live["peak_bytes"] <= 4 << 20
    victim.kill()
    _check_each(case, victim, [images])


@pytest.mark.parametrize(
    "option",
    ["--leave-stopped", "--tcp-established", "--track-mode=async", "--pre-rounds=2"],
)
def test_what_does_not_go_with_it(case: Case, option: str) -> None:
    victim = case.start(program("live/accounts", "KEEP"))
    case.ckpt.dump(victim.pid, case.images, "--live=wp", option).failed(2, "--live")
    assert not list(case.images.glob("*.img"))
    victim.finish()


def test_asynchronously_tracked_tree_is_refused(case: Case) -> None:
    victim = case.start(program("live/accounts", "KEEP"))
    first = case.folder / "pre"
    first.mkdir()
    case.ckpt.run("pre-dump", "-t", victim.pid, "-D", first).ok()
    case.ckpt.dump(victim.pid, case.images, "--live=wp").failed(3, "tracked", "untrack")
    case.ckpt.run("untrack", victim.pid).ok()
    victim.finish()


def test_instant_script(case: Case) -> None:
    """It is run while the tree stands; its failure leaves no set, and the tree runs on."""
    victim = case.start(program("live/accounts", "KEEP"))
    script = case.folder / "script"
    script.write_text(
        "#!/bin/sh\n"
        '[ "$CRTOOLS_SCRIPT_ACTION" = live-instant ] || exit 0\n'
        f"cut -d' ' -f3 /proc/$CRTOOLS_INIT_PID/stat > {case.folder}/state\n"
        f"exit $(cat {case.folder}/status)\n"
    )
    script.chmod(0o755)
    (case.folder / "status").write_text("1")
    wanted = f"--action-script={script}"
    case.ckpt.dump(victim.pid, case.images, "--live", wanted).failed(11, "live-instant")
    assert (case.folder / "state").read_text().strip() == "t"
    assert not list(case.images.glob("*"))
    (case.folder / "status").write_text("0")
    case.ckpt.dump(victim.pid, case.images, "--live", wanted).ok()
    victim.kill()
    _check_each(case, victim, [case.images])
