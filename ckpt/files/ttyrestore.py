"""Terminals on the way out of the images; see ckpt.files.tty for what is in there.

A pseudo terminal of the tree is made before there are tasks: its master under its number
(ckpt.files.ptmx), the slaves, then what is on its way, settings, size. One slave of ours stays open
until the tasks are complete: the leader of its session takes it as controlling terminal when it has
founded the session, so that all tasks born later inherit it (ckpt.restore.terminals). /dev/tty is
opened by that leader. What would keep others from opening (locked, exclusive) comes at the end.

A slave that was hung up is opened on a master that is closed at once; where the tree has that
master, the slave is hung up before any other is opened.

With `--shell-job`: the terminal that ckpt itself has as standard input, output or error (the first
that is one) stands for every slave without a master. The first description whose flags ours has is
a duplicate of it, for a job shares its shell's description; others are opened from it anew. It gets
the settings that the program had made. The size of the window is left alone: it belongs to the
terminal that is there now.

A console, virtual terminal or serial line is opened by its path (ckpt.files.ttydevice), or given by
--inherit-fd under it, and gets its settings once. It is a controlling terminal if it was one of a
session of the tree; of a session outside, it is a job's terminal as above.
"""

from __future__ import annotations

import fcntl
import os
import signal
import termios
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.errors import ImageError, RestoreError
from ckpt.files import devtty, ttydevice, ttystate
from ckpt.files.kind import FdType, RestoreKind, Stage
from ckpt.files.openflags import checked, open_as, shown
from ckpt.files.ptmx import PTS, only_one, open_masters, open_slave
from ckpt.files.regular import RegularRestore
from ckpt.files.ttydevice import DEVICES
from ckpt.files.ttyfill import fill, own_node
from ckpt.files.ttyimage import CTTY, EXT_TTY, Info, Terminals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckpt.files.restoring import RestoreView


class _File(NamedTuple):
    info: int
    flags: int
    signum: int
    path: int


