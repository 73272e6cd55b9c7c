"""One case of a test of processes: its victims, its commands, its end without anything left."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.requirements import require
from tests.support import processes, visible
from tests.support.ckptcmd import Ckpt, installed
from tests.support.programs import Program
from tests.support.victim import Victim, start, start_program


@dataclass
class Case:
    """What one test works with. `folder` can be entered by any user."""

    folder: Path
    built: Path
    ckpt: Ckpt
    victims: list[Victim] = field(default_factory=list)

    @property
    def images(self) -> Path:
        return self.folder / "images"

    def start(self, program: Program) -> Victim:
        """A victim of tests/victims, ready; skipped where the machine lacks what it needs."""
        missing = program.missing()
        require(not missing, f"this machine lacks {missing}")
        folder = self.folder / f"victim{len(self.victims)}"
        victim = start_program(program, self.built, folder)
        self.victims.append(victim)
        return victim

    def start_command(
        self,
        *command: str,
        stdin: int | None = None,
        output: int | None = None,
        job: bool = False,
        **env: str,
    ) -> Victim:
        """An ordinary program; the caller finds out by itself when it is where it should be."""
        folder = self.folder / f"victim{len(self.victims)}"
        victim = start(list(command), folder, env, stdin=stdin, output=output, job=job)
        self.victims.append(victim)
        return victim

    def dumped(self, program: Program, *options: str) -> Victim:
        """A victim that was ready, and is in `images` only."""
        victim = self.start(program)
        pids = victim.tree
        self.ckpt.dump(victim.pid, self.images, *options).ok()
        victim.await_gone(pids)
        return victim

    def dump_and_restore(
        self, victim: Victim, dump: list[str], restore: list[str], differs: list[str]
    ) -> None:
        """Dump with kill, restore; what is visible from outside must be what it was."""
        before = visible.look(victim.pid)
        pids = victim.tree
        images = Path(tempfile.mkdtemp(prefix="images", dir=self.folder))
        self.ckpt.dump(victim.pid, images, *dump).ok()
        victim.await_gone(pids)
        self.ckpt.restore(images, *restore).ok()
        visible.assert_same(before, visible.look(victim.pid), differs)
        shutil.rmtree(images)


@contextmanager
def fresh_case(built: Path) -> Iterator[Case]:
    """A folder, a command, and the certainty that nothing of the case outlives it."""
    require(installed(), "ckpt is not installed beside this Python")
    known = set(processes.tree(os.getpid()))
    folder = Path(tempfile.mkdtemp(prefix="ckpt-case-"))
    folder.chmod(0o755)
    logs = folder / "logs"
    logs.mkdir()
    current = Case(folder, built, Ckpt(logs))
    try:
        yield current
    finally:
        processes.end_leftovers(known)
        for victim in current.victims:
            victim.process.returncode = 0
            victim.close()
        shutil.rmtree(folder)
