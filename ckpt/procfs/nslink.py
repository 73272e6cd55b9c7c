"""/proc/PID/ns: the identity of a task's namespaces.

Source: namespaces(7), ns_get_name() in fs/nsfs.c. Two tasks share a namespace where the inode
numbers are equal (all of them live on one nsfs). pid_for_children and time_for_children differ from
pid and time after an unshare and before the next fork.
"""

from __future__ import annotations

import re

from ckpt.procfs.parse import dec, fail
from ckpt.record import record

FILE = "ns"
KINDS = ("mnt", "uts", "ipc", "pid", "net", "user", "cgroup", "time")
FOR_CHILDREN = ("pid_for_children", "time_for_children")
_LINK = re.compile(rb"([a-z]+):\[([0-9]{1,20})\]")


@record(frozen=True)
class Namespaces:
    """Inode numbers by the name of the link; a kind that this kernel lacks is missing."""

    inos: dict[str, int]

    def __getitem__(self, kind: str) -> int:
        return self.inos[kind]

    def differ(self, other: Namespaces) -> list[str]:
        """The kinds that only one of the two has, or that are not the same one."""
        kinds = (*KINDS, *FOR_CHILDREN)
        return [k for k in kinds if self.inos.get(k) != other.inos.get(k)]


def parse_ns_link(target: bytes) -> tuple[str, int]:
    """Kind and inode number of a link's text, `mnt:[4026531832]`."""
    found = _LINK.fullmatch(target)
    if found is None:
        fail(FILE, target, "not the link of a namespace")
    return found[1].decode(), dec(found[2], FILE, target)
