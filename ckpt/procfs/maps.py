"""/proc/PID/maps: the mappings of one address space, ascending.

Source: proc_pid_maps(5), show_map_vma() in fs/proc/task_mmu.c.

A mapping is a NamedTuple and not a record because dumps parse thousands of them while the target
stands still: a frozen record costs 1.8 us each, this 1.0.

Not guaranteed: of a running target the list is no snapshot. What existed all the time is listed,
but a mapping that was replaced or has grown meanwhile may begin below the end of the line before
(seen on Linux 6.18, which holds no lock for the whole list). `path` is ambiguous where a name
really ends in " (deleted)" or holds a backslash and 012, for the kernel escapes the newline only:
who needs the truth asks /proc/PID/map_files.
"""

from __future__ import annotations

import re
from os import makedev
from typing import NamedTuple

from ckpt.procfs.parse import fail, lines
from ckpt.units import Range

FILE = "maps"
DELETED = " (deleted)"
HEADER = (
    r"([0-9a-f]{1,16})-([0-9a-f]{1,16}) ([r-][w-][x-][ps]) ([0-9a-f]{1,16})"
    r" ([0-9a-f]{1,8}:[0-9a-f]{1,8}) ([0-9]{1,20}) +(.*)\n"
)
_LINES = re.compile(HEADER)


class Mapping(NamedTuple):
    """One mapping: addresses of the target, half open. `pgoff` is in bytes, as maps prints it."""

    start: int
    end: int
    perms: str
    pgoff: int
    device: tuple[int, int]
    ino: int
    path: str

    def __str__(self) -> str:
        return f"{self.start:x}-{self.end:x} {self.perms} {self.path}".rstrip()

    @property
    def range(self) -> Range:
        return Range(self.start, self.end)

    @property
    def readable(self) -> bool:
        return self.perms[0] == "r"

    @property
    def writable(self) -> bool:
        return self.perms[1] == "w"

    @property
    def executable(self) -> bool:
        return self.perms[2] == "x"

    @property
    def shared(self) -> bool:
        return self.perms[3] == "s"

    @property
    def dev(self) -> int:
        """As st_dev. On btrfs and overlayfs stat may say another number for the same file."""
        return makedev(*self.device)

    @property
    def has_file(self) -> bool:
        """Something stands behind it: a file, a memfd, shared memory, an anonymous inode."""
        return bool(self.ino) or self.device != (0, 0)

    @property
    def special(self) -> bool:
        """Named by the kernel: [heap], [stack], [vdso], [vvar], [anon:NAME], ..."""
        return self.path.startswith("[")

    @property
    def deleted(self) -> bool:
        return self.path.endswith(DELETED)

    @property
    def file_path(self) -> str:
        """The path without the mark of a deleted file."""
        return self.path.removesuffix(DELETED)


def device(token: str) -> tuple[int, int]:
    """Major and minor of `fe:00`, as HEADER catches it."""
    major, minor = token.split(":")
    return int(major, 16), int(minor, 16)


def parse_maps(data: bytes, *, running: bool = False) -> list[Mapping]:
    """All mappings of a whole `maps`, ascending and without overlap.

    `running`: the target ran when it was read. What of a mapping lies below the end of the one
    before is left out then; otherwise it is an error.
    """
    found = _LINES.findall(data.decode("utf-8", "surrogateescape"))
    if len(found) != data.count(b"\n") or not data.endswith(b"\n"):
        _refuse(data)
    devices: dict[str, tuple[int, int]] = {}
    mappings: list[Mapping] = []
    last = 0
    for start_hex, end_hex, perms, pgoff, dev, ino, path in found:
        start = int(start_hex, 16)
        end = int(end_hex, 16)
        offset = 0 if pgoff == "00000000" else int(pgoff, 16)
        if running and start < last and start < end:
            start, offset = last, offset + last - start
            if end <= start:
                continue
        if not last <= start < end:
            refuse_order(start, end, FILE)
        last = end
        if dev not in devices:
            devices[dev] = device(dev)
        mappings.append(
            Mapping(
                start,
                end,
                perms,
                offset,
                devices[dev],
                0 if ino == "0" else int(ino),
                path.replace("\\012", "\n") if "\\" in path else path,
            )
        )
    return mappings


def refuse_order(start: int, end: int, file: str) -> None:
    """Raise the error for a mapping that is empty or begins before the last one has ended."""
    fail(file, f"{start:x}-{end:x}".encode(), "empty, or not above the mapping before it")


def _refuse(data: bytes) -> None:
    for line in lines(data, FILE):
        if not _LINES.fullmatch(line.decode("utf-8", "surrogateescape") + "\n"):
            fail(FILE, line, "not a mapping")
