"""/proc/PID/fdinfo/FD: position, flags, and what the kind of descriptor adds.

Source: proc_pid_fdinfo(5), seq_show() in fs/proc/fd.c, the show_fdinfo of each kind.

`flags` are those of the target's own descriptor, O_CLOEXEC included: a duplicate has its own. The
lines that a kind adds are kept as they stand and in order, for the kind's own module to read. `ino`
is None before Linux 5.14.
"""

from __future__ import annotations

from os import O_CLOEXEC

from ckpt.procfs.locks import Lock, parse_lock
from ckpt.procfs.parse import dec, fail, lines, octal, signed, text
from ckpt.record import record

FILE = "fdinfo"


@record(frozen=True)
class FdInfo:
    """One descriptor. `extra` are the lines that this parser leaves to the kind's module."""

    pos: int
    flags: int
    mnt_id: int
    ino: int | None
    locks: tuple[Lock, ...]
    extra: tuple[str, ...]

    @property
    def cloexec(self) -> bool:
        return bool(self.flags & O_CLOEXEC)

    def values(self, key: str) -> list[str]:
        """What stands behind `key:` in the extra lines, blanks at both ends taken off."""
        return [line[len(key) + 1 :].strip() for line in self.extra if line.startswith(f"{key}:")]


def parse_fdinfo(data: bytes) -> FdInfo:
    """One whole fdinfo file."""
    found: dict[bytes, bytes] = {}
    locks: list[Lock] = []
    extra: list[str] = []
    for line in lines(data, FILE):
        key, _, value = line.partition(b":")
        if key == b"lock":
            locks.append(parse_lock(value.strip(), FILE))
        elif key in (b"pos", b"flags", b"mnt_id", b"ino") and key not in found and not extra:
            found[key] = value.strip()
        else:
            extra.append(text(line))
    missing = {b"pos", b"flags", b"mnt_id"} - found.keys()
    if missing:
        fail(FILE, data[:80], f"no line {text(min(missing))}")
    return FdInfo(
        pos=signed(found[b"pos"], FILE, data),
        flags=octal(found[b"flags"], FILE, data),
        mnt_id=signed(found[b"mnt_id"], FILE, data),
        ino=dec(found[b"ino"], FILE, data) if b"ino" in found else None,
        locks=tuple(locks),
        extra=tuple(extra),
    )
