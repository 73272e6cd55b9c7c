"""A target that writes what it is told to, and a report that keeps what it was told."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from ckpt.mem.extents import Extents
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.tree import look
from ckpt.report import Report
from ckpt.units import PAGE
from tests.support.programs import program
from tests.support.victim import SUCCESS

NR_PAGES = 64


class Commanded:
    """tests/victims/keeper/commanded.c. Close it, or use it as a context manager."""

    def __init__(self, built: Path, *, user: int | None = None) -> None:
        self.process = subprocess.Popen(
            [program("keeper/commanded").build(built)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            env={},
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            start_new_session=True,
        )
        self._hear_ready()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def start_time(self) -> int:
        task = look(self.pid)
        assert task
        return task.starttime

    def ask(self, command: str) -> str:
        """Its answer to one command."""
        assert self.process.stdin
        self.process.stdin.write(f"{command}\n".encode())
        self.process.stdin.flush()
        return self._hear()

    def write(self, *pages: int) -> None:
        for page in pages:
            assert self.ask(f"w {page}") == "written"

    def execute(self) -> None:
        """exec itself; the addresses are others afterwards."""
        assert self.process.stdin
        self.process.stdin.write(b"x\n")
        self.process.stdin.flush()
        self._hear_ready()

    def finish(self) -> None:
        """It compares its memory with its own record and ends, with success."""
        assert self.ask("q") == SUCCESS
        assert self.process.wait(60) == 0

    def numbers(self, found: Extents) -> set[int]:
        """Which of the commanded pages are in `found`."""
        first, last = self.addr // PAGE, self.addr // PAGE + NR_PAGES
        return {
            page - first
            for start, end in found
            for page in range(max(start // PAGE, first), min(end // PAGE, last))
        }

    def _hear(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().decode().strip()

    def _hear_ready(self) -> None:
        ready, addr = self._hear().split()
        assert ready == "ready"
        self.addr = int(addr, 16)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Commanded:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Said(Report):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def private(pid: int) -> Extents:
    """The private writable mappings of a process, one range for each."""
    mappings = parse_maps(Path(f"/proc/{pid}/maps").read_bytes())
    return Extents.of((m.start, m.end) for m in mappings if m.writable and not m.shared)


def outside(pids: Iterable[int], *, smaps: bool) -> list[str]:
    """What descriptors and mappings of processes look like."""
    seen: list[str] = []
    for pid in pids:
        numbers = sorted(os.listdir(f"/proc/{pid}/fd"), key=int)
        seen += [f"{fd} {os.readlink(f'/proc/{pid}/fd/{fd}')}" for fd in numbers]  # noqa: PTH115
        text = Path(f"/proc/{pid}/{'smaps' if smaps else 'maps'}").read_text()
        # How full a mapping is changes while its owner runs; what it is may not.
        kept = ("Rss", "Pss", "Shared", "Private", "Referenced", "Anonymous", "Swap", "LazyFree")
        seen += [line for line in text.splitlines() if not line.startswith(kept)]
    return seen
