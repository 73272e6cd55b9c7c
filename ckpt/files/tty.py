"""Terminals outside the tree: a shell's, given to its job.

Dump, only with `--shell-job`: the slave of a pseudo terminal whose master nobody in the tree has,
and /dev/tty. `--external tty[RDEV:DEV]` (both hexadecimal) takes any terminal; a restore is given
it by --inherit-fd under that name.

Restore with `--shell-job`: the terminal that ckpt itself has as standard input, output or error
(the first that is one) stands for every such terminal. The first description whose flags ours has
is a duplicate of it, for a job shares its shell's description; others are opened from it anew. The
terminal gets the settings (termios) that the program had made, as an editor needs them. The size of
the window is left alone: it belongs to the terminal that is there now.

Not kept: input that was typed and not read, which stays in the old terminal. Refused: masters of
pseudo terminals, consoles, serial lines, and terminals that were hung up.

Source: tty_ioctl(4), pty(7); CRIU's criu/tty.c for the ids of tty-info.img.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import struct
import termios
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.errors import ImageError, Refusal, RestoreError
from ckpt.files.kind import DumpKind, FdType, Obstacle, RestoreKind
from ckpt.files.openflags import checked, open_as, shown
from ckpt.files.regular import RegularDump
from ckpt.images.types import message_class

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView
    from ckpt.files.restoring import RestoreView

_PTS_MAJORS = range(136, 144)
_DEV_TTY = os.makedev(5, 0)
_MAJORS = frozenset({4, 204, *_PTS_MAJORS})
_CONTROLLING = frozenset({_DEV_TTY, os.makedev(5, 1)})
_PTY, _CTTY, _EXT_TTY = 1, 4, 5
_CTTY_INDEX, _EXT_INDEX = 1006, 1008
_TERMIOS = struct.Struct("=4IB19s")
_WINSIZE = struct.Struct("=4H")
_NR_CC = 19
_TIOCGLCKTRMIOS, _TIOCGEXCL = 0x5456, 0x80045440


def is_terminal(d: Descriptor) -> bool:
    """By its device number. Masters of pseudo terminals are none here."""
    if d.format != stat.S_IFCHR:
        return False
    return os.major(d.rdev) in _MAJORS or d.rdev in _CONTROLLING


def external_name(d: Descriptor) -> str:
    """The name of a terminal for --external."""
    return f"tty[{d.rdev:x}:{d.dev:x}]"


class _Info(NamedTuple):
    type: int
    number: int
    rdev: int
    dev: int
    uid: int
    gid: int
    exclusive: bool
    termios: bytes
    locked: bytes
    winsize: bytes


class TtyDump(DumpKind):
    type = FdType.TTY

    def __init__(self, view: DumpView) -> None:
        super().__init__(view)
        self._held: list[tuple[Descriptor, int]] = []
        self._paths: dict[int, int] = {}
        self._infos: dict[int, _Info] = {}

    def claims(self, d: Descriptor) -> bool:
        return is_terminal(d) and not d.flags & os.O_PATH

    def obstacle(self, d: Descriptor) -> Obstacle | None:
        options = self.view.options
        if external_name(d) in options.external:
            return None
        if os.major(d.rdev) not in _PTS_MAJORS and d.rdev != _DEV_TTY:
            name = f"a console or serial line ({os.major(d.rdev)}:{os.minor(d.rdev)})"
            hint = f"--external '{external_name(d)}' and, at restore, --inherit-fd"
            return Obstacle(f"{name} is not restored yet", hint)
        if not options.shell_job:
            return Obstacle(
                "a terminal outside the tree",
                f"--shell-job, or --external '{external_name(d)}' and, at restore, --inherit-fd",
            )
        return None

    def hold(self, d: Descriptor, file_id: int) -> None:
        self._held.append((d, file_id))
        if external_name(d) not in self.view.options.external:
            self._paths[file_id] = self.view.kind(RegularDump).add_path(d)

    def settle(self) -> Iterable[Refusal]:
        for d, _ in self._held:
            number = self._number(d)
            if number in self._infos:
                continue
            try:
                self._infos[number] = self._ask(d, number)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                yield Refusal(d.pid, str(d), "a terminal that was hung up is not restored yet")

    def _number(self, d: Descriptor) -> int:
        """CRIU's id: twice the index, which for pseudo terminals is N of /dev/pts/N."""
        if external_name(d) in self.view.options.external:
            return _EXT_INDEX << 1
        if d.rdev == _DEV_TTY:
            return _CTTY_INDEX << 1
        return (os.minor(d.rdev) + (os.major(d.rdev) - _PTS_MAJORS.start << 20)) << 1

    def _ask(self, d: Descriptor, number: int) -> _Info:
        lfd = self.view.duplicate(d)
        exclusive = struct.unpack("i", fcntl.ioctl(lfd, _TIOCGEXCL, b"\0" * 4))[0]
        external = external_name(d) in self.view.options.external
        return _Info(
            _EXT_TTY if external else _CTTY if d.rdev == _DEV_TTY else _PTY,
            *(number, d.rdev, d.dev, d.uid, d.gid, bool(exclusive)),
            fcntl.ioctl(lfd, termios.TCGETS, b"\0" * 64)[: _TERMIOS.size],
            fcntl.ioctl(lfd, _TIOCGLCKTRMIOS, b"\0" * 64)[: _TERMIOS.size],
            fcntl.ioctl(lfd, termios.TIOCGWINSZ, b"\0" * _WINSIZE.size),
        )

    def entries(self) -> Iterator[Any]:
        for d, file_id in self._held:
            entry = self.entry(file_id)
            tty = entry.tty
            tty.id, tty.tty_info_id, tty.flags = file_id, self._number(d), d.flags
            tty.fown.CopyFrom(self.view.fown(d))
            if file_id in self._paths:
                tty.regf_id = self._paths[file_id]
            yield entry

    def images(self) -> dict[str, Sequence[Any]]:
        infos = [_info_message(info) for info in self._infos.values()]
        return {"tty-info": infos} if infos else {}


