"""/proc/PID/cgroup: where a process is in every cgroup hierarchy.

Source: cgroups(7), proc_cgroup_show() in kernel/cgroup/cgroup.c.

Paths are as the reader's cgroup namespace shows them: /.. for what lies above its root. A name may
hold colons; only the first two of a line separate.
"""

from __future__ import annotations

from ckpt.procfs.parse import dec, fail, lines, text
from ckpt.record import record

FILE = "cgroup"
DELETED = " (deleted)"


@record(frozen=True)
class Cgroup:
    """One hierarchy: v1 controllers (name=X for a named one), none at all for v2."""

    hierarchy: int
    controllers: tuple[str, ...]
    path: str

    @property
    def v2(self) -> bool:
        return self.hierarchy == 0 and not self.controllers

    @property
    def deleted(self) -> bool:
        return self.path.endswith(DELETED)


def parse_cgroup(data: bytes) -> list[Cgroup]:
    """All hierarchies, in the order of the file."""
    found: list[Cgroup] = []
    for line in lines(data, FILE):
        fields = line.split(b":", 2)
        if len(fields) != 3 or not fields[2].startswith(b"/"):
            fail(FILE, line, "not hierarchy, controllers and path")
        controllers = tuple(text(fields[1]).split(",")) if fields[1] else ()
        found.append(Cgroup(dec(fields[0], FILE, line), controllers, text(fields[2])))
    return found
