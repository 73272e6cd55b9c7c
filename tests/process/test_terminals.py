"""Pseudo terminals: their numbers, which somebody else may have, and what crit reads of them.
Consoles and lines: their settings, which somebody else may have made."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.requirements import require
from tests.support.case import Case
from tests.support.crit import decoded
from tests.support.programs import program
from tests.support.terminals import opened_up_to
from tests.support.victim import Victim


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


@contextmanager
def terminal(path: str, flags: int = os.O_RDWR) -> Iterator[int]:
    lfd = os.open(path, flags | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield lfd
    finally:
        os.close(lfd)


def make_quiet(lfd: int) -> None:
    """Settings that the victim has not made."""
    now = termios.tcgetattr(lfd)
    now[3] = 0
    now[6][termios.VERASE] = b"!"
    termios.tcsetattr(lfd, termios.TCSANOW, now)


def terminal_of(pid: int) -> str:
    """The virtual terminal that a victim has open."""
    links = (str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir())
    return next(path for path in links if path.startswith("/dev/tty"))


HOLDER = """
import fcntl, os, sys, termios
tty = os.open(sys.argv[1], os.O_RDWR)
fcntl.ioctl(tty, termios.TIOCSCTTY, 0)
print("there", flush=True)
sys.stdin.read()
"""


@contextmanager
def login(path: str) -> Iterator[None]:
    """A session of somebody else, on a terminal."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"there\n"
        yield


def dumped(case: Case, kind: str) -> tuple[Victim, str]:
    """A victim that is gone by now, and the path of the virtual terminal that it had."""
    victim = case.start(program("files/tty_device", kind))
    path, pids = terminal_of(victim.pid), victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    return victim, path


def test_settings_of_a_device_come_back(case: Case) -> None:
    """Whatever it was set to meanwhile, as the victim itself finds out."""
    victim, path = dumped(case, "opened")
    with terminal(path) as lfd:
        make_quiet(lfd)
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_settings_of_another_session_are_left_alone(case: Case) -> None:
    """Somebody has logged in there meanwhile: said, and the rest is restored."""
    victim, path = dumped(case, "opened")
    with login(path), terminal(path) as lfd:
        old = termios.tcgetattr(lfd)
        make_quiet(lfd)
        theirs = termios.tcgetattr(lfd)
        said = case.ckpt.restore(case.images).ok()
        assert f"{path}: a session outside the tree has it by now" in said.log
        assert termios.tcgetattr(lfd) == theirs
        victim.go()
        with pytest.raises(AssertionError, match="same"):
            victim.verdict()
        termios.tcsetattr(lfd, termios.TCSANOW, old)


def test_a_session_gets_no_terminal_of_another(case: Case) -> None:
    """Refused; when they have logged out it is restored."""
    victim, path = dumped(case, "leader")
    with login(path):
        case.ckpt.restore(case.images).failed(6, "can't have the terminal")
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_another_terminal_is_given(case: Case) -> None:
    """--inherit-fd by its path: the victim's settings go to that one."""
    victim, path = dumped(case, "opened")
    with terminal("/dev/tty15") as lfd:
        old = termios.tcgetattr(lfd)
        make_quiet(lfd)
        given = ("--inherit-fd", f"fd[{lfd}]:{path[1:]}")
        case.ckpt.restore(case.images, *given, pass_fds=(lfd,)).ok()
        assert termios.tcgetattr(lfd)[6][termios.VERASE] == b"#"
        victim.finish()
        termios.tcsetattr(lfd, termios.TCSANOW, old)


def test_serial_line(case: Case) -> None:
    """A line that is there: no restore waits for its modem."""
    line = "/dev/ttyS0"
    try:
        with terminal(line, os.O_RDONLY) as lfd:
            there = bool(termios.tcgetattr(lfd))
    except (OSError, termios.error):
        there = False
    require(there, f"there is no {line}")
    victim = case.start_command(str(program("outside/serial_line").build(case.built)), line)
    victim.wait_ready()
    case.dump_and_restore(victim, [], [], [])
    victim.finish()
