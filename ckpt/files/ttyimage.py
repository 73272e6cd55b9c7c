"""tty-info.img, tty-data.img and ckpt-tty.img.

tty-info.img has one message for each end of a terminal, and one for each session's /dev/tty. The
ends of a pseudo terminal are told apart by their devices and ids: the master's id is odd.

Source: CRIU's criu/tty.c for ids and meaning of the images.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ckpt.errors import ImageError
from ckpt.files.ttystate import NR_CC, WINSIZE, Settings, Whole
from ckpt.images.types import message_class
from ckpt.record import field, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckpt.files.restoring import RestoreView

PTY, CONSOLE, VT, CTTY, EXT_TTY, SERIAL = 1, 2, 3, 4, 5, 6
"""TtyType of the images: what ckpt knows."""
DEV_TTY, PTMX = os.makedev(5, 0), os.makedev(5, 2)
PTS_MAJORS = range(136, 144)
_PID_MAX, _INDEX_MAX = 1 << 22, 1 << 20
_MOST = 1 << 16
"""Bytes that are on their way in one direction: more than the kernel has room for."""


class Info(NamedTuple):
    """A tty_info_entry and what belongs to it. `whole`: None for one that was hung up.

    `lost`: /dev/tty of the terminal `number`, which is no session's any more.

    Of masters alone: `left`: the slave was open and is no more; `node`: uid, gid and mode of the
    slave's node; what is on its way.
    """

    type: int
    whole: Whole | None
    id: int = 0
    rdev: int = 0
    dev: int = 0
    number: int = 0
    sid: int = 0
    pgrp: int = 0
    lost: bool = False
    locked: bool = False
    packets: bool = False
    left: bool = False
    node: tuple[int, int, int] | None = None
    output: bytes = b""
    lines: tuple[bytes, ...] = ()
    rest: bytes = b""
    stopped: int = 0

    @property
    def master(self) -> bool:
        return self.type == PTY and self.rdev == PTMX

    @property
    def slave(self) -> bool:
        return self.type == PTY and self.rdev != PTMX

    @property
    def hung_up(self) -> bool:
        return self.slave and self.whole is None

    def message(self) -> Any:
        """The tty_info_entry."""
        info_class: Any = message_class("tty.tty_info_entry")
        message = info_class(
            id=self.id,
            type=self.type,
            locked=self.locked,
            exclusive=self.whole is not None and self.whole.exclusive,
            packet_mode=self.packets,
            sid=self.sid,
            pgrp=self.pgrp,
            rdev=self.rdev,
            dev=self.dev,
        )
        if self.node is not None:
            message.uid, message.gid = self.node[:2]
        if self.type == PTY or self.lost:
            message.pty.index = self.number
        if self.whole is not None:
            self.whole.settings.fill(message.termios)
            self.whole.locked.fill(message.termios_locked)
            size = message.winsize
            size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel = WINSIZE.unpack(
                self.whole.winsize
            )
        return message

    def data_messages(self) -> Iterator[Any]:
        """tty_data_entry for each end: what can be read from it."""
        data_class: Any = message_class("tty.tty_data_entry")
        if self.output:
            yield data_class(tty_id=self.id, data=self.output)
        if data := b"".join(self.lines) + self.rest:
            yield data_class(tty_id=self.id & ~1, data=data)

    def own_message(self) -> Any:
        """What the format has no place for; None if there is nothing."""
        if not (self.lines or self.stopped or self.left or self.node):
            return None
        own_class: Any = message_class("ckpt_tty.ckpt_tty_entry")
        own = own_class(id=self.id, lines=map(len, self.lines), stopped=self.stopped)
        own.left = self.left
        if self.node is not None:
            own.mode = self.node[2]
        return own


@record
class Terminals:
    """All messages of a set, checked, by id."""

    infos: dict[int, Info] = field(default_factory=dict)

    @classmethod
    def read(cls, view: RestoreView) -> Self:
        """Raises ImageError."""
        self = cls()
        for message in view.messages("tty-info"):
            if message.id in self.infos:
                raise ImageError(
                    "is there twice", resource=f"terminal {message.id} of tty-info.img"
                )
            self.infos[message.id] = _checked(message)
        for message in view.messages("tty-data"):
            self._take_data(message)
        for message in view.messages("ckpt-tty"):
            self._take_own(message)
        for info in self.infos.values():
            if info.master and not info.lines:
                self._split(info)
        return self

    def _take_data(self, message: Any) -> None:
        """What a slave can read is kept with its master."""
        where = f"terminal {message.tty_id} of tty-data.img"
        info = self.infos.get(message.tty_id)
        if info is None or len(message.data) > _MOST:
            raise ImageError("is not in tty-info.img, or has too many bytes", resource=where)
        if info.master:
            self.infos[info.id] = info._replace(output=message.data)
            return
        for master in list(self.infos.values()):
            if master.master and master.number == info.number:
                self.infos[master.id] = master._replace(rest=message.data)

    def _take_own(self, message: Any) -> None:
        info = self.infos.get(message.id)
        where = f"terminal {message.id} of ckpt-tty.img"
        if info is None or not info.master or message.stopped > 2 or message.mode > 0o7777:
            raise ImageError("makes no sense", resource=where)
        if sum(message.lines) > len(info.rest) or len(message.lines) > _MOST:
            raise ImageError("has longer lines than there are bytes", resource=where)
        lines, at = [], 0
        for length in message.lines:
            lines.append(info.rest[at : at + length])
            at += length
        node = info.node
        if node is not None and message.HasField("mode"):
            node = (*node[:2], message.mode)
        self.infos[info.id] = info._replace(
            lines=tuple(lines),
            rest=info.rest[at:],
            stopped=message.stopped,
            left=message.left,
            node=node,
        )

    def _split(self, info: Info) -> None:
        """Where nothing tells of lines: they end with newlines."""
        if info.whole is None or not info.whole.settings.canonical:
            return
        *lines, rest = info.rest.split(b"\n")
        self.infos[info.id] = info._replace(lines=tuple(x + b"\n" for x in lines), rest=rest)


def _checked(message: Any) -> Info:
    where = f"terminal {message.id} of tty-info.img"
    if message.sid >= _PID_MAX or message.pgrp >= _PID_MAX:
        raise ImageError("is of a session that can't be", resource=where)
    if message.type == PTY and (not message.HasField("pty") or message.pty.index >= _INDEX_MAX):
        raise ImageError("is a pseudo terminal without a number that can be", resource=where)
    if message.HasField("pty") and message.pty.index >= _INDEX_MAX:
        raise ImageError("has a number that can't be", resource=where)
    whole = None
    if message.HasField("termios"):
        locked = Settings(0, 0, 0, 0, 0, bytes(NR_CC))
        if message.HasField("termios_locked"):
            locked = Settings.from_message(message.termios_locked, where)
        size = message.winsize
        sizes = size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel
        if any(n > 0xFFFF for n in sizes):
            raise ImageError("has a window that can't be", resource=where)
        whole = Whole(
            Settings.from_message(message.termios, where),
            locked,
            WINSIZE.pack(*sizes),
            message.exclusive,
        )
    elif message.type == PTY and message.rdev == PTMX:
        raise ImageError("is a master without settings", resource=where)
    node = None
    if message.HasField("uid") and message.HasField("gid"):
        # The mode that devpts gives by default, where nothing tells of it.
        node = message.uid, message.gid, 0o620
    return Info(
        type=message.type,
        whole=whole,
        id=message.id,
        rdev=message.rdev,
        dev=message.dev,
        number=message.pty.index if message.type in (PTY, CTTY) else 0,
        sid=message.sid,
        pgrp=message.pgrp,
        lost=message.type == CTTY and message.HasField("pty"),
        locked=message.locked,
        packets=message.packet_mode,
        node=node,
    )
