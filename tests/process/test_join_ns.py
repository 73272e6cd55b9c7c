"""Trees that are restored into namespaces of somebody else."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.test_sysv_objects import VICTIMS
from tests.requirements import require
from tests.support import sysvobj
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


@pytest.mark.parametrize("kind", VICTIMS)
def test_semaphores_and_queues_into_another_namespace(case: Case, holder: int, kind: str) -> None:
    """They are made there; those in the old one stay as the dump has left them."""
    victim = case.start(program(*VICTIMS[kind]))
    ident, pids = sysvobj.of_key(kind, sysvobj.KEYS[kind] | victim.pid), victim.tree
    try:
        case.ckpt.dump(victim.pid, case.images).ok()
        victim.await_gone(pids)
        before = sysvobj.state(kind, ident)
        case.ckpt.restore(case.images, "--join-ns", f"ipc:{holder}").ok()
        victim.finish()
        assert sysvobj.state(kind, ident) == before
    finally:
        sysvobj.remove(kind, ident)


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
