"""Sockets of families that have addresses of their own, netlink and packets: what they share.

What CRIU's images have no field for is in ckpt-netlink.img and ckpt-packet.img: the user that a
socket belongs to, its type, and options that differ from those of a new socket and are set again by
the same bytes.

Not kept: the rights of who made a socket. The kernel asks for them beside those of the caller, so
a socket that came from an unprivileged process to one with privileges can do more afterwards.

Source: sockfs_setattr() in net/socket.c; netlink(7), packet(7).
"""

from __future__ import annotations

import fcntl
import os
import socket
from abc import abstractmethod
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from ckpt.errors import ImageError, Refusal, RestoreError
from ckpt.files import sk_opts
from ckpt.files.descriptor import proto_name
from ckpt.files.kind import DumpKind, Obstacle
from ckpt.files.openflags import SETTABLE, checked
from ckpt.images.types import message_class

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView
    from ckpt.files.inetopts import Key
    from ckpt.files.restoring import RestoreView

SO_LOCK_FILTER = 44
COMMON = (29, 35, 37, 40, 41, 42, 43, 45, 46, 47, 60, 61, 64, 65, 69, 73, 75, SO_LOCK_FILTER)
"""Options of SOL_SOCKET; nothing of the filter can be set after the last."""
_SIOCGSKNS = 0x894C
_LONGEST = 256
_NOBODY = (1 << 32) - 1

Options = dict["Key", bytes]
Diag = TypeVar("Diag")


class Extra(NamedTuple):
    """Of one checked socket of the images."""

    message: Any
    flags: int
    signum: int
    where: str


class FamilyDump(DumpKind, Generic[Diag]):
    """The life of both on a dump. What sock_diag(7) tells of all sockets of the family is asked
    twice: while the target runs, and when it stands."""

    family: ClassVar[int]
    protocol: ClassVar[bytes]
    """The name of the protocol in sockfs."""

    def __init__(self, view: DumpView) -> None:
        super().__init__(view)
        self._seen: dict[int, Diag] | None = None
        self._wanted: list[tuple[Descriptor, int]] = []

    @abstractmethod
    def look(self) -> dict[int, Diag]:
        """Of each socket of the family in our network namespace, by inode. Raises KernelError."""

    @abstractmethod
    def judged(self, diag: Diag | None) -> Obstacle | None:
        """What stands in the way of a running task's socket; None: nothing was told of it."""

    @abstractmethod
    def ask(
        self, d: Descriptor, file_id: int, sock: socket.socket, diag: Diag | None
    ) -> Obstacle | None:
        """Remember everything of a socket, whose owner stands, or say why not. Raises OSError."""

    def claims(self, d: Descriptor) -> bool:
        return proto_name(d) == self.protocol

    def obstacle(self, d: Descriptor) -> Obstacle | None:
        if self._seen is None:
            self._seen = self.look()
        return self.judged(self._seen.get(d.ino))

    def hold(self, d: Descriptor, file_id: int) -> None:
        self._wanted.append((d, file_id))

    def settle(self) -> Iterator[Refusal]:
        told = self.look() if self._wanted else {}
        for d, file_id in self._wanted:
            lfd = self.view.duplicate(d)
            with sk_opts.borrowed(lfd, self.family, socket.SOCK_RAW, 0) as sock:
                try:
                    obstacle = self.ask(d, file_id, sock, told.get(d.ino))
                except OSError as error:
                    obstacle = Obstacle(sk_opts.unreadable(error))
            if obstacle:
                yield Refusal(d.pid, str(d), obstacle.why, obstacle.hint)


@cache
def _own_net() -> tuple[int, int]:
    """Who dumps stays where it is."""
    own = os.stat("/proc/self/ns/net")  # noqa: PTH116 (no Path in a freeze)
    return own.st_dev, own.st_ino


def foreign(sock: socket.socket) -> Obstacle | None:
    """Whether it belongs to another network namespace."""
    lfd = fcntl.ioctl(sock.fileno(), _SIOCGSKNS)
    try:
        its = os.fstat(lfd)
    finally:
        os.close(lfd)
    if (its.st_dev, its.st_ino) != _own_net():
        return Obstacle("it belongs to another network namespace, which is not restored yet")
    return None


def ask(sock: socket.socket, names: Mapping[int, Sequence[int]]) -> Options:
    """Those options of `names` that this kernel tells."""
    found: Options = {}
    for level, numbers in names.items():
        for number in numbers:
            try:
                found[level, number] = sock.getsockopt(level, number, _LONGEST)
            except OSError:
                continue  # an older kernel, or one without a value now
    return found


def message(d: Descriptor, file_id: int, options: Options, new: Options, **fields: Any) -> Any:
    """A ckpt_sock_entry. `new`: the options of a new socket."""
    entry: Any = message_class("ckpt_sock.ckpt_sock_entry")
    made = entry(id=file_id, uid=d.uid, gid=d.gid, **fields)
    for (level, name), value in options.items():
        if value != new.get((level, name)):
            made.options.add(level=level, name=name, value=value)
    return made


def fill(view: DumpView, d: Descriptor, file_id: int, made: Any, opts: sk_opts.SkOpts) -> None:
    """What the entries of both have in common."""
    made.id, made.flags = file_id, d.flags
    made.fown.CopyFrom(view.fown(d))
    sk_opts.write(opts, made.opts)


def taken(view: RestoreView, given: Any, where: str) -> Extra:
    """An entry, checked as far as both are alike. Raises ImageError."""
    sk_opts.check(given.opts, where)
    return Extra(given, checked(given.flags, where), view.signum(given.fown, where), where)


def read(
    view: RestoreView, image: str, sockets: Mapping[int, Extra], names: Mapping[int, Sequence[int]]
) -> dict[int, Any]:
    """The ckpt_sock_entry messages of these sockets by id. Raises ImageError."""
    found: dict[int, Any] = {}
    for own in view.messages(image):
        where = f"socket {own.id:#x} of {image}.img"
        if own.id not in sockets or own.id in found:
            raise ImageError("is no socket, or there twice", resource=where)
        if _NOBODY in (own.uid, own.gid):
            raise ImageError("belongs to nobody", resource=where)
        for option in own.options:
            if option.name not in names.get(option.level, ()) or len(option.value) > _LONGEST:
                what = f"option {option.name} of level {option.level}"
                raise ImageError(f"has {what}, which is none of a socket's", resource=where)
        found[own.id] = own
    return found


def dress(view: RestoreView, sock: socket.socket, one: Extra, own: Any) -> None:
    """Everything of a new socket but its addresses. Raises OSError."""
    sk_opts.apply(view.report, sock, one.message.opts, one.where)
    for option in own.options if own is not None else ():
        sock.setsockopt(option.level, option.name, option.value)
    fcntl.fcntl(sock, fcntl.F_SETFL, one.flags & SETTABLE)
    view.set_signum(sock.fileno(), one.signum)
    if one.message.opts.reuseaddr:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if own is not None and (own.uid, own.gid) != (os.geteuid(), os.getegid()):
        os.fchown(sock.fileno(), own.uid, own.gid)


def failed(text: str, error: OSError, hints: Mapping[int, str]) -> RestoreError:
    """The error of a restore, with what helps."""
    number = error.errno or 0
    return RestoreError(
        "can't be made", resource=text, why=os.strerror(number), hint=hints.get(number, "")
    )
