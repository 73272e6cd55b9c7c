"""Lazy restores under test: which processes are at work, and pages that are held back."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from tests.support import processes
from tests.support.case import Case
from tests.support.ckptcmd import CKPT

HOLDER, SERVER = "ckpt-lazy-hold", "ckpt-lazy-pages"
SOCKET = "lazy-pages.socket"


def named(comm: str) -> list[int]:
    """The processes below us that have this name and live."""
    return [
        pid
        for pid in processes.tree(os.getpid())[1:]
        if _comm(pid) == comm and processes.state(pid) not in ("Z", "X", "")
    ]


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def until(happened: Callable[[], bool], timeout_s: float = 60) -> None:
    """Look again and again."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, f"not seen in {timeout_s} s"
        select.select([], [], [], 0.002)


def until_all_is_in(folder: Path) -> None:
    """The holder of the restore whose work folder this is has ended."""
    until(lambda: not (folder / SOCKET).exists() and not named(HOLDER))


def server_or_end(pid: int) -> bool:
    """Once there is a server; False where the victim has needed none to come to its end."""
    until(lambda: bool(named(SERVER)) or processes.state(pid) in ("Z", "X", ""))
    return bool(named(SERVER))


def kill_servers(pid: int, chance: random.Random) -> None:
    """Five servers of the victim `pid`, one after the other, at moments of chance."""
    for _ in range(5):
        if not server_or_end(pid):
            break
        for _ in range(chance.randrange(50)):
            os.sched_yield()
        for server in named(SERVER):
            with suppress(ProcessLookupError):  # the last one, which was on its way out
                os.kill(server, signal.SIGKILL)


def pages_held(case: Case) -> AbstractContextManager[Path]:
    """`pages_held_by` a file in the folder of the case."""
    return pages_held_by(case.folder / "hold")


@contextmanager
def pages_held_by(path: Path) -> Iterator[Path]:
    """Servers that are started within bring only pages that are waited for, until the file is
    removed."""
    path.touch()
    os.environ["CKPT_FAULT_HOLD_PAGES"] = str(path)
    try:
        yield path
    finally:
        del os.environ["CKPT_FAULT_HOLD_PAGES"]
        path.unlink(missing_ok=True)


class LazyPages:
    """A running `ckpt lazy-pages`, which can be connected to once this is made."""

    def __init__(self, images: Path, *options: str) -> None:
        reader, writer = os.pipe()
        argv = [str(CKPT), "lazy-pages", "-D", str(images), "--status-fd", str(writer), *options]
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(writer,),
            text=True,
        )
        os.close(writer)
        with os.fdopen(reader, "rb") as told:
            assert told.read(1) == b"\0", self.failed()

    def failed(self) -> str:
        """What it says, once it has ended."""
        return self.process.communicate(timeout=60)[1]

    def done(self) -> str:
        """What it prints, once it has ended well."""
        printed, said = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, said
        return printed
