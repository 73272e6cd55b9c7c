"""Victims for tests of ckpt.files: a Python child that opens what it is told to, then stands still.

The child and whatever it forks wait in read(2) while the test dumps them, so nothing has to be
frozen. `saved` goes the whole way: dump, image set on disk, restore in this process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ckpt.files import FileOptions, FilesDump, FilesRestore, RestoreFileOptions
from ckpt.images.reader import ImageSet
from ckpt.images.types import message_class
from ckpt.images.writer import ImageSetWriter

_PRELUDE = """
import errno, fcntl, mmap, os, socket, struct, sys
def stand(*more):
    os.write(REPORT, (" ".join(map(str, (os.getpid(), *more))) + "\\n").encode())
    os.read(HOLD, 1)
    os._exit(0)
"""


class Stander:
    """A child that ran `code` and waits; `code` ends by calling stand(...)."""

    def __init__(self, code: str, *, nr_tasks: int = 1, **files: int) -> None:
        hold_read, self._hold = os.pipe()
        self._report, report_write = os.pipe()
        script = f"REPORT, HOLD = {report_write}, {hold_read}\n{_PRELUDE}\n{code}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            pass_fds=(hold_read, report_write),
            stdin=files.get("stdin", subprocess.DEVNULL),
            stdout=files.get("stdout", subprocess.DEVNULL),
            stderr=files.get("stderr", subprocess.DEVNULL),
        )
        self.own = {hold_read: self._hold, report_write: self._report}
        """What the test itself has put into the child: number there, our other end."""
        os.close(hold_read)
        os.close(report_write)
        self.said: list[list[int]] = []
        with os.fdopen(self._report, "rb", closefd=False) as lines:
            for _ in range(nr_tasks):
                line = lines.readline()
                assert line, "the child ended before it was ready"
                self.said.append([int(word) for word in line.split()])

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def pids(self) -> list[int]:
        """The child and what it forked, in the order of their pids."""
        return sorted(line[0] for line in self.said)

    @property
    def outside(self) -> dict[str, int]:
        """What --inherit-fd has to give for the test's own pipes: our ends of them."""
        return {link(self.pid, fd): lfd for fd, lfd in self.own.items()}

    def end(self) -> None:
        """Let them all go and wait for the child."""
        # Not end of file: a test may hold further duplicates of this pipe.
        os.write(self._hold, b"x" * len(self.said))
        os.close(self._hold)
        self.process.wait(60)
        os.close(self._report)

    def __enter__(self) -> Stander:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


@dataclass
class Saved:
    """A set on disk. `refusals` not empty: nothing was written."""

    directory: Path
    tables: dict[int, int]
    refusals: list[str]
    contents: dict[int, bytes]


class Standing(Protocol):
    """Processes that wait, and whose descriptors don't change."""

    @property
    def pids(self) -> list[int]: ...


def save(stander: Standing, directory: Path, **options: Any) -> Saved:
    """Dump the stander's descriptors. Contents of memfds are kept in memory."""
    pidfds = {pid: os.pidfd_open(pid) for pid in stander.pids}
    try:
        with FilesDump(FileOptions(**options)) as files:
            for pid, pidfd in pidfds.items():
                files.collect(pid, pidfd)
            files.resolve()
            contents = {c.shmid: os.pread(c.lfd, c.size, 0) for c in files.memfd_contents}
            refusals = [str(refusal) for refusal in files.refusals]
            if not refusals:
                files.at_last()
            files.open_network()
    finally:
        for pidfd in pidfds.values():
            os.close(pidfd)
    tables = {pid: number for number, pid in enumerate(stander.pids, 1)}
    if not refusals:
        images = {f"fdinfo-{number}": files.fdinfo(pid) for pid, number in tables.items()}
        write_set(directory, {**files.images(), **images})
    return Saved(directory, tables, refusals, contents)


def write_set(directory: Path, images: dict[str, Any]) -> None:
    """A set of just these images and an inventory."""
    inventory: Any = message_class("inventory.inventory_entry")
    with ImageSetWriter(directory) as writer:
        for name, messages in images.items():
            writer.write(name, messages)
        writer.write("inventory", [inventory(img_version=2, fdinfo_per_id=True)])
        writer.commit()


@contextmanager
def restored(saved: Saved, **options: Any) -> Iterator[FilesRestore]:
    """Everything opened again in this process, contents of memfds filled in."""
    assert not saved.refusals, saved.refusals
    with (
        ImageSet(saved.directory) as images,
        FilesRestore(images, RestoreFileOptions(**options), saved.tables) as files,
    ):
        files.check_tree(set(saved.tables), {})
        files.open_all()
        files.open_late()
        for memfd in files.memfd_contents:
            os.pwrite(memfd.lfd, saved.contents[memfd.shmid], 0)
        files.apply_seals()
        yield files


def by_number(files: FilesRestore, pid: int) -> dict[int, int]:
    """Our descriptor for each number of a task."""
    return {p.fd: files.lfd(p.file_id) for p in files.table(pid)}


def link(pid: int | str, fd: int) -> str:
    """What /proc says that a descriptor is."""
    return os.readlink(f"/proc/{pid}/fd/{fd}")  # noqa: PTH115 (a Path changes the text)


def flags(pid: int | str, fd: int) -> int:
    """The flags that fdinfo shows."""
    lines = Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("flags:")), 8)


def position(pid: int | str, fd: int) -> int:
    """The offset that fdinfo shows."""
    lines = Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("pos:")))
