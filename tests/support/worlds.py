"""Two sets of namespaces on this machine, as two machines with one file system and one network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.requirements import require
from tests.support.processes import children, state

if TYPE_CHECKING:
    from types import TracebackType

_INIT = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print(1, flush=True)
while True:
    signal.pause()
"""
FIRST_PID = 5000


@dataclass
class World:
    """Namespaces of PIDs, mounts and IPC, and with `net` of the network, without anything in it.
    With `ahead_s` its clocks are so many seconds ahead. Its first process reaps. A context manager:
    everything in it ends."""

    net: bool = False
    ahead_s: int = 0

    def __enter__(self) -> World:
        flags = "-npmi" if self.net else "-pmi"
        words = ["unshare", flags, "--mount-proc", "--fork", "--kill-child"]
        if self.ahead_s:
            words += ["-T", f"--monotonic={self.ahead_s}", f"--boottime={self.ahead_s}"]
        self._process = subprocess.Popen(
            [*words, sys.executable, "-c", _INIT],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            why = self._process.communicate()[1].decode()
            require(False, f"namespaces can't be made here: {why}")
        self.init = children(self._process.pid)[0]
        # What others leave there is not of this world.
        self.run("mount", "-t", "tmpfs", "none", "/dev/shm")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pidfd = os.pidfd_open(self.init)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        self._process.communicate()
        os.close(pidfd)

    def inside(self, *words: str | Path | int) -> list[str]:
        """The words of a command, for it to be run in here. Its process is a child of the one that
        is started."""
        flags = ["-p", "-m", "-i", *(["-n"] * self.net), *(["-T"] * bool(self.ahead_s))]
        return ["nsenter", "-t", str(self.init), *flags, *map(str, words)]

    def numbers_from(self, first: int) -> None:
        """The next process in here has this number."""
        self.run("sh", "-c", f"echo {first - 1} > /proc/sys/kernel/ns_last_pid")

    def run(self, *words: str | Path | int, timeout_s: float = 60) -> str:
        """What a command in here says, which must end well."""
        done = subprocess.run(
            self.inside(*words), capture_output=True, text=True, check=False, timeout=timeout_s
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def outside(self, number: int) -> int:
        """What the process `number` of this world is called outside; 0 where it is not, or dead."""
        mine = Path(f"/proc/{self.init}/ns/pid").readlink()
        for entry in os.listdir("/proc"):
            pid = int(entry) if entry.isdecimal() else 0
            if not pid or _namespace(pid) != mine or state(pid) in ("Z", "X", ""):
                continue
            with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                if number_inside(pid) == number:
                    return pid
        return 0

    def processes(self, program: Path) -> list[int]:
        """Those in here that run `program`, not dead, by their numbers outside."""
        mine = Path(f"/proc/{self.init}/ns/pid").readlink()
        return [pid for pid in running(program) if _namespace(pid) == mine]


def running(program: Path) -> list[int]:
    """All processes that run `program`, by their numbers outside; the dead not among them."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]
    return [pid for pid in pids if _exe(pid) == str(program) and state(pid) not in ("Z", "X", "")]


def number_inside(pid: int) -> int:
    """What a process is called in its own namespace."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("NSpid:")[1].split("\n")[0].split()[-1])


def _exe(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")  # noqa: PTH115
    except OSError:
        return ""


def _namespace(pid: int) -> Path:
    try:
        return Path(f"/proc/{pid}/ns/pid").readlink()
    except OSError:
        return Path()
