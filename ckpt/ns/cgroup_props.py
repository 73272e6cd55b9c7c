"""Properties of control groups: which are recorded, how each is read and written.

What is known here is what CRIU knows, and the settings of version 2. `--cgroup-props` adds to it or
replaces it, in CRIU's simplified YAML:

    "memory":
     - "strategy": "merge"
     - "properties": ["memory.swappiness"]

An image may name any property, so a restore writes only to plain names of files that the group has,
and never to those that run a program or end, stop or move tasks.

Source: criu(8); cgroup-v1/*.rst and cgroup-v2.rst of the kernel's documentation.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ckpt.ns.cgroups import Spec

_V1 = {
    "cpu": "cpu.shares cpu.cfs_period_us cpu.cfs_quota_us cpu.rt_period_us cpu.rt_runtime_us",
    # The limit of memory and swap can't be below that of memory.
    "memory": "memory.use_hierarchy memory.limit_in_bytes memory.memsw.limit_in_bytes "
    "memory.swappiness memory.soft_limit_in_bytes memory.move_charge_at_immigrate "
    "memory.oom_control memory.kmem.limit_in_bytes memory.kmem.tcp.limit_in_bytes",
    "cpuset": "cpuset.cpus cpuset.mems cpuset.memory_migrate cpuset.cpu_exclusive "
    "cpuset.mem_exclusive cpuset.mem_hardwall cpuset.memory_spread_page "
    "cpuset.memory_spread_slab cpuset.sched_load_balance cpuset.sched_relax_domain_level",
    "blkio": "blkio.weight",
    "net_cls": "net_cls.classid",
    "net_prio": "net_prio.ifpriomap",
    "pids": "pids.max",
    "devices": "devices.list",
}
_V1_ALL = ("cgroup.clone_children", "notify_on_release", "cgroup.procs", "tasks")
_V2 = (
    "cgroup.type cgroup.subtree_control cgroup.max.descendants cgroup.max.depth cpuset.cpus "
    "cpuset.mems cpu.weight cpu.max cpu.max.burst cpu.idle memory.min memory.low memory.high "
    "memory.max memory.swap.max memory.oom.group io.weight io.max pids.max cgroup.procs"
)
_OWNED = {"cgroup.procs", "tasks", "cgroup.threads"}
"""Who may write to them is recorded, not what is in them."""

BEFORE_TASKS = {
    *("cgroup.type", "cgroup.subtree_control", "cpuset.cpus", "cpuset.mems", "devices.list"),
    *("memory.kmem.limit_in_bytes", "memory.swappiness", "memory.oom_control"),
    *("memory.use_hierarchy", *_OWNED),
}
"""Set while the group is empty: later some can't be, and with cpuset nothing could join."""

_PLAIN = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)+", re.ASCII)
_NEVER = {"cgroup.kill", "cgroup.freeze", "freezer.state", "cgroup.event_control"}
_MAX = 1 << 16
_ENTRY = re.compile(
    r' *"([^"]+)":\n +- +"strategy": *"(merge|replace)" *\n'
    r' +- +"properties": *\[ *((?:"[^"]+" *(?:, *(?="))?)*) *\] *(?:\n|$)'
)


def parse_spec(text: str) -> Spec:
    """Raises ValueError."""
    found, at = [], 0
    while text[at:].strip():
        match = _ENTRY.match(text, at)
        if not match:
            raise ValueError(
                'the form is "CONTROLLER":\\n - "strategy": "merge" or "replace"\\n'
                ' - "properties": ["NAME", ...]\\n'
            )
        names = tuple(re.findall(r'"([^"]+)"', match[3]))
        for name in names:
            if not is_plain(name):
                raise ValueError(f"{name} is no property that can be restored")
        found.append((match[1], match[2], names))
        at = match.end()
    return tuple(found)


def is_plain(name: str) -> bool:
    """Whether a property of an image may be written."""
    return name in _V1_ALL or (bool(_PLAIN.fullmatch(name)) and name not in _NEVER)


def recorded(name: str, specs: Iterable[Spec]) -> list[str]:
    """The properties of a hierarchy's groups that a dump records."""
    controllers = name.split(",")
    known = {c: tuple(_V1.get(c, "").split()) for c in controllers}
    if not name:
        known = {"": tuple(_V2.split())}
    for spec in specs:
        for controller, strategy, names in spec:
            if controller in known:
                merged = known[controller] if strategy == "merge" else ()
                known[controller] = (*merged, *names)
    every = [prop for names in known.values() for prop in names]
    return list(dict.fromkeys([*every, *(_V1_ALL if name else ())]))


def read(directory: Path, name: str) -> str | None:
    """The value as it would be written; None where this group has no such property."""
    if name in _OWNED:
        return "" if (directory / name).exists() else None
    try:
        with (directory / name).open("rb") as file:
            value = file.read(_MAX).decode(errors="surrogateescape").rstrip("\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.EACCES):
            return None  # none in this state of the group, or only to be written
        raise
    if name == "memory.oom_control":
        return value.partition("\n")[0].removeprefix("oom_kill_disable ")
    if name == "cgroup.type":
        return value if value == "threaded" else None
    return value


def write(directory: Path, name: str, value: str) -> None:
    """Give a property its value, unless it has it. Raises OSError."""
    if name in _OWNED or read(directory, name) == value:
        return
    for file, line in _lines(directory, name, value):
        with file.open("wb", buffering=0) as out:
            out.write(line.encode(errors="surrogateescape"))


def _lines(directory: Path, name: str, value: str) -> Iterator[tuple[Path, str]]:
    """What is written where, in order: the kernel takes one line a write."""
    if name == "devices.list":
        yield directory / "devices.deny", "a"
        for line in value.splitlines():
            yield directory / "devices.allow", line
        return
    if name == "cgroup.subtree_control":
        now = set((read(directory, name) or "").split())
        for controller in sorted(now ^ set(value.split())):
            yield directory / name, ("-" if controller in now else "+") + controller
        return
    for line in value.splitlines() or [""]:
        yield directory / name, line
