"""UNIX sockets: names that are taken or given back, plans, and what CRIU's tool reads."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.requirements import require
from tests.support import processes
from tests.support.case import Case
from tests.support.programs import program
from tests.support.waiting import wait_until


def test_a_name_that_another_process_has_is_not_taken_away(case: Case) -> None:
    victim = case.dumped(program("files/unix_names"))
    path = victim.folder / "listener"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as client:
        other.bind(str(path))
        other.listen()
        case.ckpt.restore(case.images).failed(6, str(path), "another process is bound")
        client.connect(str(path))
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_a_file_in_the_place_of_a_name_stays(case: Case) -> None:
    victim = case.dumped(program("files/unix_names"))
    path = victim.folder / "listener"
    path.unlink()
    path.write_text("kept")
    case.ckpt.restore(case.images).failed(6, str(path), "something else")
    assert path.read_text() == "kept"
    path.unlink()
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_a_restore_that_fails_leaves_no_names(case: Case) -> None:
    """One name is taken; those that were bound before are removed again."""
    victim = case.dumped(program("files/unix_names"))
    for name in ("listener", "client", "relative", "log"):
        (victim.folder / name).unlink()
    (victim.folder / "relative").write_text("in the way")
    before = sorted(path.name for path in victim.folder.iterdir())
    case.ckpt.restore(case.images).failed(6, "relative")
    assert sorted(path.name for path in victim.folder.iterdir()) == before
    (victim.folder / "relative").unlink()
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_a_plan_names_them_and_makes_nothing(case: Case) -> None:
    victim = case.dumped(program("files/unix_names"))
    path = victim.folder / "listener"
    path.unlink()
    plan = case.ckpt.run("restore", "-D", case.images, "--dry-run").ok().stdout
    assert f"make stream UNIX socket {path} that listens (3)" in plan, plan
    assert not path.exists()
    case.ckpt.restore(case.images).ok()
    victim.finish()


def decoded(image: Path) -> list[dict[str, Any]]:
    command = ["crit", "decode", "-i", str(image)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    entries: list[dict[str, Any]] = json.loads(done.stdout)["entries"]
    return entries


def test_crit_reads_names_peers_and_queues(case: Case) -> None:
    require(shutil.which("crit"), "crit (Debian's package criu) is not installed")
    victim = case.dumped(program("files/unix_names"))
    sockets = [e["usk"] for e in decoded(case.images / "files.img") if e["type"] == "UNIXSK"]
    (listener,) = (s for s in sockets if s["state"] == 10 and s["backlog"] == 3)
    assert listener["file_perms"]["mode"] & 0o7777 == 0o640
    assert sum(s["peer"] == listener["ino"] for s in sockets) == 2
    queues = decoded(case.images / "sk-queues.img")
    assert sorted(q["length"] for q in queues) == [1, 1, 1, 3, 4]
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_a_datagram_socket_with_a_peer_outside(case: Case) -> None:
    """Refused, unless it is said that the peer is a matter of others: as /dev/log."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        path = case.folder / "log"
        log.bind(str(path))
        path.chmod(0o666)
        code = (
            "import os, socket, sys\n"
            "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
            "s.connect(sys.argv[1])\ns.send(b'before')\n"
            "os.close(os.open(os.environ['VICTIM_FOLDER'] + '/go', os.O_RDONLY))\n"
            "s.send(b'after')\nprint('EXIT-SUCCESS')"
        )
        victim = case.start_command(sys.executable, "-c", code, str(path))
        assert log.recv(100) == b"before"
        wait_until(victim.pid, lambda: processes.state(victim.pid) == "S")
        inode = os.fstat(log.fileno()).st_ino
        asked = case.ckpt.run("check", "--tree", victim.pid)
        assert asked.exit_code == 3 and f"unix[{inode}]" in asked.stdout, str(asked)
        case.ckpt.run("check", "--tree", victim.pid, "--ext-unix-sk").ok()
        case.ckpt.dump(victim.pid, case.images).failed(3, f"unix[{inode}]", "--ext-unix-sk")
        case.dump_and_restore(victim, ["--ext-unix-sk"], ["--ext-unix-sk"], [])
        case.dump_and_restore(victim, ["--external", f"unix[{inode}]"], [], [])
        victim.finish()
        assert log.recv(100) == b"after"


def test_descriptors_in_flight_are_where_crit_expects_them(case: Case) -> None:
    require(shutil.which("crit"), "crit (Debian's package criu) is not installed")
    victim = case.start(program("files/unix_rights"))
    case.ckpt.dump(victim.pid, case.images, "--leave-running").ok()
    known = {entry["id"]: entry["type"] for entry in decoded(case.images / "files.img")}
    packets = decoded(case.images / "sk-queues.img")
    carried = [scm for one in packets for scm in one.get("scm", [])]
    rights = [right for scm in carried for right in scm["rights"]]
    assert {scm["type"] for scm in carried} == {1}
    assert len(rights) == 13 + 3 * 253 and set(rights) <= set(known)
    assert {"REG", "PIPE", "EVENTFD", "INETSK", "UNIXSK"} == {known[right] for right in rights}
    # Of a stream they come with the byte that they were sent with.
    lengths = [(one["length"], len(one.get("scm", []))) for one in packets]
    assert lengths[:5] == [(3, 0), (1, 1), (4, 0), (7, 1), (3, 1)]
    victim.finish()
