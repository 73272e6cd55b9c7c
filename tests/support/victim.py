"""One running victim: started in a session of its own, handshake, verdict.

The folder of a victim holds two FIFOs and its output. `ready` is opened by the victim when its
state is built. `go` is opened by each of its threads that waits: the open returns once the test
holds the other side, whether that was before or after a restore, so no step depends on time. After
a restore a victim is not what we started, so the verdict is the line that it wrote to `out`.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import processes
from tests.support.programs import Program

SUCCESS = "EXIT-SUCCESS"


@dataclass
class Victim:
    """A started program. `pid` is that of its root, which leads its session."""

    folder: Path
    process: subprocess.Popen[bytes]
    held: list[int] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text(errors="replace")

    @property
    def tree(self) -> list[int]:
        return processes.tree(self.pid)

    def wait_ready(self, timeout_s: float = 60) -> None:
        """Until the victim says that it is ready; its early end or silence fails the test."""
        pidfd = os.pidfd_open(self.pid)
        poll = select.poll()
        poll.register(self.held[0], select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        try:
            events = dict(poll.poll(timeout_s * 1000))
        finally:
            os.close(pidfd)
        assert self.held[0] in events, f"not ready (events {events}): {self.out}"
        assert os.read(self.held[0], 100).startswith(b"ready"), self.out
        # Its descriptor of the FIFO would be seen: wait until that is closed.
        poll = select.poll()
        poll.register(self.held[0], 0)  # only POLLHUP
        assert poll.poll(timeout_s * 1000), f"holds its end of the FIFO: {self.out}"

    def expect_ready(self) -> None:
        """Before a victim is let go on that will say once more that it is ready."""
        os.close(self.held[0])
        ready = self.folder / "ready"
        self.held[0] = os.open(ready, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def go(self, step: str = "go") -> None:
        """Let everything in the victim that waits for `step` go on, now or later."""
        self.held.append(os.open(self.folder / step, os.O_RDWR | os.O_CLOEXEC))

    def finish(self, timeout_s: float = 60) -> None:
        """`go`, then the victim must end by itself, with success."""
        self.go()
        self.verdict(timeout_s)

    def verdict(self, timeout_s: float = 60) -> None:
        try:
            status = processes.wait_end(self.pid, timeout_s)
        except TimeoutError as error:
            raise AssertionError(f"{error}: {self.out}") from error
        self.process.returncode = 0  # reaped here, maybe as a restored process
        assert self.out.rstrip().endswith(SUCCESS), f"status {status}: {self.out}"
        assert status in (0, None), f"status {status}: {self.out}"

    def kill(self) -> None:
        """With SIGKILL; back when all of the tree is gone."""
        pids = self.tree
        os.kill(self.pid, signal.SIGKILL)
        self.await_gone(pids)

    def await_gone(self, pids: list[int]) -> None:
        """After a dump: until all of the tree is dead and its numbers are free."""
        processes.wait_gone(pids)
        self.process.returncode = -9

    def close(self) -> None:
        for lfd in self.held:
            os.close(lfd)
        self.held.clear()


def start(
    command: list[str],
    folder: Path,
    env: dict[str, str] | None = None,
    *,
    stdin: int | None = None,
    output: int | None = None,
    job: bool = False,
) -> Victim:
    """Start `command` with its working directory and FIFOs in `folder`, which is made.

    Standard input is /dev/null, output and error go to `out` there, unless descriptors are given.
    A `job` is of our session, and leads a group of its own.
    """
    folder.mkdir()
    folder.chmod(0o777)
    for step in ("ready", "go"):
        os.mkfifo(folder / step)
        (folder / step).chmod(0o666)
    held = [os.open(folder / "ready", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)]
    with (folder / "out").open("w") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={
                "PATH": os.environ["PATH"],
                "LANG": "C.UTF-8",
                "VICTIM_FOLDER": str(folder),
                **(env or {}),
            },
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=out if output is None else output,
            stderr=subprocess.STDOUT,
            start_new_session=not job,
            process_group=0 if job else None,
        )
    return Victim(folder, process, held)


def start_program(program: Program, built: Path, folder: Path) -> Victim:
    """Start a victim of tests/victims and wait until it is ready."""
    victim = start([str(program.build(built)), *program.args], folder)
    victim.wait_ready()
    return victim
