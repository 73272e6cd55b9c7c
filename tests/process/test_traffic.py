"""Traffic that never rests through what ckpt looks into.

The oracle is the victim: each byte of its streams is what its place says, and each message has what
its number says (tests/victims/traffic).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests.support import processes
from tests.support.case import Case
from tests.support.live import NOTHING, await_no_traces, traces
from tests.support.programs import program
from tests.support.victim import Victim

STRESS = bool(os.environ.get("CKPT_STRESS"))
OPTIONS = ("--tcp-established",)
STREAMS = ("pipes,spliced,polledpair,tcp,typed", "polledpipe,gifts,fifos,pairs,polledtcp,shown")
MESSAGES = ("packets,datagrams", "rights,streamright")
GOING = [
    *(("streams", duties) for duties in (STREAMS if STRESS else ["spliced,polledpair,tcp"])),
    *(("messages", duties) for duties in (MESSAGES if STRESS else MESSAGES[:1])),
]
RESTORED = [
    *(("streams", duties) for duties in (STREAMS if STRESS else ["pipes,tcp,typed"])),
    *(("messages", duties) for duties in (MESSAGES if STRESS else ["datagrams,streamright"])),
]
NR_ROUNDS = 10 if STRESS else 1


def started(case: Case, name: str, duties: str) -> Victim:
    return case.start(program(f"traffic/{name}", duties))


@pytest.mark.parametrize(("name", "duties"), GOING)
def test_it_goes_on(case: Case, name: str, duties: str) -> None:
    victim = started(case, name, duties)
    options = (*OPTIONS, "--skip-in-flight")
    for _ in range(NR_ROUNDS):
        case.ckpt.dump(victim.pid, case.images, "--leave-running", *options).ok()
        shutil.rmtree(case.images)
        case.images.mkdir()
        case.ckpt.run("pre-dump", "-t", victim.pid, "-D", case.images, *options).ok()
        case.ckpt.run("untrack", victim.pid).ok()
        shutil.rmtree(case.images)
    assert traces(victim.pid) == NOTHING
    victim.finish()


@pytest.mark.parametrize(("name", "duties"), RESTORED)
def test_restored(case: Case, name: str, duties: str) -> None:
    victim = started(case, name, duties)
    ways: tuple[tuple[str, ...], ...] = ((), ("--lazy",))
    for lazy in ways * NR_ROUNDS if STRESS else ways[name == "messages" :][:1]:
        case.ckpt.dump(victim.pid, case.images, *OPTIONS).ok()
        processes.reap_orphans()
        case.ckpt.restore(case.images, *OPTIONS, *lazy).ok()
        shutil.rmtree(case.images)
    victim.finish()


@pytest.mark.parametrize(
    ("duty", "where"),
    [
        ("typed", "ckpt.files.ttyqueue:put"),
        ("shown", "ckpt.files.ttyqueue:put"),
        ("tcp", "ckpt.files.tcprepair:_read"),
    ],
)
def test_killed_while_it_is_looked_at(case: Case, duty: str, where: str) -> None:
    """The target must not run before what was taken is back, and sockets are as they were."""
    victim = started(case, "streams", duty)
    driver = (sys.executable, "-P", "-m", "tests.support.killedat", where, "parent")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    dump = ("dump", "-t", str(victim.pid), "-D", str(case.images), "--leave-running")
    for _ in range(NR_ROUNDS):
        killed = False
        while not killed:  # where nothing was on its way just then, nobody looks
            case.images.mkdir()
            words = [*driver, *dump, *OPTIONS]
            done = subprocess.run(words, env=env, capture_output=True, check=False, timeout=60)
            assert done.returncode in (-signal.SIGKILL, 0), done.stderr.decode()
            killed = done.returncode == -signal.SIGKILL
            shutil.rmtree(case.images)
    await_no_traces(victim.pid)
    victim.finish()
