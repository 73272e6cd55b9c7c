"""What is visible of a tree from outside, as flat `key -> value` text, and how two looks differ.

Keys read "PID/status/Uid" or "PID/fd/3/pos", so that a difference names the task and the thing.
Numbers of inodes that a restore makes anew (pipes, shared memory) stand as their order of
appearance; time (start times, counters of context switches) and resident sizes are left out, a
running, sleeping or blocked task is "live". `exact` keeps all that must stay when a target is only
looked at: the raw list of mappings, sizes, sizes of descriptor tables.
"""

from __future__ import annotations

import fnmatch
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import processes, visible_fds, visible_maps
from tests.support.tokens import Tokens

TASK_STATUS = [
    "Name",
    "Umask",
    "Tgid",
    "Pid",
    "PPid",
    "TracerPid",
    "Uid",
    "Gid",
    "Groups",
    "NStgid",
    "NSpid",
    "NSpgid",
    "NSsid",
    "VmLck",
    "Threads",
    "SigPnd",
    "ShdPnd",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "THP_enabled",
    "Cpus_allowed",
    "Mems_allowed",
    "CoreDumping",
    "Speculation_Store_Bypass",
]
EXACT_STATUS = [
    "VmSize",
    "VmPin",
    "VmData",
    "VmStk",
    "VmExe",
    "VmLib",
    "HugetlbPages",
    "Seccomp_filters",
]
THREAD_STATUS = [
    "Name",
    "Pid",
    "SigPnd",
    "SigBlk",
    "Uid",
    "Gid",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "NoNewPrivs",
    "Seccomp",
    "Cpus_allowed",
]
# Fields of /proc/PID/stat by their number in proc_pid_stat(5).
STAT = {
    "pgrp": 5,
    "session": 6,
    "tty": 7,
    "priority": 18,
    "nice": 19,
    "startcode": 26,
    "endcode": 27,
    "startstack": 28,
    "exit_signal": 38,
    "rt_priority": 40,
    "policy": 41,
    "start_data": 45,
    "end_data": 46,
    "start_brk": 47,
    "arg_start": 48,
    "arg_end": 49,
    "env_start": 50,
    "env_end": 51,
}
THREAD_STAT = ("priority", "nice", "rt_priority", "policy")
FILES = [
    "limits",
    "personality",
    "oom_score_adj",
    "coredump_filter",
    "cmdline",
    "environ",
    "auxv",
    "comm",
]
FORCED = 1 << signal.SIGSYS - 1
"""SIGSYS, which a thread of `user_dispatch` forces upon itself, is pending for an instant."""
DIRECTORIES = ["cwd", "root"]
LINKS = ["exe", *DIRECTORIES]


@dataclass
class View:
    """One look at a tree."""

    facts: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, key: str) -> str:
        return self.facts[key]

    def find(self, pattern: str) -> dict[str, str]:
        return {key: self.facts[key] for key in fnmatch.filter(self.facts, pattern)}


def look(root: int, *, exact: bool = False) -> View:
    """Look at `root` and everything below it; the tree must be quiet."""
    view = View()
    tokens = Tokens()
    pids = processes.tree(root)
    view.facts["tree"] = " ".join(map(str, sorted(pids)))
    alive = []
    for pid in pids:
        dead = _task(view.facts, pid, exact)
        if not dead:
            alive.append(pid)
            for key, value in visible_maps.mappings(pid, tokens, exact=exact):
                view.facts[f"{pid}/maps/{key}"] = value
    for key, value in visible_fds.descriptors(alive, tokens):
        view.facts[key] = value
    return view


def looks_as(before: View, root: int) -> bool:
    """Whether an exact look shows `before`. A tree that is not quiet yet, in which a descriptor or
    a mapping goes while it is looked at, does not look so."""
    try:
        return look(root, exact=True) == before
    except OSError:
        return False


def differences(before: View, after: View, ignore: Iterable[str] = ()) -> list[str]:
    """One line for each fact that differs, apart from keys that match a pattern of `ignore`."""
    patterns = list(ignore)
    lines = []
    for key in sorted(before.facts.keys() | after.facts.keys()):
        was, now = before.facts.get(key), after.facts.get(key)
        if was != now and not any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns):
            lines.append(f"{key}: {was!r} -> {now!r}")
    return lines


def assert_same(before: View, after: View, ignore: Iterable[str] = ()) -> None:
    lines = differences(before, after, ignore)
    assert not lines, f"{len(lines)} visible differences:\n" + "\n".join(lines[:60])


def _task(facts: dict[str, str], pid: int, exact: bool) -> bool:
    """Everything of one task but its mappings and descriptors; True for a zombie."""
    proc = Path(f"/proc/{pid}")
    stat = _stat(proc)
    facts[f"{pid}/state"] = stat.pop("state")
    dead = facts[f"{pid}/state"] in "ZX"
    facts.update({f"{pid}/stat/{name}": value for name, value in stat.items()})
    status = _status(proc)
    for name in [*TASK_STATUS, *(EXACT_STATUS if exact else [])]:
        if name in status and not (dead and name.startswith("Sig")):
            facts[f"{pid}/status/{name}"] = status[name]
    if dead:
        return True
    for name in FILES:
        facts[f"{pid}/{name}"] = (proc / name).read_bytes().decode(errors="backslashreplace")
    for name in LINKS:
        facts[f"{pid}/{name}"] = str((proc / name).readlink())
    for tid in sorted(int(entry.name) for entry in (proc / "task").iterdir()):
        if not _is_worker(proc / "task" / str(tid)):
            _thread(facts, f"{pid}/thread/{tid}", proc / "task" / str(tid))
    return False


def _is_worker(proc: Path) -> bool:
    """Whether the kernel has made it for io_uring, which it does, and ends it, as it likes."""
    try:
        return (proc / "comm").read_text().startswith("iou-wrk-")
    except (FileNotFoundError, ProcessLookupError):
        return True


def _thread(facts: dict[str, str], key: str, proc: Path) -> None:
    stat = _stat(proc)
    status = _status(proc)
    facts[f"{key}/state"] = stat["state"]
    if stat["state"] not in "ZX":
        facts.update({f"{key}/{name}": str((proc / name).readlink()) for name in DIRECTORIES})
    facts.update({f"{key}/{name}": stat[name] for name in THREAD_STAT})
    facts.update({f"{key}/{name}": status[name] for name in THREAD_STATUS if name in status})
    facts[f"{key}/SigPnd"] = f"{int(status['SigPnd'], 16) & ~FORCED:016x}"


def _stat(proc: Path) -> dict[str, str]:
    text = (proc / "stat").read_text()
    words = text[text.rindex(")") + 2 :].split()  # the first is field number 3
    named = {name: words[number - 3] for name, number in STAT.items()}
    if words[0] == "Z":
        named["exit_code"] = words[52 - 3]
        # A zombie has no memory any more, and its scheduling is nobody's concern.
        for name in ("priority", "nice", "rt_priority", "policy"):
            named.pop(name)
    return {"state": "live" if words[0] in "RSDI" else words[0], **named}


def _status(proc: Path) -> dict[str, str]:
    pairs = (line.partition(":") for line in (proc / "status").read_text().splitlines())
    return {name: " ".join(value.split()) for name, _, value in pairs}
