"""signalfd(2): a set of signals. Whose signals are read is asked anew at every read(2), so it does
not matter who makes it. (Whom it wakes through epoll(7) does: see ckpt.files.epoll.)"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckpt._native import ffi
from ckpt.files.anonymous import AnonymousDump, AnonymousRestore, address, made, value
from ckpt.files.kind import FdType

if TYPE_CHECKING:
    from ckpt.files.descriptor import Descriptor

_SFD_CLOEXEC = 0o2000000
_NONE = (1 << 64) - 1


class SignalfdDump(AnonymousDump):
    type = FdType.SIGNALFD
    links = frozenset({"anon_inode:[signalfd]"})
    field = "sgfd"

    def fill(self, message: Any, d: Descriptor, file_id: int) -> None:
        del file_id
        message.sigmask = value(self.info(d), "sigmask", 16)


class SignalfdRestore(AnonymousRestore):
    type = FdType.SIGNALFD
    field = "sgfd"

    def check(self, message: Any, where: str) -> None:
        """Every mask can be: the kernel leaves out SIGKILL and SIGSTOP."""

    def text(self, file_id: int) -> str:
        return f"make signalfd of {self.messages[file_id].sigmask:#x}"

    def make(self, file_id: int, message: Any) -> int:
        del file_id
        mask = ffi.new("uint64_t *", message.sigmask)
        return made("signalfd4", _NONE, address(mask), 8, _SFD_CLOEXEC)
