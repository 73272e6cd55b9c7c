"""The capabilities that this process has, and what each is for.

Source: capabilities(7). Effective ones count: a capability that is only permitted helps nobody.
"""

from __future__ import annotations

import errno

from ckpt.kerndat.probe import Finding, Need, Probe
from ckpt.record import record


@record(frozen=True)
class Capability:
    """Number as in linux/capability.h; any one of `instead` does as well."""

    name: str
    number: int
    need: Need
    purpose: str
    loss: str
    instead: tuple[int, ...] = ()


SYS_ADMIN = 21
CAPABILITIES = (
    Capability("cap_sys_ptrace", 19, Need.HOST, "attaching to processes", "no dump at all"),
    Capability(
        "cap_checkpoint_restore",
        40,
        Need.HOST,
        "choosing pids, /proc/PID/map_files, /proc/PID/exe",
        "restored tasks can't have their pids",
        (SYS_ADMIN,),
    ),
    Capability(
        "cap_setuid", 7, Need.HOST, "user ids of restored tasks", "no restore of other users"
    ),
    Capability(
        "cap_setgid", 6, Need.HOST, "group ids of restored tasks", "no restore of other groups"
    ),
    Capability(
        "cap_setpcap",
        8,
        Need.TREE,
        "bounding sets and securebits",
        "tasks with a reduced bounding set or securebits can't be restored",
    ),
    Capability(
        "cap_sys_admin",
        SYS_ADMIN,
        Need.TREE,
        "namespaces, mounts, page frame numbers",
        "no trees with namespaces; the monotonic clock jumps; copy-on-write sharing is lost",
    ),
    Capability(
        "cap_sys_resource",
        24,
        Need.TREE,
        "raising hard limits, lowering oom_score_adj, large pipes",
        "tasks whose hard limits are above ours can't be restored",
    ),
    Capability(
        "cap_sys_nice",
        23,
        Need.TREE,
        "negative nice values, real-time scheduling, affinity",
        "tasks with raised priority can't be restored",
    ),
    Capability(
        "cap_net_admin", 12, Need.TREE, "TCP connections and networks", "no trees with connections"
    ),
    Capability(
        "cap_ipc_lock",
        14,
        Need.TREE,
        "locked memory beyond the limit, huge page segments",
        "tasks with much locked memory can't be restored",
    ),
    Capability(
        "cap_dac_override",
        1,
        Need.TREE,
        "files that only their owner may open",
        "files of other users can't be reopened",
    ),
    Capability(
        "cap_kill", 5, Need.HOST, "ending and signalling tasks", "no dump that ends its target"
    ),
)


def effective() -> int:
    """The effective set of this thread: capability N is bit N."""
    from pathlib import Path

    from ckpt.procfs.status import parse_status

    return parse_status(Path("/proc/thread-self/status").read_bytes()).capabilities.effective


def _probe_of(capability: Capability) -> Probe:
    def ask() -> Finding | None:
        held = effective()
        if not any(held >> number & 1 for number in (capability.number, *capability.instead)):
            raise OSError(errno.EPERM, "not effective in this process")
        return None

    return Probe(capability.name, capability.need, capability.purpose, capability.loss, ask)


PROBES = tuple(_probe_of(capability) for capability in CAPABILITIES)
