"""The other side of tests/victims/tracked/machine.c: commands to the processes of a tree, and what
their memory holds, read from outside through /proc/PID/mem.

Each command is heard out and answered before the next, and leaves no descriptor in the victim.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import processes
from tests.support.case import Case
from tests.support.programs import program
from tests.support.victim import Victim, start

PAGE = 4096
_OPENAT, _FUTEX = "257", "202"
_WAITING = "0x80000"
"""The flags of the open that waits for a command: O_RDONLY | O_CLOEXEC."""
_ANSWER_S = 60.0
_KERNEL = ("[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]")


@dataclass(frozen=True)
class Mapped:
    """A line of /proc/PID/maps."""

    start: int
    end: int
    access: str
    path: str


def mappings(pid: int) -> Iterator[Mapped]:
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        words = line.split(maxsplit=5)
        start, end = (int(word, 16) for word in words[0].split("-"))
        yield Mapped(start, end, words[1], words[5] if len(words) > 5 else "")


def waits(pid: int) -> bool:
    """Does every thread of the machine `pid` wait, the first for a command?"""
    for tid in os.listdir(f"/proc/{pid}/task"):
        words = Path(f"/proc/{pid}/task/{tid}/syscall").read_text().split()
        if int(tid) == pid and (words[0] != _OPENAT or words[3] != _WAITING):
            return False
        if int(tid) != pid and words[0] != _FUTEX:
            return False
    return True


@dataclass
class Machine:
    """One process: its `number`, and the test's end of the FIFO of its answers."""

    folder: Path
    number: int
    pid: int
    done: int = field(init=False)

    def __post_init__(self) -> None:
        for kind in ("cmd", "done"):
            os.mkfifo(self.folder / f"{kind}.{self.number}")
        # For writing, too: it never hangs up, so that one can wait for what comes next.
        self.done = os.open(
            self.folder / f"done.{self.number}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
        )

    def command(self, name: str, *words: int) -> int:
        """What it gave; an error of the kernel as a negative errno."""
        self.send(name, *words)
        return self.answer()

    def send(self, name: str, *words: int) -> None:
        text = " ".join([name, *(f"{word & (1 << 64) - 1:x}" for word in words)])
        deadline = time.monotonic() + _ANSWER_S
        while True:
            try:
                lfd = os.open(
                    self.folder / f"cmd.{self.number}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
                )
                break
            except OSError:  # ENXIO: it does not wait yet
                self._alive(deadline)
                select.select([], [], [], 0.0005)
        os.write(lfd, f"{text}\n".encode())
        os.close(lfd)

    def answer(self) -> int:
        deadline = time.monotonic() + _ANSWER_S
        text = b""
        while not text.endswith(b"\n"):
            if select.select([self.done], [], [], 0.2)[0]:
                text += os.read(self.done, 100)
            else:
                self._alive(deadline)
        return int(text)

    def _alive(self, deadline: float) -> None:
        state = processes.state(self.pid)
        out = (self.folder / "out").read_text(errors="replace")
        assert state not in ("", "Z"), f"pid {self.pid} (state {state}) has ended: {out}"
        assert time.monotonic() < deadline, f"pid {self.pid} (state {state}) does not answer: {out}"

    def wait_idle(self) -> None:
        """Until nothing of it runs any more, so that its memory stays what it is."""
        deadline = time.monotonic() + _ANSWER_S
        while not waits(self.pid):
            self._alive(deadline)
            select.select([], [], [], 0.0005)

    def read(self, start: int, end: int) -> bytes:
        """Its memory, whatever its protection; holes gain zero pages."""
        lfd = os.open(f"/proc/{self.pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts = []
            while start < end:
                part = os.pread(lfd, min(end - start, 1 << 20), start)
                parts.append(part)
                start += len(part)
            return b"".join(parts)
        finally:
            os.close(lfd)

    def write(self, addr: int, data: bytes) -> None:
        """Write to its memory as a debugger does, whatever its protection."""
        lfd = os.open(f"/proc/{self.pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            assert os.pwrite(lfd, data, addr) == len(data)
        finally:
            os.close(lfd)

    def private(self, start: int, end: int) -> dict[tuple[int, int], bytes]:
        """The content of private memory outside of `start` to `end`, neighbours joined: where one
        mapping ends and the next begins is up to the kernel. Without the last page of code: what
        follows a segment's end there is nobody's, and ckpt's stub stands in it."""
        found: list[tuple[int, int]] = []
        for m in mappings(self.pid):
            if m.path in _KERNEL or m.access[3] != "p" or start <= m.start < end:
                continue
            here = (m.start, m.end - PAGE * ("x" in m.access))
            if found and found[-1][1] == here[0]:
                here = (found.pop()[0], here[1])
            found.append(here)
        return {where: self.read(*where) for where in found}

    def forget(self) -> None:
        """It is no more."""
        os.close(self.done)
        for kind in ("cmd", "done"):
            (self.folder / f"{kind}.{self.number}").unlink()


def start_machine(case: Case, data: bytes) -> tuple[Victim, Machine]:
    """The first process, number 0; `data` is the content of the file that it maps and reads."""
    folder = case.folder / f"victim{len(case.victims)}"
    binary = program("tracked/machine").build(case.built)
    # The kernel writes to the area of rseq whenever it pleases: it could not be compared.
    env = {"GLIBC_TUNABLES": "glibc.pthread.rseq=0"}
    victim = start([str(binary)], folder, env)
    case.victims.append(victim)
    (folder / "data").write_bytes(data)
    machine = Machine(folder, 0, victim.pid)
    victim.wait_ready()
    victim.go()
    return victim, machine
