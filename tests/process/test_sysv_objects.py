"""System V semaphores and message queues of a tree: gone, changed, in the way, used by others."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fault.injection import eventually
from tests.support import sysvobj
from tests.support.case import Case
from tests.support.programs import program
from tests.support.victim import Victim

REFUSED, SURROUNDINGS, SCRIPT = 3, 6, 11
MSGRCV = 70
VICTIMS = {"sem": ("memory/semaphores", "undo"), "msg": ("memory/queue",)}
WORDS = {"sem": "System V semaphores", "msg": "System V message queue"}


@dataclass
class Keyed:
    """A running victim with one object under a key."""

    case: Case
    kind: str
    victim: Victim
    id: int
    key: int
    pids: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{WORDS[self.kind]} {self.id}"

    @property
    def there(self) -> bool:
        return self.id in sysvobj.rows(self.kind)

    def dump(self) -> None:
        self.pids = self.victim.tree
        self.case.ckpt.dump(self.victim.pid, self.case.images).ok()
        self.victim.await_gone(self.pids)

    def restore_and_finish(self) -> None:
        self.case.ckpt.restore(self.case.images).ok()
        self.victim.finish()
        assert not self.there

    def kill(self) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        self.victim.await_gone(self.pids)

    def change(self) -> None:
        """As somebody else who uses it."""
        if self.kind == "sem":
            sysvobj.operate(self.id, 6, 1)
        else:
            sysvobj.send(self.id, 55, b"from outside")


@pytest.fixture(params=["sem", "msg"])
def keyed(case: Case, request: pytest.FixtureRequest) -> Iterator[Keyed]:
    kind = request.param
    victim = case.start(program(*VICTIMS[kind]))
    key = sysvobj.KEYS[kind] | victim.pid
    ident = sysvobj.of_key(kind, key)
    yield Keyed(case, kind, victim, ident, key)
    sysvobj.remove(kind, ident)


def test_one_that_is_gone_is_made_again(keyed: Keyed) -> None:
    """With id, key, owner, mode and contents, which the victim compares; twice in a row, so that
    the second dump finds whose it is by what the first restore has made."""
    for _ in range(2):
        keyed.dump()
        sysvobj.remove(keyed.kind, keyed.id)
        assert not keyed.there
        keyed.case.ckpt.restore(keyed.case.images).ok()
        shutil.rmtree(keyed.case.images)
        keyed.case.images.mkdir()
    keyed.victim.finish()
    assert not keyed.there


def test_what_others_did_since_stays(keyed: Keyed) -> None:
    """The set is used as it stands, with a warning; where that can't be, for what tasks have to
    give back, nothing is restored. Removed, it comes back as it was."""
    keyed.dump()
    keyed.change()
    result = keyed.case.ckpt.restore(keyed.case.images)
    if keyed.kind == "sem":
        result.failed(SURROUNDINGS, keyed.name, "SEM_UNDO", "ipcrm")
        assert sysvobj.value(keyed.id, 6) == 1
    else:
        result.ok()
        assert keyed.name in result.log and "as it stands" in result.log
        assert sysvobj.types(keyed.id)[-1] == 55
        keyed.kill()
    sysvobj.remove(keyed.kind, keyed.id)
    keyed.restore_and_finish()


def test_what_is_in_the_way(keyed: Keyed) -> None:
    """Another one with its key is not touched, and nothing is made."""
    keyed.dump()
    sysvobj.remove(keyed.kind, keyed.id)
    other = sysvobj.make(keyed.kind, keyed.key)
    try:
        before = sysvobj.rows(keyed.kind)[other]
        result = keyed.case.ckpt.restore(keyed.case.images)
        result.failed(SURROUNDINGS, keyed.name, "another one has its", "ipcrm")
        assert sysvobj.rows(keyed.kind)[other] == before
    finally:
        sysvobj.remove(keyed.kind, other)
    keyed.restore_and_finish()


def test_a_restore_that_fails_leaves_none(keyed: Keyed) -> None:
    """Neither what it made, nor does it take away what was there."""
    script = keyed.case.folder / "fails"
    script.write_text('#!/bin/sh\ntest "$CRTOOLS_SCRIPT_ACTION" != post-restore\n')
    script.chmod(0o755)
    keyed.dump()
    for there in (True, False):
        if not there:
            sysvobj.remove(keyed.kind, keyed.id)
        result = keyed.case.ckpt.restore(keyed.case.images, "--action-script", str(script))
        assert result.exit_code == SCRIPT, str(result)
        keyed.victim.await_gone(keyed.pids)
        assert keyed.there == there
    keyed.restore_and_finish()


def test_one_that_others_use(keyed: Keyed) -> None:
    """It stays out of the images, with a warning; what a task has to give back to it is refused,
    for others would get it. The target is untouched."""
    keyed.change()
    result = keyed.case.ckpt.dump(keyed.victim.pid, keyed.case.images, "--leave-running")
    if keyed.kind == "sem":
        result.failed(REFUSED, keyed.name, "give back")
        assert list(keyed.case.images.iterdir()) == []
        sysvobj.operate(keyed.id, 6, -1)
        keyed.victim.finish()
    else:
        result.ok()
        assert f"{keyed.name} " in result.log and "not in the images" in result.log
        assert not list(keyed.case.images.glob("ipcns-*"))
        assert sysvobj.types(keyed.id)[-1] == 55


WAIT = """
import ctypes, sys
buffer = ctypes.create_string_buffer(100)
ctypes.CDLL(None).msgrcv(int(sys.argv[1]), buffer, ctypes.c_size_t(8), ctypes.c_long(4242), 0)
"""


def test_who_waits_is_one_who_uses_it(case: Case) -> None:
    """No record of the queue names a process that only waits for a message."""
    victim = case.start(program(*VICTIMS["msg"]))
    ident = sysvobj.of_key("msg", sysvobj.KEYS["msg"] | victim.pid)
    with subprocess.Popen([sys.executable, "-c", WAIT, str(ident)]) as other:
        try:
            call = Path(f"/proc/{other.pid}/syscall")
            assert eventually(lambda: call.read_text().startswith(f"{MSGRCV} {ident:#x} "))
            result = case.ckpt.dump(victim.pid, case.images, "--leave-running").ok()
            assert f"pid {other.pid} uses {WORDS['msg']} {ident}" in result.log, str(result)
            assert not list(case.images.glob("ipcns-*"))
        finally:
            other.kill()
    victim.finish()


def test_crit_reads_it(keyed: Keyed) -> None:
    """As CRIU has it."""
    if not shutil.which("crit"):
        pytest.skip("crit is not installed")
    row = sysvobj.rows(keyed.kind)[keyed.id]
    keyed.dump()
    (path,) = keyed.case.images.glob(f"ipcns-{keyed.kind}-*.img")
    command = ["crit", "decode", "-i", str(path)]
    decoded = subprocess.run(command, capture_output=True, check=True, timeout=60)
    (entry,) = json.loads(decoded.stdout)["entries"]
    desc = entry["desc"]
    wanted = {name: row[name] for name in ("key", "uid", "gid", "cuid", "cgid")}
    assert wanted.items() <= desc.items()
    if keyed.kind == "sem":
        assert (desc["id"], desc["mode"], entry["nsems"]) == (keyed.id, 0o640, 8)
    else:
        assert (desc["id"], desc["mode"], entry["qnum"]) == (keyed.id, 0o620, 11)
    keyed.restore_and_finish()
