"""What is on its way through a pseudo terminal: what its slave wrote and nobody has read from the
master, and what was typed and nobody has read from the slave.

The kernel lets nobody look without taking: what is there is read and put back. In between it would
be lost with its reader, and who runs meanwhile would write before it; so a child does it, for which
even a dump that is killed waits with letting the tree run (ckpt.tracee.lasting). It takes some
milliseconds, with the whole tree standing still.

Input is taken line by line where the terminal is read by lines: a line that was ended by its
end-of-file character stands apart from the next. What follows the last complete line is what can
still be edited; nobody can read it before the terminal stops reading by lines, so that is what is
done. It is put back under settings that pass every byte: no echo, no signals, no translation, and
in reading by lines each byte quoted (VLNEXT) that would mean something. The settings may only be
put back when all has gone through; a stop character shows that, for it makes poll(2) say that the
slave can't be written to.

The switching must not let go a terminal whose output is stopped: IXON stays as it was, or is set.

Not kept: in which portions it was written; that an echo waits for stopped output to go on; that the
next byte is quoted. What was typed beyond the 4,095 bytes that fit is put back as it was typed, but
late characters of it may be echoed. Not taken while the terminal's lines are edited by somebody
else (EXTPROC). Who kills dump and child at once loses what it holds.

Source: drivers/tty/n_tty.c, drivers/tty/pty.c, drivers/tty/tty_buffer.c.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import termios
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ckpt.errors import KernelError
from ckpt.files import ttystate
from ckpt.files.ttystate import EXTPROC, Settings
from ckpt.tracee.lasting import lasting

if TYPE_CHECKING:
    from collections.abc import Sequence

FREE, BY_CHARACTER, BY_CALL = 0, 1, 2
"""Whether the slave's output is stopped: by a stop character, by tcflow(3)."""

_STOP, _START, _QUOTE, _END = 0x13, 0x11, 0x16, 0x04
_MEANT = frozenset((_STOP, _START, _QUOTE, _END, 0x0A, 0))
_PORTION, _LAST = 256, 3500
_VALUES = 250
_LONGEST = 4096
_MOST = 4000
"""What the kernel surely has room for behind its line discipline."""
_PATIENCE_MS = 2000
_TCOOFF, _TCOON = 0, 1


class Queues(NamedTuple):
    """`output`: from the slave to the master. `lines`: complete ones, an end of file is an empty
    one; `rest`: what is no line yet, or everything where it is not read by lines."""

    output: bytes = b""
    lines: tuple[bytes, ...] = ()
    rest: bytes = b""
    stopped: int = FREE

    @property
    def input(self) -> bytes:
        return b"".join(self.lines) + self.rest


class Pair(NamedTuple):
    """Descriptors of ours: `slave` is one for reading and writing."""

    master: int
    slave: int


def may_hold(pair: Pair) -> bool:
    """Whether it has to be looked for by taking; False: nothing is there. No side effects."""
    settings = Settings.of(pair.slave)
    if settings.lflag & EXTPROC:
        return False
    if settings.canonical or settings.cc[termios.VMIN] != 1:
        return True
    return any(map(_ready, pair)) or not _ready(pair.slave, select.POLLOUT)


def take_and_put_back(pairs: Sequence[Pair]) -> list[Queues]:
    """What is in each. Raises KernelError."""
    found = lasting(lambda: [tuple(_one(pair)) for pair in pairs])
    if found is None:
        raise KernelError("what is on its way through a terminal can't be taken")
    return [Queues(output, tuple(lines), *rest) for output, lines, *rest in found]


def put(pair: Pair, queues: Queues, settings: Settings) -> None:
    """Put it in, and give the terminal these settings. Nothing is in it yet. Raises OSError."""
    if queues == Queues() and _ready(pair.slave, select.POLLOUT):
        settings.set(pair.slave)
        return
    typing = _Typing(pair, settings)
    typing.begin()
    if queues.stopped or not _ready(pair.slave, select.POLLOUT):
        typing.resume()
    if settings.canonical:
        typing.write_lines(queues)
    else:
        typing.write_raw(queues.input)
    _write(pair.slave, queues.output)
    if queues.stopped == BY_CHARACTER:
        typing.stop()
    elif queues.stopped == BY_CALL:
        fcntl.ioctl(pair.slave, termios.TCXONC, _TCOOFF)
    settings.set(pair.slave)


def _quoted(data: bytes) -> bytes:
    return b"".join(bytes((_QUOTE, b)) if b in _MEANT else bytes((b,)) for b in data)


