"""Mappings as seen in /proc/PID/smaps: equal neighbours merged, since the kernel may or may not.

Left out unless `exact`: VmFlags `ac` (accounted: depends on the order of mmap and mprotect) and
`sd` (soft dirty: any tracer sets it).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.tokens import Tokens

HEAD = re.compile(
    r"(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<perms>\S{4}) (?P<offset>[0-9a-f]+)"
    r" (?P<dev>\S+) (?P<inode>\d+) *(?P<path>.*)"
)
UNSTEADY_FLAGS = {"ac", "sd"}
RING = "anon_inode:[io_uring]"
HUGE = "/anon_hugepage (deleted)"
MADE_ANEW = ("/dev/zero (deleted)", "/memfd:", "/SYSV", HUGE)


@dataclass
class Mapping:
    start: int
    end: int
    perms: str
    offset: int
    what: str
    flags: str = ""

    def continues(self, before: Mapping) -> bool:
        """Could the kernel have made one mapping of `before` and this?"""
        return (
            before.end == self.start
            and (before.perms, before.what, before.flags) == (self.perms, self.what, self.flags)
            and (
                not self.what.startswith(("/", "shared"))
                or before.offset + before.end - before.start == self.offset
            )
        )


def mappings(pid: int, tokens: Tokens, *, exact: bool = False) -> Iterator[tuple[str, str]]:
    """("START-END", what it is) of each mapping of `pid`, ascending."""
    merged: list[Mapping] = []
    for mapping in read(pid, tokens, exact=exact):
        if merged and not exact and mapping.continues(merged[-1]):
            merged[-1].end = mapping.end
        else:
            merged.append(mapping)
    for m in merged:
        yield (
            f"{m.start:x}-{m.end:x}",
            f"{m.perms} {m.offset:x} {m.what} [{m.flags}]",
        )


def read(pid: int, tokens: Tokens, *, exact: bool = False) -> Iterator[Mapping]:
    """Every mapping of /proc/PID/smaps."""
    current: Mapping | None = None
    for line in Path(f"/proc/{pid}/smaps").read_text(errors="backslashreplace").splitlines():
        if match := HEAD.fullmatch(line):
            if current:
                yield current
            path, inode = match["path"], match["inode"]
            offset = int(match["offset"], 16)
            if path == HUGE and match["perms"][3] == "p":
                # Nobody else can have the file behind it, which says nothing but where it began.
                what, offset = f"private {path} {match['dev']}", 0
            elif path.startswith(MADE_ANEW):
                what = f"{tokens.name('shared memory', inode)} {path}"
            elif path == RING:
                what = f"{tokens.name('ring', inode)} {path}"
            elif path.startswith("socket:["):
                what = f"{tokens.name('ring of a socket', inode)} {match['dev']}"
            elif path.endswith(" (deleted)"):
                what = f"{tokens.name('removed file', inode)} {path} {match['dev']}"
            else:
                what = f"{path} ({match['dev']} {inode})" if inode != "0" else path
            current = Mapping(
                int(match["start"], 16),
                int(match["end"], 16),
                match["perms"],
                offset,
                what,
            )
        elif current and line.startswith("VmFlags:"):
            flags = line.split()[1:]
            current.flags = " ".join(f for f in flags if exact or f not in UNSTEADY_FLAGS)
    if current:
        yield current
