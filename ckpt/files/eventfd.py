"""eventfd(2): a counter.

The flags of the image have EFD_SEMAPHORE (1) between those of open(2), where it would be O_WRONLY,
which no eventfd is: CRIU's place for it is the same. A kernel before 6.5 does not tell it, and the
dump is refused there.

Refused: a counter that the kernel itself has overrun (2**64 - 1), which nobody can write.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ckpt.errors import ImageError
from ckpt.files.anonymous import AnonymousDump, AnonymousRestore, value
from ckpt.files.kind import FdType, Obstacle

if TYPE_CHECKING:
    from ckpt.files.descriptor import Descriptor

_EFD_SEMAPHORE = 1
_OVERRUN = 2**64 - 1


class EventfdDump(AnonymousDump):
    type = FdType.EVENTFD
    links = frozenset({"anon_inode:[eventfd]"})
    field = "efd"

    def obstacle(self, d: Descriptor) -> Obstacle | None:
        # Asked in the freeze, of thousands: not taken apart.
        if b"eventfd-semaphore:" not in d.info:
            return Obstacle("this kernel does not tell whether an eventfd is a semaphore")
        if b"eventfd-count: %x\n" % _OVERRUN in d.info:
            return Obstacle("an eventfd that was overrun can't be restored", "read it first")
        return None

    def fill(self, message: Any, d: Descriptor, file_id: int) -> None:
        del file_id
        info = self.info(d)
        message.counter = value(info, "eventfd-count", 16)
        if value(info, "eventfd-semaphore"):
            message.flags |= _EFD_SEMAPHORE


class EventfdRestore(AnonymousRestore):
    type = FdType.EVENTFD
    field = "efd"

    def flags(self, message: Any) -> int:
        return int(message.flags & ~_EFD_SEMAPHORE)

    def check(self, message: Any, where: str) -> None:
        if message.counter == _OVERRUN:
            raise ImageError("has a counter that can't be written", resource=where)

    def text(self, file_id: int) -> str:
        message = self.messages[file_id]
        kind = ", a semaphore" if message.flags & _EFD_SEMAPHORE else ""
        return f"make eventfd at {message.counter}{kind}"

    def make(self, file_id: int, message: Any) -> int:
        del file_id
        # The counter that the call takes has 32 bits only.
        lfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | message.flags & _EFD_SEMAPHORE)
        try:
            if message.counter:
                os.eventfd_write(lfd, message.counter)
        except BaseException:
            os.close(lfd)
            raise
        return lfd
