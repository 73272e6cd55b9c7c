"""Trees that are restored into namespaces of somebody else."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.requirements import require
from tests.support.case import Case
from tests.support.programs import program

KINDS = ("net", "ipc", "uts")
HOLD = "hostname joined && ip link set lo up && echo ready && exec cat"


@pytest.fixture
def holder() -> Iterator[int]:
    """A process with namespaces of its own, until its standard input ends."""
    require(shutil.which("ip") and shutil.which("unshare"), "ip or unshare is not installed")
    command = ["unshare", "--net", "--ipc", "--uts", "sh", "-c", HOLD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        require(process.stdout.readline() == b"ready\n", "namespaces can't be made here")
        yield process.pid
        process.stdin.close()


def namespaces(pid: int) -> dict[str, str]:
    return {kind: str(Path(f"/proc/{pid}/ns/{kind}").readlink()) for kind in KINDS}


@pytest.mark.parametrize("name", ["files/inet_tcp", "files/netlink"])
def test_into_the_namespaces_of_a_process(case: Case, holder: int, name: str) -> None:
    victim = case.start(program(name))
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    joins = [word for kind in KINDS for word in ("--join-ns", f"{kind}:{holder}")]
    case.ckpt.restore(case.images, *joins).ok()
    assert namespaces(victim.pid) == namespaces(holder) != namespaces(os.getpid())
    victim.finish()


def test_into_a_namespace_that_a_file_stands_for(case: Case, holder: int) -> None:
    victim = case.start(program("tree/sessions"))
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    path = f"/proc/{holder}/ns/uts"
    plan = case.ckpt.restore(case.images, f"-Juts:{path}", "--dry-run").ok()
    assert f"join uts namespace {path}" in plan.stdout
    case.ckpt.restore(case.images, f"-Juts:{path}").ok()
    assert namespaces(victim.pid) == {**namespaces(os.getpid()), "uts": namespaces(holder)["uts"]}
    victim.finish()


def test_what_can_not_be_joined_is_told(case: Case, holder: int) -> None:
    victim = case.start(program("files/inet_connected", "4"))
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images, "--tcp-established").ok()
    victim.await_gone(pids)
    both = (case.images, "--tcp-established")
    case.ckpt.restore(*both, f"-Jmnt:{holder}").failed(2, "--join-ns", "net, ipc, uts")
    case.ckpt.restore(*both, f"-Jipc:/proc/{holder}/ns/uts").failed(6, "no such namespace")
    case.ckpt.restore(*both, "-Juts:/nowhere").failed(6, "/nowhere", "NS:PID")
    case.ckpt.restore(*both, f"-Jnet:{holder}").failed(6, "joined network", "--tcp-close")
    case.ckpt.restore(*both).ok()
    victim.finish()
