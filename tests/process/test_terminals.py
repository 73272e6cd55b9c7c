"""Pseudo terminals: their numbers, which somebody else may have, and what crit reads of them."""

from __future__ import annotations

import base64
import os

from tests.support.case import Case
from tests.support.crit import decoded
from tests.support.programs import program
from tests.support.terminals import opened_up_to


def test_a_number_that_is_taken(case: Case) -> None:
    """Named; when it is free again the tree comes back."""
    victim = case.start(program("files/pty_pair", "lines"))
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    (number,) = {e["pty"]["index"] for e in decoded(case.images / "tty-info.img")}
    held = opened_up_to(number)
    case.ckpt.restore(case.images).failed(6, f"/dev/pts/{number}", "taken by another terminal")
    for lfd in held:
        os.close(lfd)
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_crit_reads_what_is_on_its_way(case: Case) -> None:
    """tty-info and tty-data are CRIU's: both ends, who reads what, in CRIU's numbering."""
    victim = case.start(program("files/pty_pair", "lines"))
    case.ckpt.dump(victim.pid, case.images, "-R").ok()
    infos = {e["id"]: e for e in decoded(case.images / "tty-info.img")}
    (master,) = (e for e in infos.values() if e["rdev"] == os.makedev(5, 2))
    slave = infos[master["id"] - 1]
    assert master["id"] == 2 * master["pty"]["index"] + 1
    assert slave["pty"] == master["pty"] and slave["type"] == master["type"] == "PTY"
    assert slave["winsize"]["ws_row"] == 33
    data = {e["tty_id"]: base64.b64decode(e["data"]) for e in decoded(case.images / "tty-data.img")}
    assert data == {master["id"]: b"line\r\n", slave["id"]: b"one\ntwoth\x03ree\ntyp"}
    files = {e["id"]: e for e in decoded(case.images / "files.img")}
    ends = [e["tty"] for e in files.values() if "tty" in e]
    paths = {end["tty_info_id"]: files[end["regf_id"]]["reg"]["name"] for end in ends}
    number = master["pty"]["index"]
    assert paths == {master["id"]: "/dev/ptmx", slave["id"]: f"/dev/pts/{number}"}
    victim.finish()
