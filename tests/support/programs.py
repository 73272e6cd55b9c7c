"""The victims: small C programs, one behaviour each, compiled once for each session.

A victim says in `// key: value` lines at its top how it is to be driven:

    args:     arguments; each such line is a case of its own
    needs:    CPU flags of /proc/cpuinfo, `cap_NAME` capabilities of this process, or paths
    dump:     further options of `ckpt dump`
    restore:  further options of `ckpt restore`
    cflags:   further flags of gcc
    cycles:   how many times in a row it is dumped and restored (1)
    differs:  pattern of keys of `visible` that a restore may change -- and why
    not live: why `ckpt dump --live` refuses it
    refused:  (folder `refused` only) what the refusal must name
    unseen:   those words of it that only a stopped task tells, and no `ckpt check --tree`
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VICTIMS = Path(__file__).resolve().parent.parent / "victims"
CFLAGS = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]


@dataclass(frozen=True)
class Program:
    """One victim with one set of arguments."""

    source: Path
    args: tuple[str, ...]
    keys: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        return "-".join([self.source.stem, *self.args])

    def all(self, key: str) -> list[str]:
        return [value for known, value in self.keys if known == key]

    def words(self, key: str) -> list[str]:
        return [word for value in self.all(key) for word in shlex.split(value)]

    @property
    def cycles(self) -> int:
        return int(next(iter(self.all("cycles")), "1"))

    @property
    def differs(self) -> list[str]:
        return [value.split("--")[0].strip() for value in self.all("differs")]

    def missing(self) -> str:
        """What this machine lacks to run it, "" if nothing."""
        have = cpu_flags() | capabilities()
        return ", ".join(
            word
            for word in self.words("needs")
            if word not in have and not (word.startswith("/") and Path(word).exists())
        )

    def build(self, folder: Path) -> Path:
        """The compiled program in `folder`, made unless it is there already."""
        binary = folder / self.source.relative_to(VICTIMS).with_suffix("")
        if not binary.exists():
            binary.parent.mkdir(exist_ok=True, parents=True)
            flags = [*CFLAGS, *self.words("cflags"), f"-I{VICTIMS}"]
            libraries = [flag for flag in flags if flag.startswith("-l")]
            command = ["gcc", *flags, "-o", str(binary), str(self.source), *libraries]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr}"
        return binary


def read_keys(source: Path) -> tuple[tuple[str, str], ...]:
    keys = []
    for line in source.read_text().splitlines():
        if not line.startswith("//"):
            break
        key, colon, value = line[2:].partition(":")
        if colon:
            keys.append((key.strip(), value.strip()))
    return tuple(keys)


def programs(*rooms: str) -> Iterator[Program]:
    """Every victim of these folders of tests/victims, each set of arguments for itself."""
    for room in rooms:
        for source in sorted((VICTIMS / room).glob("*.c")):
            keys = read_keys(source)
            cases = [value for key, value in keys if key == "args"] or [""]
            for case in cases:
                yield Program(source, tuple(shlex.split(case)), keys)


def program(path: str, *args: str) -> Program:
    """The victim tests/victims/PATH.c with these arguments."""
    source = VICTIMS / f"{path}.c"
    return Program(source, args, read_keys(source))


def cpu_flags() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split(":")[1].split())
    return set()


CAPABILITIES = {
    "cap_setuid": 7,
    "cap_net_admin": 12,
    "cap_net_raw": 13,
    "cap_sys_admin": 21,
    "cap_sys_nice": 23,
    "cap_sys_resource": 24,
    "cap_lease": 28,
}


def capabilities() -> set[str]:
    status = Path("/proc/self/status").read_text()
    effective = int(status.split("CapEff:")[1].split()[0], 16)
    return {name for name, bit in CAPABILITIES.items() if effective >> bit & 1}
