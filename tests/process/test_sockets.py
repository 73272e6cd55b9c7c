"""Sockets that need more of the machine than a victim can arrange, and what CRIU's tool reads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ckpt._native import lib
from ckpt.infect.batch import number
from tests.requirements import require
from tests.support.case import Case
from tests.support.programs import program

RANGE = Path("/proc/sys/net/ipv4/ping_group_range")
CLONE_NEWNET = 0x40000000


@pytest.fixture
def pings() -> Iterator[None]:
    """A network of the test's own, where group 0 may make sockets of ping: mostly nobody may."""
    require(shutil.which("ip"), "ip is not installed")
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        done = lib.ckpt_call(number("unshare"), CLONE_NEWNET, 0, 0, 0, 0, 0)
        require(done == 0, "network namespaces can't be made here")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        RANGE.write_text("0 0")
        yield
    finally:
        assert lib.ckpt_call(number("setns"), own, CLONE_NEWNET, 0, 0, 0, 0) == 0
        os.close(own)


@pytest.mark.usefixtures("pings")
def test_sockets_of_ping(case: Case) -> None:
    victim = case.start(program("outside/ping"))
    case.dump_and_restore(victim, [], [], [])
    victim.finish()


@pytest.mark.usefixtures("pings")
def test_who_may_make_sockets_of_ping_is_told(case: Case) -> None:
    victim = case.start(program("outside/ping"))
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    RANGE.write_text("1 0")
    case.ckpt.restore(case.images).failed(6, "ping socket", "ping_group_range")
    RANGE.write_text("0 0")
    case.ckpt.restore(case.images).ok()
    victim.finish()


@pytest.mark.parametrize(
    ("name", "field", "image"),
    [("netlink", "nlsk", "ckpt-netlink"), ("packet", "psk", "ckpt-packet")],
)
def test_crit_reads_them(case: Case, name: str, field: str, image: str) -> None:
    require(shutil.which("crit"), "crit (Debian's package criu) is not installed")
    victim = case.start(program(f"files/{name}"))
    case.ckpt.dump(victim.pid, case.images, "--leave-running").ok()
    files = decoded(case.images / "files.img")
    found = [entry[field] for entry in files if field in entry]
    assert found and (case.images / f"{image}.img").exists()
    if field == "nlsk":
        # That of the audit system is there where the kernel has it.
        found = [one for one in found if one["protocol"] != 9]
        assert sorted(one["protocol"] for one in found) == [0, 0, 0, 2, 2, 15, 16]
        # CRIU takes no more than one word of them, and no zeros at the end.
        assert sorted(len(one.get("groups", [])) for one in found) == [0, 0, 0, 0, 0, 1, 2]
    else:
        assert {one["protocol"] for one in found} == {0, 0x0008, 0x0608}  # as on the wire
        assert [len(one.get("mclist", [])) for one in found] == [0, 0, 3, 0, 0]
    victim.finish()


def decoded(image: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["crit", "decode", "-i", str(image)], capture_output=True, text=True, check=True
    )
    entries: list[dict[str, Any]] = json.loads(done.stdout)["entries"]
    return entries