class _Typing:
    """Writing to the master what the slave gets as it is."""

    def __init__(self, pair: Pair, settings: Settings) -> None:
        self._pair = pair
        self._settings = settings

    def begin(self, stop: int = _STOP, start: int = _START) -> None:
        """Pass all bytes but these two; in reading by lines also the quote and the end of file."""
        cc = bytearray(ttystate.NR_CC)
        cc[termios.VSTOP], cc[termios.VSTART], cc[termios.VMIN] = stop, start, 1
        lflag = self._settings.lflag & termios.ICANON
        if self._settings.canonical:
            cc[termios.VLNEXT], cc[termios.VEOF] = _QUOTE, _END
            lflag |= termios.IEXTEN
        now = self._settings._replace(
            iflag=termios.IXON,
            oflag=self._settings.oflag & ~termios.OPOST,
            lflag=lflag,
            cc=bytes(cc),
        )
        now.set(self._pair.slave)

    def resume(self) -> int:
        """Let output go on; who had stopped it."""
        fcntl.ioctl(self._pair.slave, termios.TCXONC, _TCOON)
        if _ready(self._pair.slave, select.POLLOUT):
            return BY_CALL
        self._start(_START)
        return BY_CHARACTER

    def stop(self, char: int = _STOP) -> None:
        """Stop output, which happens when all that was written before has gone through."""
        _write(self._pair.master, bytes((char,)))
        until = time.monotonic() + _PATIENCE_MS / 1000
        while _ready(self._pair.slave, select.POLLOUT) and time.monotonic() < until:
            os.sched_yield()

    def write_lines(self, queues: Queues) -> None:
        """Where it is read by lines."""
        parts = []
        for line in queues.lines:
            body, end = (line[:-1], b"\n") if line.endswith(b"\n") else (line, bytes((_END,)))
            parts.append(_quoted(body) + end)
        _write(self._pair.master, b"".join(parts) + _quoted(queues.rest))
        if 0 < len(queues.input) + len(parts) < _MOST:
            self.stop()
            self._start(_START)

    def write_raw(self, data: bytes) -> None:
        """Where it is not: in portions, each of which lacks two characters that can stand for stop
        and start."""
        fits, beyond = data[:_MOST], data[_MOST:]
        for first in range(0, len(fits), _VALUES):
            portion = fits[first : first + _VALUES]
            stop, start = [c for c in range(1, 256) if c not in portion][:2]
            self.begin(stop, start)
            _write(self._pair.master, portion)
            self.stop(stop)
            self._start(start)
        if beyond:
            self._settings.set(self._pair.slave)
            _write(self._pair.master, beyond)

    def _start(self, char: int) -> None:
        _write(self._pair.master, bytes((char,)))
        _ready(self._pair.slave, select.POLLOUT, _PATIENCE_MS)


def _take(pair: Pair) -> tuple[Queues, Settings]:
    """Everything, out of a terminal whose packet mode is off; the settings that it had."""
    settings = Settings.of(pair.slave)
    lines: list[bytes] = []
    if settings.canonical:
        while _ready(pair.slave):
            lines.append(os.read(pair.slave, _LONGEST))
    raw = settings._replace(
        iflag=settings.iflag & termios.IXON,
        lflag=0,
        cc=bytes(1 if i == termios.VMIN else 0 for i in range(ttystate.NR_CC)),
    )
    raw.set(pair.slave)
    rest = _read_all(pair.slave)
    # Only now: what had not gone through before is echoed while input is read.
    output = _read_all(pair.master)
    stopped = FREE
    if not _ready(pair.slave, select.POLLOUT):
        typing = _Typing(pair, settings)
        typing.begin()
        stopped = typing.resume()
        output += _read_all(pair.master)
    return Queues(output, tuple(lines), rest, stopped), settings


def _one(pair: Pair) -> Queues:
    """Take and put back. Raises OSError."""
    locks = Settings.locks_of(pair.master)
    packets = ttystate.ask(pair.master, ttystate.TIOCGPKT)
    if packets:
        ttystate.tell(pair.master, termios.TIOCPKT, 0)
    if locks.any:
        Settings(0, 0, 0, 0, 0, bytes(ttystate.NR_CC)).lock(pair.master)
    try:
        found, settings = _take(pair)
        put(pair, found, settings)
        return found
    finally:
        if locks.any:
            locks.lock(pair.master)
        if packets:
            ttystate.tell(pair.master, termios.TIOCPKT, 1)


def _ready(lfd: int, events: int = select.POLLIN, timeout_ms: int = 0) -> bool:
    poll = select.poll()
    poll.register(lfd, events)
    return any(found & events for _, found in poll.poll(timeout_ms))


def _read_all(lfd: int) -> bytes:
    """All that can be read; poll(2) has let what is under way come in. EIO: the other end is
    closed, and nothing is left."""
    data = b""
    while _ready(lfd):
        try:
            more = os.read(lfd, _LONGEST)
        except OSError as error:
            if error.errno == errno.EIO:
                break
            raise
        if not more:
            break
        data += more
    return data


def _write(lfd: int, data: bytes) -> None:
    """All of it, where the other end has room for it: in portions that leave no hole in the
    kernel's buffers, and the last at once, since the last buffer may be of any size; so what was
    in there fits in again. Raises OSError.

    poll(2) is not waited in: nobody wakes it when the kernel moves bytes on by itself."""
    blocks = not fcntl.fcntl(lfd, fcntl.F_GETFL) & os.O_NONBLOCK
    until = time.monotonic() + _PATIENCE_MS / 1000
    while data:
        with suppress(BlockingIOError):
            if not blocks or _ready(lfd, select.POLLOUT):
                portion = _PORTION if len(data) > _LAST else _LAST
                data = data[os.write(lfd, data[:portion]) :]
                continue
        if time.monotonic() > until:
            raise OSError(errno.EAGAIN, f"{len(data)} bytes find no room in the terminal")
        time.sleep(0.0005)
