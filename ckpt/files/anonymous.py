"""Descriptors without a file: what all kinds of anonymous inodes have in common.

All of them share one inode, so only the link of /proc tells the kind, and kcmp(2) which are the
same. What they hold stands in fdinfo, which is read while the target stands and taken apart later.
What F_SETFL can change comes back; the access mode is the kind's own.

Source: proc_pid_fdinfo(5), fs/anon_inodes.c.
"""

from __future__ import annotations

import errno
import fcntl
import os
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from ckpt._native import ffi, lib
from ckpt.errors import KernelError, RestoreError
from ckpt.files.kind import DumpKind, RestoreKind
from ckpt.files.openflags import SETTABLE, checked
from ckpt.infect.batch import number
from ckpt.procfs.fdinfo import parse_fdinfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView
    from ckpt.files.restoring import RestoreView
    from ckpt.procfs.fdinfo import FdInfo


def made(name: str, *args: int) -> int:
    """The result of a system call that Python has not. Raises OSError."""
    result = int(lib.ckpt_call(number(name), *args, *[0] * (6 - len(args))))
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def address(data: Any) -> int:
    """Of a cffi object, for `made`. It must outlive the call."""
    return int(ffi.cast("uintptr_t", data))


def value(info: FdInfo, key: str, base: int = 10) -> int:
    """The number behind `key:` in a kind's own lines of fdinfo."""
    found = info.values(key)
    try:
        return int(found[0], base)
    except (IndexError, ValueError) as error:
        raise KernelError("fdinfo does not tell", resource=key, why=repr(info.extra)) from error


class AnonymousDump(DumpKind):
    """A kind that is told by its link; `fill` writes what is its own."""

    links: ClassVar[frozenset[str]]
    field: ClassVar[str]
    """As in RestoreKind."""

    def __init__(self, view: DumpView) -> None:
        super().__init__(view)
        self.held: list[tuple[Descriptor, int]] = []

    def claims(self, d: Descriptor) -> bool:
        return d.link in self.links

    def hold(self, d: Descriptor, file_id: int) -> None:
        self.held.append((d, file_id))

    def entries(self) -> Iterator[Any]:
        for d, file_id in self.held:
            entry = self.entry(file_id)
            message = getattr(entry, self.field)
            message.id, message.flags = file_id, d.flags
            message.fown.CopyFrom(self.view.fown(d))
            self.fill(message, d, file_id)
            yield entry

    @abstractmethod
    def fill(self, message: Any, d: Descriptor, file_id: int) -> None:
        """Everything of the message but id, flags and owner."""

    def info(self, d: Descriptor) -> FdInfo:
        return parse_fdinfo(d.info)


class AnonymousRestore(RestoreKind):
    """A kind that one system call makes."""

    def __init__(self, view: RestoreView) -> None:
        super().__init__(view)
        self.messages: dict[int, Any] = {}
        self._flags: dict[int, int] = {}
        self._signums: dict[int, int] = {}

    def take(self, file_id: int, message: Any) -> None:
        where = f"{self.field} {file_id:#x} of files.img"
        self._flags[file_id] = checked(self.flags(message), where)
        self._signums[file_id] = self.view.signum(message.fown, where)
        self.check(message, where)
        self.messages[file_id] = message

    def flags(self, message: Any) -> int:
        """The flags of the description; some kinds have others between them."""
        return int(message.flags)

    @abstractmethod
    def check(self, message: Any, where: str) -> None:
        """Raise ImageError for what no such description can be."""

    @abstractmethod
    def make(self, file_id: int, message: Any) -> int:
        """A new one, close-on-exec. Raises OSError."""

    def open(self, file_id: int) -> int:
        try:
            lfd = self.make(file_id, self.messages[file_id])
        except OSError as error:
            lacks = error.errno in (errno.EPERM, errno.EACCES)
            raise RestoreError(
                "can't be made",
                resource=self.text(file_id),
                why=os.strerror(error.errno or 0),
                hint="ckpt restore needs further capabilities for it" if lacks else "",
            ) from error
        try:
            fcntl.fcntl(lfd, fcntl.F_SETFL, self._flags[file_id] & SETTABLE)
            self.view.set_signum(lfd, self._signums[file_id])
        except BaseException:
            os.close(lfd)
            raise
        return lfd
