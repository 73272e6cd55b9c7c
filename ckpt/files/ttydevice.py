"""Consoles (/dev/console), virtual terminals (/dev/ttyN), serial lines (/dev/ttyS0, USB, modems):
terminals that are there without any program, and stay there when the tree is gone.

So what a restore has to bring back is little: the device is opened by its path, which must lead to
the same kind of terminal under the same number, and gets the settings that the tree had given it.
Not where they are another's by now: a session of the machine (a login, say) that the device
controls. /dev/console and /dev/tty0 are, as ever, what they stand for at the time.

A line is opened with O_NONBLOCK, or a modem that is not there would hold the restore.

Not kept: what is on its way through the device, the screen, modem lines. The size of the window is
left alone: it is that of the screen which is there. Refused is what a restore would have to bring
back: modes of a virtual terminal by which an X server takes it over, line disciplines that make a
network of a line, devices that were hung up.

Source: tty_ioctl(4), console_ioctl(2), Documentation/admin-guide/devices.txt; CRIU's criu/tty.c for
types and ids.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from ckpt.errors import RestoreError, TargetError
from ckpt.files import ttystate
from ckpt.files.openflags import open_as
from ckpt.files.ttyimage import CONSOLE, SERIAL, VT
from ckpt.files.ttystate import Settings
from ckpt.procfs.reader import ProcDir, pids
from ckpt.procfs.stat import parse_stat

_KDGETMODE, _KDGKBMODE, _VT_GETMODE = 0x4B3B, 0x4B44, 0x5601
_KD_TEXT, _VT_AUTO = 0, 0
_TYPED = (1, 3)
"""K_XLATE and K_UNICODE: characters come from the keyboard, not what keys do."""
_VT_MODE = struct.Struct("=bbhhh")
_TTY_MAJOR, _AUX_MAJOR, _FIRST_SERIAL = 4, 5, 64
_LINES = frozenset({166, 188, 204, 229})
"""Majors of modems, USB, embedded and virtual lines."""
FIRST_IDS = {CONSOLE: 1002 << 1, VT: 1004 << 1, SERIAL: 1010 << 1}
"""CRIU's id of the one terminal of each type that it can have."""
DEVICES = frozenset(FIRST_IDS)


def type_of(rdev: int) -> int | None:
    """The TtyType of a device; None if it is none of these."""
    major, minor = os.major(rdev), os.minor(rdev)
    if (major, minor) == (_AUX_MAJOR, 1):
        return CONSOLE
    if major == _TTY_MAJOR:
        return VT if minor < _FIRST_SERIAL else SERIAL
    return SERIAL if major in _LINES else None


def stands_for_another(rdev: int) -> bool:
    """Whether which terminal it is only a duplicate tells: /dev/console and /dev/tty0."""
    return rdev in (os.makedev(_AUX_MAJOR, 1), os.makedev(_TTY_MAJOR, 0))


def obstacle(lfd: int, kind: int) -> str:
    """Why the terminal of our duplicate can't be restored; an empty string if it can."""
    try:
        if ttystate.has_discipline(lfd):
            return ttystate.DISCIPLINE
        if kind == VT and _is_taken_over(lfd):
            return "it is in a mode for graphics or raw keys, which is not restored yet"
    except OSError as error:
        if error.errno == errno.EIO:
            return "a console or serial line that was hung up is not restored yet"
        raise
    return ""


def _is_taken_over(lfd: int) -> bool:
    mode = _VT_MODE.unpack(fcntl.ioctl(lfd, _VT_GETMODE, bytes(_VT_MODE.size)))[0]
    return (
        ttystate.ask(lfd, _KDGETMODE) != _KD_TEXT
        or ttystate.ask(lfd, _KDGKBMODE) not in _TYPED
        or mode != _VT_AUTO
    )


# ---- restore


def open_path(path: str, rdev: int) -> int:
    """The terminal of an image by its path, to be opened again by `open_device`. Raises
    RestoreError where something else is there, OSError where it can't be opened."""
    lfd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    if os.fstat(lfd).st_rdev == rdev:
        return lfd
    os.close(lfd)
    raise RestoreError(
        f"is not the terminal {os.major(rdev)}:{os.minor(rdev)} any more",
        resource=path,
        hint=f"put it back, or give another one by --inherit-fd 'fd[N]:{path[1:]}'",
    )


def open_device(path: str, flags: int) -> int:
    """Open a terminal that may be a line without a modem. Raises OSError."""
    lfd = open_as(path, flags | os.O_NONBLOCK)
    try:
        if not flags & os.O_NONBLOCK:
            fcntl.fcntl(lfd, fcntl.F_SETFL, fcntl.fcntl(lfd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
    except BaseException:
        os.close(lfd)
        raise
    return lfd


def may_set(lfd: int, settings: Settings) -> bool:
    """Whether a terminal may be given these settings: it has them already (but for the line
    discipline, which is none of them), or no session has it by now. Raises OSError."""
    now = Settings.of(lfd)._replace(line=settings.line)
    if not settings.ospeed:
        now = now._replace(ispeed=settings.ispeed, ospeed=settings.ospeed)
    return now == settings or not _controls_somebody(lfd)


def _controls_somebody(lfd: int) -> bool:
    """Whether a session has the terminal as its controlling one: of tasks that are there now."""
    wanted = ttystate.ask(lfd, ttystate.TIOCGDEV) & 0xFFFF_FFFF
    for pid in pids():
        try:
            with ProcDir(pid) as proc:
                seen = parse_stat(proc.read("stat"))
        except TargetError:
            continue
        if seen.tty_nr & 0xFFFF_FFFF == wanted:
            return True
    return False
