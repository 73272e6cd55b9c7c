"""System V shared memory of a tree: who else may be there, what may be in the way, what is left."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support import sysv
from tests.support.case import Case
from tests.support.programs import program
from tests.support.victim import Victim

REFUSED, SURROUNDINGS, SCRIPT = 3, 6, 11


@dataclass
class Keyed:
    """A running victim with one segment under a key."""

    case: Case
    victim: Victim
    id: int
    key: int
    pids: list[int] = field(default_factory=list)

    def dump(self) -> None:
        self.pids = self.victim.tree
        self.case.ckpt.dump(self.victim.pid, self.case.images).ok()
        self.victim.await_gone(self.pids)
        assert sysv.segments()[self.id]["nattch"] == 0

    def restore_and_finish(self) -> None:
        self.case.ckpt.restore(self.case.images).ok()
        self.victim.finish()
        assert self.id not in sysv.segments()


@pytest.fixture
def keyed(case: Case) -> Iterator[Keyed]:
    victim = case.start(program("memory/sysv", "key"))
    (ident,) = sysv.of_creator(victim.pid)
    yield Keyed(case, victim, ident, sysv.segments()[ident]["key"])
    if ident in sysv.segments():
        sysv.remove(ident)


def test_one_that_others_use_is_refused(keyed: Keyed) -> None:
    """By name, by a dump and by a look at the running tree; nothing is changed."""
    addr = sysv.attach(keyed.id)
    words = ("System V shared memory", str(keyed.id), "attachments", f"pid {keyed.victim.pid}")
    try:
        keyed.case.ckpt.dump(keyed.victim.pid, keyed.case.images).failed(REFUSED, *words)
        looked = keyed.case.ckpt.run("check", "--tree", keyed.victim.pid)
        assert looked.exit_code == REFUSED and words[0] in looked.stdout, str(looked)
        assert list(keyed.case.images.iterdir()) == []
    finally:
        sysv.detach(addr)
    keyed.victim.finish()


def described_by_crit(path: Path) -> dict[str, Any]:
    decoded = subprocess.run(
        ["crit", "decode", "-i", str(path)], capture_output=True, check=True, timeout=60
    )
    (entry,) = json.loads(decoded.stdout)["entries"]
    found: dict[str, Any] = entry | entry.pop("desc")
    return found


def test_what_is_in_the_way(keyed: Keyed) -> None:
    """Somebody who uses it now, or another one with its key; neither is touched. The image says
    whose it is, as CRIU has it."""
    row = sysv.segments()[keyed.id]
    keyed.dump()
    if shutil.which("crit"):
        said = described_by_crit(keyed.case.images / "ipcns-shm-3.img")
        wanted = {name: row[name] for name in ("key", "uid", "gid", "cuid", "cgid", "size")}
        assert wanted.items() <= said.items()
        assert (said["id"], said["mode"], said["in_pagemaps"]) == (keyed.id, 0o640, True)
    addr = sysv.attach(keyed.id)
    result = keyed.case.ckpt.restore(keyed.case.images)
    result.failed(SURROUNDINGS, f"System V shared memory {keyed.id}", "attachments", "ipcs")
    sysv.detach(addr)
    sysv.remove(keyed.id)
    other = sysv.make(keyed.key)
    try:
        result = keyed.case.ckpt.restore(keyed.case.images)
        result.failed(SURROUNDINGS, f"System V shared memory {keyed.id}", "another segment")
        assert sysv.segments()[other]["nattch"] == 0
    finally:
        sysv.remove(other)
    keyed.restore_and_finish()


def test_a_restore_that_fails_leaves_none(keyed: Keyed) -> None:
    """Neither what it made, nor does it take away what was there. In the end the segment is made
    again, with its id and key, which the victim compares."""
    script = keyed.case.folder / "fails"
    script.write_text('#!/bin/sh\ntest "$CRTOOLS_SCRIPT_ACTION" != post-restore\n')
    script.chmod(0o755)
    keyed.dump()
    for there in (True, False):
        if not there:
            sysv.remove(keyed.id)
        result = keyed.case.ckpt.restore(keyed.case.images, "--action-script", str(script))
        assert result.exit_code == SCRIPT, str(result)
        keyed.victim.await_gone(keyed.pids)
        assert (keyed.id in sysv.segments()) == there
    keyed.restore_and_finish()