def _info_message(info: _Info) -> Any:
    info_class: Any = message_class("tty.tty_info_entry")
    message = info_class(
        id=info.number,
        type=info.type,
        locked=False,
        exclusive=info.exclusive,
        packet_mode=False,
        sid=0,
        pgrp=0,
        rdev=info.rdev,
        dev=info.dev,
        uid=info.uid,
        gid=info.gid,
    )
    for entry, packed in ((message.termios, info.termios), (message.termios_locked, info.locked)):
        iflag, oflag, cflag, lflag, line, cc = _TERMIOS.unpack(packed)
        entry.c_iflag, entry.c_oflag, entry.c_cflag, entry.c_lflag = iflag, oflag, cflag, lflag
        entry.c_line, entry.c_ispeed, entry.c_ospeed = line, 0, 0
        entry.c_cc.extend(cc)
    row, col, xpixel, ypixel = _WINSIZE.unpack(info.winsize)
    size = message.winsize
    size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel = row, col, xpixel, ypixel
    if info.type == _PTY:
        message.pty.index = info.number >> 1
    return message


class _File(NamedTuple):
    info: int
    flags: int
    signum: int


class TtyRestore(RestoreKind):
    type = FdType.TTY
    field = "tty"

    def __init__(self, view: RestoreView) -> None:
        super().__init__(view)
        self._files: dict[int, _File] = {}
        self._infos: dict[int, Any] = {}
        self._set: set[int] = set()
        self._shared: set[int] = set()

    def take(self, file_id: int, message: Any) -> None:
        where = f"terminal {file_id:#x} of files.img"
        flags, signum = checked(message.flags, where), self.view.signum(message.fown, where)
        self._files[file_id] = _File(message.tty_info_id, flags, signum)

    def prepare(self, wanted: Iterable[int]) -> None:
        for info in self.view.messages("tty-info"):
            if info.id in self._infos:
                raise ImageError("is there twice", resource=f"terminal {info.id} of tty-info.img")
            self._infos[info.id] = info
        for file_id in wanted:
            where = f"terminal {file_id:#x} of files.img"
            info = self._infos.get(self._files[file_id].info)
            if info is None:
                raise ImageError("has no entry in tty-info.img", resource=where)
            self._check(info, where)

    def _check(self, info: Any, where: str) -> None:
        if info.type == _EXT_TTY:
            name = f"tty[{info.rdev:x}:{info.dev:x}]"
            if name not in self.view.inherit:
                raise RestoreError(
                    "is external, and nothing was given for it",
                    resource=name,
                    hint=f"--inherit-fd 'fd[N]:{name}' with N open in ckpt",
                )
            return
        if info.type not in (_PTY, _CTTY) or (info.type == _PTY and info.id & 1):
            raise RestoreError("is a kind that is not restored yet", resource=where)
        if not self.view.shell_job:
            raise RestoreError(
                "the tree was dumped as a shell's job", resource=where, hint="--shell-job"
            )
        if info.HasField("termios") and (
            len(info.termios.c_cc) < _NR_CC or any(c > 255 for c in info.termios.c_cc)
        ):
            raise ImageError("has settings that no terminal has", resource=where)

    def text(self, file_id: int) -> str:
        file = self._files[file_id]
        return f"open our terminal {shown(file.flags)} for {self._name(self._infos[file.info])}"

    def open(self, file_id: int) -> int:
        file = self._files[file_id]
        info = self._infos[file.info]
        source = self._source(info)
        try:
            lfd = self._open(source, info, file.flags & ~os.O_NOFOLLOW)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise RestoreError("can't be opened", resource=self._name(info), why=why) from error
        finally:
            os.close(source)
        try:
            if file.info not in self._set and info.HasField("termios"):
                self._set.add(file.info)
                self._set_termios(lfd, info)
            self.view.set_signum(lfd, file.signum)
        except BaseException:
            os.close(lfd)
            raise
        return lfd

    def _open(self, source: int, info: Any, flags: int) -> int:
        if info.type == _CTTY:
            return open_as("/dev/tty", flags)
        if fcntl.fcntl(source, fcntl.F_GETFL) == flags and info.id not in self._shared:
            self._shared.add(info.id)
            return fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, 3)
        return open_as(f"/proc/self/fd/{source}", flags)

    def _name(self, info: Any) -> str:
        if info.type == _EXT_TTY:
            return f"tty[{info.rdev:x}:{info.dev:x}]"
        return "/dev/tty" if info.type == _CTTY else f"/dev/pts/{info.id >> 1}"

    def _source(self, info: Any) -> int:
        """Our duplicate of the terminal that is to stand for this one."""
        given = self.view.inherited(self._name(info))
        if given is None:
            given = self.view.inherited(self._name(info)[1:])
        if given is not None:
            return given
        for lfd in (0, 1, 2):
            if os.isatty(lfd):
                return fcntl.fcntl(lfd, fcntl.F_DUPFD_CLOEXEC, 3)
        raise RestoreError(
            "there is no terminal to give to the tree",
            resource=self._name(info),
            why="none of our standard input, output and error is one",
            hint="run ckpt restore in a terminal",
        )

    def _set_termios(self, lfd: int, info: Any) -> None:
        entry = info.termios
        packed = _TERMIOS.pack(
            *(entry.c_iflag, entry.c_oflag, entry.c_cflag, entry.c_lflag, entry.c_line & 0xFF),
            bytes(entry.c_cc[:_NR_CC]),
        )
        # In the background the kernel would stop us (SIGTTOU) instead of doing it.
        old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            fcntl.ioctl(lfd, termios.TCSETS, packed)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            self.view.report.warn(f"{self._name(info)}: its settings can't be restored: {why}")
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)