class TtyRestore(RestoreKind):
    type = FdType.TTY
    field = "tty"

    def __init__(self, view: RestoreView) -> None:
        super().__init__(view)
        self._files: dict[int, _File] = {}
        self._terminals = Terminals()
        self._masters: dict[int, int] = {}
        self._inside: set[int] = set()
        self._hung_up: set[int] = set()
        self._gone: set[int] = set()
        self._open: dict[int, int] | None = None
        self._peers: dict[int, int] = {}
        self._set: set[int] = set()
        self._shared: set[int] = set()
        self._given: dict[int, Info] = {}
        self._lent: dict[int, int] = {}
        self._paths: dict[int, str] = {}

    def take(self, file_id: int, message: Any) -> None:
        where = f"terminal {file_id:#x} of files.img"
        flags, signum = checked(message.flags, where), self.view.signum(message.fown, where)
        self._files[file_id] = _File(message.tty_info_id, flags, signum, message.regf_id)

    def prepare(self, wanted: Iterable[int]) -> None:
        wanted = list(wanted)
        self._terminals = Terminals.read(self.view)
        for file_id in wanted:
            info = self._info(file_id)
            if info.master:
                if info.number in self._masters:
                    raise ImageError(
                        f"is a second master of {PTS}/{info.number}",
                        resource=f"terminal {file_id:#x} of files.img",
                    )
                self._masters[info.number] = file_id
            if info.type in DEVICES:
                self._paths[info.id] = self._path(file_id)
            if info.type in (EXT_TTY, *DEVICES) and info.sid in self.view.tables:
                self._given[info.sid] = info
        for file_id in wanted:
            info = self._info(file_id)
            if info.hung_up:
                self._hung_up.add(file_id)
            elif info.type == CTTY and info.whole is None:
                self._gone.add(file_id)
            elif self._is_inside(info):
                self._inside.add(file_id)
            elif not info.master and not self._is_device(info):
                self._check_outside(info, f"terminal {file_id:#x} of files.img")

    def _info(self, file_id: int) -> Info:
        info = self._terminals.infos.get(self._files[file_id].info)
        if info is None:
            raise ImageError(
                "has no entry in tty-info.img", resource=f"terminal {file_id:#x} of files.img"
            )
        return info

    def _path(self, file_id: int) -> str:
        """Where a device is to be opened again."""
        file = self.view.kind(RegularRestore).files.get(self._files[file_id].path)
        rdev = self._info(file_id).rdev
        if file is None or file.external or ttydevice.type_of(rdev) != self._info(file_id).type:
            raise ImageError(
                "is a console or serial line without a path, or with a number that none has",
                resource=f"terminal {file_id:#x} of files.img",
            )
        return file.path

    def _is_device(self, info: Info) -> bool:
        """One that is opened again: not the terminal of a job."""
        return info.type in DEVICES and (not info.sid or info.sid in self.view.tables)

    def _is_inside(self, info: Info) -> bool:
        if info.type == CTTY and not info.lost:
            return info.sid in self._given or self._index_of_session(info.sid) is not None
        return (info.slave or info.lost) and info.number in self._masters

    def _check_outside(self, info: Info, where: str) -> None:
        if info.type == EXT_TTY:
            name = self._name(info)
            if name not in self.view.inherit:
                raise RestoreError(
                    "is external, and nothing was given for it",
                    resource=name,
                    hint=f"--inherit-fd 'fd[N]:{name}' with N open in ckpt",
                )
        elif info.type not in (CTTY, *DEVICES) and not info.slave:
            raise RestoreError("is a kind that is not restored yet", resource=where)
        elif not self.view.shell_job:
            raise RestoreError(
                "the tree was dumped as a shell's job", resource=where, hint="--shell-job"
            )

    def _index_of_session(self, sid: int) -> int | None:
        """The number of a terminal of the tree that controls a session."""
        if not sid:
            return None
        return next((i for i, m in self._masters.items() if self._info(m).sid == sid), None)

    def terminal_of(self, sid: int) -> int | None:
        """Our descriptor of the terminal of a session, after `open_all`; None if it has none."""
        if sid in self._given:
            if sid not in self._lent:
                self._lent[sid] = self._lend(self._given[sid])
            return self._lent[sid]
        index = self._index_of_session(sid)
        return None if index is None else self._peers[index]

    def foreground_of(self, sid: int) -> int:
        """The group in the foreground of a session's terminal; 0 if there is none."""
        if sid in self._given:
            return self._given[sid].pgrp
        index = self._index_of_session(sid)
        return 0 if index is None else self._info(self._masters[index]).pgrp

    def stage_of(self, file_id: int) -> Stage:
        return Stage.TASKS if self._of_session(file_id) else self.stage

    def _of_session(self, file_id: int) -> bool:
        """/dev/tty, which the leader of a session of the tree opens."""
        info = self._info(file_id)
        return file_id in self._inside and info.type == CTTY and not info.lost

    def text(self, file_id: int) -> str:
        info, flags = self._info(file_id), shown(self._files[file_id].flags)
        if file_id in self._hung_up or file_id in self._gone:
            return f"open {self._name(info)} {flags}, hung up"
        if info.master:
            nr = len(info.output), len(info.lines) + bool(info.rest)
            return f"make the master of {self._name(info)} {flags}, {nr[0]} bytes, {nr[1]} lines"
        if file_id in self._inside or self._is_device(info):
            return f"open {self._name(info)} {flags}"
        return f"open our terminal {flags} for {self._name(info)}"

    def open(self, file_id: int) -> int:
        info = self._info(file_id)
        if self._of_session(file_id):
            lfd = devtty.open_in_session(self.view.tasks, info.sid, self._files[file_id].flags)
        elif file_id in self._gone:
            lfd = self._open_gone(info, self._files[file_id].flags)
        elif info.master or file_id in self._inside or file_id in self._hung_up:
            try:
                lfd = self._made().pop(file_id)
            except OSError as error:
                why = os.strerror(error.errno or 0)
                raise RestoreError("can't be made", resource=self._name(info), why=why) from error
        else:
            lfd = self._open_outside(file_id, info)
        try:
            self.view.set_signum(lfd, self._files[file_id].signum)
        except BaseException:
            os.close(lfd)
            raise
        return lfd

    def finish(self, file_id: int, lfd: int) -> None:
        info = self._info(file_id)
        if not info.master and file_id not in self._inside and not self._is_device(info):
            return
        if info.master and info.locked:
            ttystate.tell(lfd, ttystate.TIOCSPTLCK, 1)
        if info.whole is not None and info.whole.exclusive:
            fcntl.ioctl(lfd, termios.TIOCEXCL)

    def close(self) -> None:
        opened, self._open = self._open or {}, None
        peers, self._peers = self._peers, {}
        lent, self._lent = self._lent, {}
        for lfd in (*opened.values(), *peers.values(), *lent.values()):
            os.close(lfd)

    # ---- terminals of the tree

    def _made(self) -> dict[int, int]:
        """Everything of the tree's own terminals, made once."""
        if self._open is None:
            self._open = {}
            with only_one():
                flags = {i: self._files[m].flags for i, m in self._masters.items()}
                closed = {self._info(i).number for i in self._hung_up} - set(flags)
                masters = open_masters({**dict.fromkeys(closed, os.O_RDWR), **flags})
            try:
                for index in closed:
                    self._make_hung_up(index, masters[index])
            finally:
                for index in closed:
                    os.close(masters[index])
                for index, file_id in self._masters.items():
                    self._open[file_id] = masters[index]
            for index, file_id in self._masters.items():
                self._make(index, self._info(file_id), masters[index])
        return self._open

    def _make_hung_up(self, index: int, master: int) -> None:
        """Open the slaves that are to be hung up, by the end of their master or by ourselves."""
        ttystate.tell(master, ttystate.TIOCSPTLCK, 0)
        for file_id in sorted(i for i in self._hung_up if self._info(i).number == index):
            self._keep(file_id, open_slave(master, index, self._files[file_id].flags))

    def _keep(self, file_id: int, lfd: int) -> int:
        if self._open is None:
            self._open = {}
        self._open[file_id] = lfd
        return lfd

    def _make(self, index: int, info: Info, master: int) -> None:
        self._make_hung_up(index, master)
        if any(self._info(i).number == index for i in self._hung_up):
            lfd = open_slave(master, index, os.O_RDWR)
            try:
                fcntl.ioctl(lfd, ttystate.TIOCVHANGUP)
            finally:
                os.close(lfd)
        inside = (i for i in self._inside if self._info(i).slave)
        slaves = sorted(i for i in inside if self._info(i).number == index)
        lost = sorted(i for i in self._inside if self._info(i).lost)
        lost = [i for i in lost if self._info(i).number == index]
        if slaves or lost or info.sid or info.left:
            self._peers[index] = open_slave(master, index, os.O_RDWR | os.O_NONBLOCK)
        own_node(index, info, self.view.report)
        for file_id in slaves:
            self._keep(file_id, open_slave(master, index, self._files[file_id].flags))
        for file_id in lost:
            self._keep(
                file_id, devtty.open_given_up(self._peers[index], self._files[file_id].flags)
            )
        fill(info, master, self._peers.get(index))
        if not slaves and not info.sid and info.left:
            os.close(self._peers.pop(index))

    def _open_gone(self, info: Info, flags: int) -> int:
        """Once the tree's own terminals have their numbers."""
        try:
            self._made()
            return devtty.open_hung_up(flags)
        except OSError as error:
            raise self._cannot_open(info, error) from error

    # ---- terminals outside the tree

    def _open_outside(self, file_id: int, info: Info) -> int:
        file = self._files[file_id]
        source = self._source(info)
        try:
            lfd = self._open_from(source, info, file.flags & ~os.O_NOFOLLOW)
        except OSError as error:
            raise self._cannot_open(info, error) from error
        finally:
            os.close(source)
        try:
            if file.info not in self._set and info.whole is not None:
                self._set.add(file.info)
                self._set_outside(lfd, info)
        except BaseException:
            os.close(lfd)
            raise
        return lfd

    def _cannot_open(self, info: Info, error: OSError) -> RestoreError:
        why = os.strerror(error.errno or 0)
        return RestoreError("can't be opened", resource=self._name(info), why=why)

    def _lend(self, info: Info) -> int:
        source = self._source(info)
        if not self._is_device(info):
            return source
        try:
            return ttydevice.open_device(f"/proc/self/fd/{source}", os.O_RDWR | os.O_NONBLOCK)
        except OSError as error:
            raise self._cannot_open(info, error) from error
        finally:
            os.close(source)

    def _open_from(self, source: int, info: Info, flags: int) -> int:
        if info.type == CTTY:
            return open_as("/dev/tty", flags)
        if self._is_device(info):
            return ttydevice.open_device(f"/proc/self/fd/{source}", flags)
        if fcntl.fcntl(source, fcntl.F_GETFL) == flags and info.id not in self._shared:
            self._shared.add(info.id)
            return fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, 3)
        return open_as(f"/proc/self/fd/{source}", flags)

    def _name(self, info: Info) -> str:
        if info.id in self._paths:
            return self._paths[info.id]
        if info.type == EXT_TTY:
            return f"tty[{info.rdev:x}:{info.dev:x}]"
        return "/dev/tty" if info.type == CTTY else f"{PTS}/{info.number}"

    def _source(self, info: Info) -> int:
        """Our duplicate of the terminal that is to stand for this one."""
        given = self.view.inherited(self._name(info))
        if given is None:
            given = self.view.inherited(self._name(info)[1:])
        if given is not None:
            return given
        if self._is_device(info):
            try:
                return ttydevice.open_path(self._name(info), info.rdev)
            except OSError as error:
                raise self._cannot_open(info, error) from error
        for lfd in (0, 1, 2):
            if os.isatty(lfd):
                return fcntl.fcntl(lfd, fcntl.F_DUPFD_CLOEXEC, 3)
        raise RestoreError(
            "there is no terminal to give to the tree",
            resource=self._name(info),
            why="none of our standard input, output and error is one",
            hint="run ckpt restore in a terminal",
        )

    def _set_outside(self, lfd: int, info: Info) -> None:
        if info.whole is None:
            return
        # In the background the kernel would stop us (SIGTTOU) instead of doing it.
        old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            if self._is_device(info) and not ttydevice.may_set(lfd, info.whole.settings):
                self.view.report.warn(
                    f"{self._name(info)}: a session outside the tree has it by now; its settings "
                    "are left as they are"
                )
                return
            info.whole.settings.set(lfd)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            self.view.report.warn(f"{self._name(info)}: its settings can't be restored: {why}")
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)
