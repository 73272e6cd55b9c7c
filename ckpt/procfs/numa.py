"""/proc/PID/numa_maps: on which nodes memory is wanted.

Source: numa(7), show_numa_map() in fs/proc/task_mmu.c. Reading it walks the page tables. A mapping
without a policy of its own shows that of the thread, so this tells of both.
"""

from __future__ import annotations

from pathlib import Path

from ckpt.procfs.parse import fail, lines, text

FILE = "numa_maps"
DEFAULT = "default"
_ONLINE = Path("/sys/devices/system/node/online")


def parse_policies(data: bytes) -> dict[str, int]:
    """The policies but the default one, each with how many mappings have it."""
    found: dict[str, int] = {}
    for line in lines(data, FILE):
        fields = line.split(b" ", 2)
        if len(fields) < 2:
            fail(FILE, line, "no policy")
        policy = text(fields[1])
        if policy != DEFAULT:
            found[policy] = found.get(policy, 0) + 1
    return found


def has_nodes(online: bytes) -> bool:
    """Whether there is more than one node, in a list like 0-3,8."""
    return b"-" in online or b"," in online


def policies_matter() -> bool:
    """Whether this machine has more than one node."""
    try:
        return has_nodes(_ONLINE.read_bytes())
    except OSError:
        return False
