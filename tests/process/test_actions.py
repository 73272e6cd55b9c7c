"""`--action-script`: which events a script is told of and with what, and that one that fails, hangs
or dies leaves the target as it was."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support import processes, visible
from tests.support.case import Case
from tests.support.imageset import fingerprint
from tests.support.programs import program
from tests.support.serverprocess import page_server
from tests.support.victim import Victim
from tests.support.waiting import wait_until

FAILED, USAGE, STATUS = 11, 2, 7
RESTORED = ["pre-restore", "post-restore", "pre-resume", "post-resume"]


def script(folder: Path, text: str, name: str = "script", head: str = "#!/bin/sh\n") -> Path:
    path = folder / name
    path.write_text(f"{head}{text}\n")
    path.chmod(0o755)
    return path


def recorder(case: Case, fail: str = "none", name: str = "script") -> Path:
    """Writes down event, pid, state of the root, folder and limit; fails at the event `fail`."""
    return script(
        case.folder,
        f'at="$CRTOOLS_SCRIPT_ACTION"; pid="${{CRTOOLS_INIT_PID-none}}"\n'
        'state="$(cut -d" " -f3 "/proc/$pid/stat" 2>/dev/null || echo -)"\n'
        'test -e "$CRTOOLS_IMAGE_DIR/inventory.img" && whole=whole || whole=none\n'
        f'echo "{name} $at $pid $state $whole $CRTOOLS_IMAGE_DIR $(ulimit -Sn)" '
        f'>> "{case.folder}/record"\n'
        f'test "$at" != "{fail}" || exit {STATUS}',
        name,
    )


def record(case: Case) -> list[list[str]]:
    path = case.folder / "record"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def events(case: Case) -> list[str]:
    return [line[1] for line in record(case)]


def dumped(case: Case, *options: str) -> Victim:
    victim = case.start(program("tree/children"))
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images, *options).ok()
    victim.await_gone(pids)
    return victim


def test_events_of_a_dump_and_a_restore(case: Case) -> None:
    """The tree runs before, and stands when the images are whole. Relative folders are made
    absolute; the limit of descriptors is the one that ckpt was started with."""
    hook = str(recorder(case))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (777, hard))
    try:
        victim = dumped(case, "--action-script", hook)
        pid = str(victim.pid)
        relative = Path(os.path.relpath(case.images))
        case.ckpt.restore(relative, "--action-script", hook).ok()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    seen = record(case)
    assert [line[1:3] for line in seen] == [
        ["pre-dump", pid],
        ["post-dump", pid],
        ["pre-restore", "none"],
        *([event, pid] for event in RESTORED[1:]),
    ]
    assert [line[3] for line in seen[1:5]] == ["t", "-", seen[3][3], "t"]
    assert seen[0][3] in "SR"
    assert [line[4] for line in seen] == ["none", *["whole"] * 5]
    assert all(Path(line[5]).is_absolute() for line in seen)
    assert all(os.path.realpath(line[5]) == os.path.realpath(case.images) for line in seen)
    assert {line[6] for line in seen} == {"777"}
    victim.finish()


def test_every_script_is_told_in_order_even_after_one_that_failed(case: Case) -> None:
    first = recorder(case, "pre-dump", "first")
    second = recorder(case, name="second")
    victim = case.start(program("task/join"))
    result = case.ckpt.dump(
        victim.pid, case.images, "--action-script", f"{first}", "--action-script", f"{second}"
    )
    result.failed(FAILED, "pre-dump", f"{first}", str(STATUS))
    assert [line[:2] for line in record(case)] == [["first", "pre-dump"], ["second", "pre-dump"]]
    assert list(case.images.iterdir()) == []
    victim.finish()


@pytest.mark.parametrize("options", [(), ("-R",), ("-s",)], ids=["kill", "-R", "-s"])
def test_a_failed_post_dump_leaves_the_tree_running_and_the_images_whole(
    case: Case, options: tuple[str, ...]
) -> None:
    """The exit code is the script's, as with CRIU. The tree stands meanwhile even with -R, for a
    script may copy file systems."""
    victim = case.start(program("task/join"))
    before = visible.look(victim.pid, exact=True)
    hook = recorder(case, "post-dump")
    result = case.ckpt.dump(victim.pid, case.images, "--action-script", f"{hook}", *options)
    result.failed(STATUS, "post-dump", "the images are whole", "runs on")
    assert record(case)[1][1:5] == ["post-dump", str(victim.pid), "t", "whole"]
    visible.assert_same(before, visible.look(victim.pid, exact=True))
    pids = victim.tree
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    processes.wait_end(victim.pid, 60)
    victim.await_gone(pids)
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_a_failed_post_dump_leaves_the_rounds_that_the_set_builds_on(case: Case) -> None:
    victim = case.start(program("task/join"))
    hook = recorder(case, "post-dump")
    options = ("--action-script", f"{hook}", "--pre-rounds", "2")
    case.ckpt.dump(victim.pid, case.images, *options).failed(STATUS, "post-dump")
    assert events(case) == ["pre-dump", "post-dump"], "rounds are no dumps"
    victim.kill()
    case.ckpt.restore(case.images).ok()
    victim.finish()


@pytest.mark.parametrize("event", ["pre-restore", "post-restore"])
def test_a_restore_that_a_script_fails_leaves_nothing(case: Case, event: str) -> None:
    victim = dumped(case)
    prints = fingerprint(case.images)
    known = set(processes.tree(os.getpid()))
    hook = recorder(case, event)
    options = ("--action-script", f"{hook}", "--pidfile", "pid")
    case.ckpt.restore(case.images, *options).failed(FAILED, event, f"status {STATUS}")
    assert events(case) == RESTORED[: RESTORED.index(event) + 1]
    processes.wait_gone(set(processes.tree(os.getpid())) - known)
    assert fingerprint(case.images) == prints
    case.ckpt.restore(case.images).ok()
    victim.finish()


@pytest.mark.parametrize("event", ["pre-resume", "post-resume"])
def test_past_the_point_of_no_return_a_failure_is_logged_only(case: Case, event: str) -> None:
    victim = dumped(case)
    hook = recorder(case, event)
    result = case.ckpt.restore(case.images, "--action-script", f"{hook}").ok()
    assert f"the {event} script failed" in result.log, str(result)
    assert events(case) == RESTORED
    victim.finish()


def test_a_plan_runs_no_script(case: Case) -> None:
    victim = dumped(case)
    case.ckpt.restore(case.images, "--dry-run", "--action-script", f"{recorder(case)}").ok()
    assert events(case) == []
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_a_script_that_is_none_is_refused_before_anything(case: Case) -> None:
    victim = case.start(program("task/join"))
    good = recorder(case)
    bad = case.folder / "data"
    bad.write_text("no program\n")
    result = case.ckpt.dump(
        victim.pid, case.images, "--action-script", f"{good}", "--action-script", f"{bad}"
    )
    result.failed(USAGE, "--action-script", f"{bad}")
    assert events(case) == []
    assert list(case.images.iterdir()) == []
    victim.finish()


def test_a_script_killed_by_a_signal_has_failed(case: Case) -> None:
    hook = script(case.folder, 'test "$CRTOOLS_SCRIPT_ACTION" = pre-dump || kill -9 $$')
    victim = case.start(program("task/join"))
    result = case.ckpt.dump(victim.pid, case.images, "--action-script", f"{hook}")
    result.failed(128 + signal.SIGKILL, "post-dump")
    victim.finish()


def test_a_script_gets_no_descriptor_and_writes_to_the_log(case: Case) -> None:
    """`ls` opens the folder as the first number that is free."""
    hook = script(case.folder, "", head="#!/bin/ls /proc/self/fd\n")
    victim = case.start(program("tree/children"))
    result = case.ckpt.dump(victim.pid, case.images, "-R", "--action-script", f"{hook}").ok()
    numbers = [line for line in result.log.splitlines() if line.isdigit()]
    assert numbers == ["0", "1", "2", "3"] * 2, str(result)
    assert result.stdout == ""
    victim.finish()


def test_a_script_without_an_interpreters_line_is_the_shells(case: Case) -> None:
    hook = script(case.folder, f'echo "x $CRTOOLS_SCRIPT_ACTION" >> {case.folder}/record', head="")
    victim = case.start(program("task/join"))
    case.ckpt.dump(victim.pid, case.images, "-R", "--action-script", f"{hook}").ok()
    assert events(case) == ["pre-dump", "post-dump"]
    victim.finish()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=str)
def test_ckpt_that_ends_while_a_script_works(case: Case, number: signal.Signals) -> None:
    """By SIGTERM the script ends, too; in any case the tree runs on."""
    fifo = case.folder / "fifo"
    os.mkfifo(fifo)
    hook = script(
        case.folder,
        f'test "$CRTOOLS_SCRIPT_ACTION" = pre-dump && exit\necho $$ > {fifo}\nsleep 1000\n',
    )
    victim = case.start(program("task/join"))
    before = visible.look(victim.pid, exact=True)
    case.images.mkdir()
    argv = case.ckpt.argv("dump", "-t", victim.pid, "-D", case.images, "--action-script", hook)
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as controller:
        pid = int(fifo.read_text())
        controller.send_signal(number)
        status = controller.wait(60)
    assert status == (128 + number if number == signal.SIGTERM else -number)
    if number == signal.SIGKILL:
        os.killpg(pid, signal.SIGKILL)
    processes.wait_gone([pid])
    wait_until(victim.pid, lambda: visible.looks_as(before, victim.pid))
    visible.assert_same(before, visible.look(victim.pid, exact=True))
    victim.finish()


def test_a_page_server_tells_that_it_is_ready_first(case: Case, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    hook = recorder(case)
    options = ("--status-fd", writer, "--action-script", hook)
    with page_server(tmp_path, *options, pass_fds=(writer,)):
        os.close(writer)
        assert os.read(reader, 10) == b"\0"
        assert [line[1:3] for line in record(case)] == [["status-ready", "none"]]
    os.close(reader)


def test_a_page_server_ends_when_its_script_fails(case: Case, tmp_path: Path) -> None:
    hook = recorder(case, "status-ready")
    options = ("-D", tmp_path, "--action-script", hook)
    case.ckpt.run("page-server", *options).failed(FAILED, "status-ready")
    assert list(tmp_path.iterdir()) == []
