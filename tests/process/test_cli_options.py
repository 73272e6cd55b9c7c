"""Options that change what a dump writes and how a restore ends, on real trees."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ckpt.images import directory
from ckpt.kerndat.cpu import this_cpu, to_message
from ckpt.record import replace
from tests.support import processes
from tests.support.case import Case
from tests.support.imageset import fingerprint
from tests.support.programs import program
from tests.support.victim import Victim

RESTORE = 6


def dumped(case: Case, *options: str) -> Victim:
    """A victim with open files that is gone, and its images."""
    return case.dumped(program("files/offset"), *options)


def test_without_checksums_and_record_of_the_cpu(case: Case) -> None:
    victim = dumped(case, "--no-checksums", "--cpu-cap=none")
    names = {path.name for path in case.images.iterdir()}
    assert "inventory.img" in names
    assert not names & {"ckpt-checksums.img", "cpuinfo.img"}
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_another_cpu_is_refused_unless_asked_for(case: Case) -> None:
    victim = dumped(case)
    cpu = this_cpu()
    richer = replace(cpu, words=tuple(0xFFFF_FFFF for _ in cpu.words))
    directory.write_image(case.images, "cpuinfo", [to_message(richer)])
    prints = fingerprint(case.images)
    case.ckpt.restore(case.images).failed(RESTORE, "this CPU", "--cpu-cap=none")
    assert fingerprint(case.images) == prints
    case.ckpt.restore(case.images, "--cpu-cap=none").ok()
    victim.finish()


def test_changed_permissions_are_refused_unless_asked_for(case: Case) -> None:
    victim = dumped(case)
    changed = victim.folder / "data"
    changed.chmod(0o444)
    case.ckpt.restore(case.images).failed(RESTORE, f"{changed}", "--skip-file-rwx-check")
    case.ckpt.restore(case.images, "--skip-file-rwx-check").ok()
    victim.finish()


def test_a_plan_executes_nothing(case: Case) -> None:
    victim = dumped(case)
    known = set(processes.tree(os.getpid()))
    said = case.ckpt.restore(case.images, "--dry-run", "--pidfile", "pid").ok().stdout
    assert str(victim.pid) in said
    assert f"{victim.folder / 'data'}" in said
    assert set(processes.tree(os.getpid())) == known
    assert not (case.images / "pid").exists()


def test_a_pidfile_must_be_new(case: Case) -> None:
    victim = dumped(case)
    (case.images / "pid").write_text("1")
    case.ckpt.restore(case.images, "--pidfile", "pid").failed(RESTORE, "pidfile")
    assert (case.images / "pid").read_text() == "1"
    (case.images / "pid").unlink()
    case.ckpt.restore(case.images, "--pidfile", "pid").ok()
    assert (case.images / "pid").read_text() == f"{victim.pid}"
    victim.finish()


def attached(case: Case, *options: str) -> subprocess.Popen[bytes]:
    with Path(os.devnull).open("r+b") as null:
        return subprocess.Popen(
            case.ckpt.argv("restore", "-D", case.images, *options), stdin=null, stdout=null
        )


@pytest.mark.parametrize(
    ("options", "status"), [((), 0), (("--exit-status",), 37)], ids=["as CRIU", "--exit-status"]
)
def test_attached_it_waits_for_the_root(case: Case, options: tuple[str, ...], status: int) -> None:
    victim = case.start_command("sh", "-c", "echo ready > ready; read line < go; exit 37")
    victim.wait_ready()
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    controller = attached(case, *options)
    victim.go()
    os.write(victim.held[-1], b"end\n")
    assert controller.wait(60) == status


def test_a_command_becomes_the_trees_parent(case: Case) -> None:
    victim = dumped(case)
    script = (
        "grep PPid: /proc/$(cat pid)/status > parent; echo $$ >> parent;"
        "readlink /proc/self/ns/time >> parent"
    )
    controller = attached(
        case, "--pidfile", "pid", "--exec-cmd", "--", "sh", "-c", f"cd {case.images}; {script}"
    )
    assert controller.wait(60) == 0
    parent, shell, its_childs = (case.images / "parent").read_text().splitlines()
    assert parent.split()[1] == shell == str(controller.pid)
    # The tree has a time namespace of its own; what the command starts must not be born into it.
    ours = str(Path("/proc/self/ns/time").readlink())
    assert its_childs == ours
    assert str(Path(f"/proc/{victim.pid}/ns/time").readlink()) != ours
    victim.finish()


@pytest.mark.parametrize("option", [None, "--restore-sibling", "-S"])
def test_the_tree_as_a_sibling(case: Case, option: str | None) -> None:
    """It is born as a child of who has called ckpt; else it is left to whoever takes orphans."""
    victim = dumped(case)
    restore = case.ckpt.argv("restore", "-D", case.images, "-d", *([option] if option else []))
    script = f'"$@" || exit 1; grep PPid: /proc/{victim.pid}/status; echo $$'
    shell = subprocess.run(
        ["sh", "-c", script, "sh", *restore], stdout=subprocess.PIPE, check=True, timeout=60
    )
    parent, caller = shell.stdout.decode().splitlines()
    assert parent.split()[1] == (caller if option else str(os.getpid()))
    victim.finish()


def test_a_sibling_that_can_not_be_is_not_left(case: Case) -> None:
    """It is nobody's child whom ckpt could wait for, and ends all the same."""
    victim = dumped(case)
    known = set(processes.tree(os.getpid()))
    (case.images / "pid").write_text("1")
    restore = case.ckpt.restore(case.images, "-S", "--pidfile", "pid")
    restore.failed(RESTORE, "pidfile")
    processes.wait_gone(set(processes.tree(os.getpid())) - known)
    assert not processes.state(victim.pid)
    (case.images / "pid").unlink()
    case.ckpt.restore(case.images, "-S").ok()
    victim.finish()


@pytest.mark.parametrize("verb", ["dump", "pre-dump"])
def test_a_root_that_has_ended(case: Case, verb: str) -> None:
    """But still waits for its parent."""
    case.images.mkdir()
    with subprocess.Popen(["true"], start_new_session=True) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        case.ckpt.run(verb, "-t", ended.pid, "-D", case.images).failed(4, "has ended")
        assert not list(case.images.glob("inventory*"))
