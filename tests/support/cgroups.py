"""Control groups of a test: made below the roots of this machine's hierarchies, removed at the end
whatever became of the test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.requirements import require
from tests.support.victim import Victim
from tests.support.waiting import wait_until


def mounted(name: str) -> Path | None:
    """Where the hierarchy with controller `name` ("" for version 2) is mounted, by /proc/mounts."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split(" ")
        if (kind == "cgroup2") if not name else (kind == "cgroup" and name in options.split(",")):
            return Path(where)
    return None


def own(name: str) -> str:
    """The path of this process in a hierarchy."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if (name in controllers.split(",")) if name else not controllers:
            return path
    return ""


def line_of(name: str, pid: int | str) -> str:
    """What /proc/PID/cgroup says of one hierarchy."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        controllers = line.split(":", 2)[1]
        if (name in controllers.split(",")) if name else not controllers:
            return line
    raise AssertionError(name)


@dataclass
class Groups:
    """The groups of one hierarchy that a test has made. `top` is the one that holds all."""

    name: str
    mount: Path
    top: str

    def make(self, path: str = "") -> Path:
        directory = self.directory(path)
        directory.mkdir()
        for prop in ("cpuset.cpus", "cpuset.mems"):
            if (directory / prop).exists():
                (directory / prop).write_text((directory.parent / prop).read_text())
        return directory

    def directory(self, path: str = "") -> Path:
        return self.mount / self.top.lstrip("/") / path

    def remove(self) -> None:
        """Also what a restore has made anew there. Tasks that live, of a test that failed, go to
        the root; such that have ended leave by and by."""

        def gone() -> bool:
            for directory, _, _ in os.walk(self.directory(), topdown=False):
                with suppress(OSError):
                    for pid in Path(directory, "cgroup.procs").read_text().split():
                        (self.mount / "cgroup.procs").write_text(pid)
                try:
                    Path(directory).rmdir()
                except OSError:
                    return False
            return True

        wait_until(os.getpid(), gone)


@contextmanager
def groups_in(name: str) -> Iterator[Groups]:
    mount = mounted(name)
    require(mount, f"the cgroup hierarchy {name or 'of version 2'} is not mounted")
    assert mount is not None
    groups = Groups(name, mount, f"/ckpt-test-{os.getpid()}")
    try:
        groups.make()
    except OSError as error:
        require(False, f"no cgroup can be made in {mount}: {error.strerror}")
    try:
        yield groups
    finally:
        groups.remove()


def expect(victim: Victim, who: str, *lines: str) -> None:
    """Where the victim must find itself after the restore."""
    (victim.folder / f"expect-{who}").write_text("".join(f"{line}\n" for line in lines))
