"""`ckpt check --tree` says what a dump would be refused for, of a tree that notices nothing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.requirements import require
from tests.support import processes, visible
from tests.support.case import Case
from tests.support.ckptcmd import Result
from tests.support.programs import Program, programs
from tests.support.programs import program as named

REFUSED, NO_TARGET, USAGE = 3, 4, 2
VICTIMS = {p.name: p for p in programs("refused")}


def check(case: Case, pid: int, *options: str) -> Result:
    return case.ckpt.run("check", "--tree", pid, *options)


@pytest.fixture(params=VICTIMS)
def program(request: pytest.FixtureRequest) -> Program:
    return VICTIMS[request.param]


def test_what_a_dump_refuses_is_named_before(case: Case, program: Program) -> None:
    victim = case.start(program)
    before = visible.look(victim.pid, exact=True)
    pids = victim.tree
    result = check(case, victim.pid, *program.words("dump"), "--json")
    told = json.loads(result.stdout)
    assert told["tree"] == victim.pid
    seen = [word for word in program.words("refused") if word not in program.words("unseen")]
    assert result.exit_code == (REFUSED if seen else 0), str(result)
    assert told["ok"] is not bool(seen)
    assert bool(told["refusals"]) is bool(seen)
    said = " ".join(str(value) for one in told["refusals"] for value in one.values()).lower()
    assert [word for word in seen if word.lower() not in said] == []
    assert {one["pid"] for one in told["refusals"]} <= set(pids)
    visible.assert_same(before, visible.look(victim.pid, exact=True))
    victim.finish()


@pytest.mark.parametrize("name", ["task/join", "files/offset", "tree/zombies", "tree/sessions"])
def test_a_tree_with_nothing_in_the_way(case: Case, name: str) -> None:
    victim = case.start(named(name))
    result = check(case, victim.pid).ok()
    assert f"Looks good: nothing is in the way of a dump of pid {victim.pid}." in result.stdout
    victim.finish()


def test_kernel_threads_are_named(case: Case) -> None:
    """They have neither memory nor an executable. Those that end meanwhile are no matter."""
    comm = Path("/proc/2/comm")
    require(comm.exists() and comm.read_text() == "kthreadd\n", "pid 2 is no kernel thread here")
    result = check(case, 2)
    assert result.exit_code == REFUSED, str(result)
    assert "no memory of its own (a kernel thread?)" in result.stdout
    dump = case.ckpt.dump(2, case.images)
    dump.failed(REFUSED, "pid 2", "no memory of its own (a kernel thread?)")
    assert list(case.images.iterdir()) == []


def test_the_option_that_helps_is_named_and_helps(case: Case) -> None:
    victim = case.start(named("refused/lock_without_option", "flock"))
    result = check(case, victim.pid)
    assert result.exit_code == REFUSED, str(result)
    head, row, _, verdict = result.stdout.splitlines()
    assert head.split() == ["pid", "what", "why", "would", "help"]
    assert row.startswith(f"{victim.pid} ")
    assert row.endswith("--file-locks")
    assert row.index("--file-locks") == head.index("would help")
    assert verdict == f"Does not look good: 1 thing is in the way of a dump of pid {victim.pid}."
    check(case, victim.pid, "--file-locks").ok()
    victim.finish()


def test_a_job_of_a_shell_is_refused_before_it_is_stopped(case: Case) -> None:
    """The root of this tree is a child of the victim's, which leads the session."""
    victim = case.start(named("tree/threads_and_children"))
    pid = processes.children(victim.pid)[0]
    result = check(case, pid, "--json")
    assert result.exit_code == REFUSED, str(result)
    (one,) = (one for one in json.loads(result.stdout)["refusals"] if one["pid"] == pid)
    assert one["resource"] == f"session {victim.pid}"
    assert "--shell-job" in one["hint"]
    check(case, pid, "--shell-job").ok()
    refused = case.ckpt.dump(pid, case.images).failed(REFUSED, f"session {victim.pid}")
    assert "Stage: freeze" not in refused.log
    victim.finish()


def test_a_tracked_tree_is_in_nobodys_way(case: Case) -> None:
    victim = case.start(named("task/join"))
    folder = case.folder / "pre"
    folder.mkdir()
    case.ckpt.run("pre-dump", "-t", victim.pid, "-D", folder).ok()
    check(case, victim.pid).ok()
    case.ckpt.run("untrack", victim.pid).ok()
    victim.finish()


def test_no_such_process(case: Case) -> None:
    gone = os.fork()
    if gone == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(gone, 0)
    check(case, gone).failed(NO_TARGET, f"pid {gone}")


def test_a_feature_is_none_of_a_tree(case: Case) -> None:
    check(case, os.getpid(), "--feature", "list").failed(USAGE, "--feature")
