"""The state of a terminal, by the ioctls of tty_ioctl(4).

Every call takes a descriptor of ours. On the master of a pseudo terminal settings and size are
those of its slave. A terminal that was hung up answers none of them (EIO).

Source: tty_ioctl(4), ioctl_tty(2), include/uapi/asm-generic/ioctls.h, termbits.h.
"""

from __future__ import annotations

import errno
import fcntl
import select
import struct
import termios
from typing import Any, NamedTuple, Self

from ckpt.errors import ImageError

EXTPROC = 0o200000
TIOCGPTN, TIOCGPTLCK, TIOCGPKT, TIOCGEXCL = 0x80045430, 0x80045439, 0x80045438, 0x80045440
TIOCSPTLCK, TIOCGPTPEER, TIOCGDEV, TIOCVHANGUP = 0x40045431, 0x5441, 0x80045432, 0x5437
TIOCGLCKTRMIOS, TIOCSLCKTRMIOS, TIOCGSID, TIOCGETD = 0x5456, 0x5457, 0x5429, 0x5424

NR_CC = 19
WINSIZE = struct.Struct("=4H")
_TERMIOS = struct.Struct(f"=4IB{NR_CC}s")
_TERMIOS2 = struct.Struct(f"=4IB{NR_CC}s2I")
_TCGETS2, _TCSETS2 = 0x802C542A, 0x402C542B
_ROOM = b"\0" * 64


class Settings(NamedTuple):
    """A struct termios of the kernel; `cc` has NR_CC bytes. Speeds are in bits per second, as they
    need not have names in `cflag`; 0 where they are not known."""

    iflag: int
    oflag: int
    cflag: int
    lflag: int
    line: int
    cc: bytes
    ispeed: int = 0
    ospeed: int = 0

    @classmethod
    def of(cls, lfd: int) -> Self:
        """Those of a terminal. Raises OSError."""
        return cls(*_TERMIOS2.unpack(fcntl.ioctl(lfd, _TCGETS2, bytes(_TERMIOS2.size))))

    @classmethod
    def locks_of(cls, lfd: int) -> Self:
        """Which of them are locked. Raises OSError."""
        return cls(*_TERMIOS.unpack(fcntl.ioctl(lfd, TIOCGLCKTRMIOS, _ROOM)[: _TERMIOS.size]))

    def set(self, lfd: int) -> None:
        """Raises OSError."""
        if self.ospeed:
            fcntl.ioctl(lfd, _TCSETS2, _TERMIOS2.pack(*self))
        else:
            fcntl.ioctl(lfd, termios.TCSETS, _TERMIOS.pack(*self[:6]))

    def lock(self, lfd: int) -> None:
        """Lock what is set in here. Raises OSError."""
        fcntl.ioctl(lfd, TIOCSLCKTRMIOS, _TERMIOS.pack(*self[:6]))

    @property
    def canonical(self) -> bool:
        """Whether input is read by lines."""
        return bool(self.lflag & termios.ICANON)

    @property
    def any(self) -> bool:
        """Of locks: whether anything is locked."""
        return any(self[:5]) or any(self.cc)

    @classmethod
    def from_message(cls, entry: Any, where: str) -> Self:
        """Of a termios_entry. Raises ImageError."""
        cc = list(entry.c_cc[:NR_CC])
        if len(cc) < NR_CC or any(c > 255 for c in cc) or entry.c_line > 255:
            raise ImageError("has settings that no terminal has", resource=where)
        flags = entry.c_iflag, entry.c_oflag, entry.c_cflag, entry.c_lflag
        return cls(*flags, entry.c_line, bytes(cc), entry.c_ispeed, entry.c_ospeed)

    def fill(self, entry: Any) -> None:
        """Into a termios_entry."""
        entry.c_iflag, entry.c_oflag, entry.c_cflag, entry.c_lflag, entry.c_line = self[:5]
        entry.c_ispeed, entry.c_ospeed = self.ispeed, self.ospeed
        entry.c_cc.extend(self.cc)


class Whole(NamedTuple):
    """What one end of a terminal has in CRIU's message."""

    settings: Settings
    locked: Settings
    winsize: bytes
    exclusive: bool

    @classmethod
    def of(cls, lfd: int) -> Self:
        """Raises OSError."""
        return cls(
            Settings.of(lfd),
            Settings.locks_of(lfd),
            fcntl.ioctl(lfd, termios.TIOCGWINSZ, bytes(WINSIZE.size)),
            bool(ask(lfd, TIOCGEXCL)),
        )


DISCIPLINE = "it has a line discipline that is not restored yet"


def has_discipline(lfd: int) -> bool:
    """Whether it has another line discipline than that of terminals; of the slave itself. Raises
    OSError."""
    return ask(lfd, TIOCGETD) != 0


def is_left(master: int) -> bool:
    """Whether the slave was opened and is closed by now."""
    poll = select.poll()
    poll.register(master, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


def has_news(master: int) -> bool:
    """Whether a change of state waits to be read from a master in packet mode."""
    poll = select.poll()
    poll.register(master, select.POLLPRI)
    return any(events & select.POLLPRI for _, events in poll.poll(0))


def ask(lfd: int, request: int) -> int:
    """The int that a request fills in. Raises OSError."""
    return int(struct.unpack("=i", fcntl.ioctl(lfd, request, bytes(4)))[0])


def ask_if(lfd: int, request: int) -> int:
    """As `ask`; 0 where there is no such thing (ENOTTY)."""
    try:
        return ask(lfd, request)
    except OSError as error:
        if error.errno == errno.ENOTTY:
            return 0
        raise


def tell(lfd: int, request: int, value: int) -> None:
    """A request that reads an int. Raises OSError."""
    fcntl.ioctl(lfd, request, struct.pack("=i", value))
