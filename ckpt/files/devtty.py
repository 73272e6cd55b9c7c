"""/dev/tty: what it leads to is what controls the session of who opens it.

So the leader of a session of the tree opens that one's. But it may be open of a terminal that no
session has any more, for it was given up (TIOCNOTTY) or hung up: a child of ours leads a session
for that moment, gives the terminal up and hands us what it has opened. Nothing of a session is
left. Where the terminal was hung up which one it was is not known, and one is made that nobody else
ever sees; its number stays in use as long as the description, as that of the lost one.

Source: ioctl_tty(2), drivers/tty/tty_jobctrl.c (disassociate_ctty).
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import termios
from typing import TYPE_CHECKING, NoReturn

from ckpt.errors import RestoreError
from ckpt.files import ttystate
from ckpt.files.openflags import open_as
from ckpt.files.ptmx import PTMX, only_one
from ckpt.infect.batch import Batch

if TYPE_CHECKING:
    from ckpt.files.restoring import Tasks

_TTY = "/dev/tty"
_AT_FDCWD = -100 & 0xFFFF_FFFF_FFFF_FFFF


def open_in_session(tasks: Tasks | None, sid: int, flags: int) -> int:
    """Our duplicate of what the leader of a session opens. Raises RestoreError."""
    if tasks is None or sid not in tasks:
        raise RestoreError("the leader of its session is not there", resource=_TTY, pid=sid)
    batch = Batch()
    how = flags | os.O_NOCTTY | os.O_CLOEXEC
    fd = batch.call("openat", _AT_FDCWD, batch.text(_TTY), how, 0, note=_TTY)
    number = tasks.run(sid, batch).of(fd)
    try:
        return tasks.duplicate(sid, number)
    finally:
        closing = Batch()
        closing.call("close", number)
        tasks.run(sid, closing)


def open_given_up(slave: int, flags: int) -> int:
    """/dev/tty of the terminal of our descriptor, which no session has. Raises RestoreError,
    OSError."""
    ours, childs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with childs:
            pid = os.fork()
            if pid == 0:
                _lead(childs, slave, flags)
        try:
            lfds = socket.recv_fds(ours, 1, 1)[1]
        finally:
            os.waitpid(pid, 0)
    if not lfds:
        raise RestoreError("can't be opened for a session that is no more", resource=_TTY)
    os.set_inheritable(lfds[0], False)
    return lfds[0]


def open_hung_up(flags: int) -> int:
    """/dev/tty of a terminal that is hung up. When the terminals of the tree have their numbers:
    this takes one, too. Raises RestoreError, OSError."""
    with only_one():
        master = open_as(PTMX, os.O_RDWR)
        try:
            ttystate.tell(master, ttystate.TIOCSPTLCK, 0)
            slave = fcntl.ioctl(master, ttystate.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
            try:
                return open_given_up(slave, flags)
            finally:
                os.close(slave)
        finally:
            os.close(master)


def _lead(childs: socket.socket, slave: int, flags: int) -> NoReturn:
    """In the child. Does not return."""
    status = 1
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        tty = open_as(_TTY, flags)
        fcntl.ioctl(tty, termios.TIOCNOTTY)
        socket.send_fds(childs, [b"x"], [tty])
        status = 0
    finally:
        os._exit(status)
