"""Counters, timers, signals, datagrams and requests that never rest, under all that looks at them.

The oracle is the victim: it knows what each call has to return (tests/victims/traffic/drawn.h).
Where it is away for a time, its timers must not have told of more than its own clocks allow.
"""

from __future__ import annotations

import os
import random
import shutil

import pytest

from ckpt.errors import RefusedError
from tests.support import processes
from tests.support.case import Case
from tests.support.live import LOOKS, NOTHING, killed_after, traces
from tests.support.programs import program
from tests.support.victim import Victim

STRESS = bool(os.environ.get("CKPT_STRESS"))
NR_TIMES = 8 if STRESS else 1
MOST_S = 2.0
SEED = "7"
EVENTS = "counters,sums,ticks,once,overruns,queued,signalled"
DATAGRAMS = "groups,datagrams,idle"
ALL_REQUESTS = "groups,datagrams,idle,refusals,watches,waits,aio"
CASES = [("events", EVENTS), ("requests", ALL_REQUESTS if STRESS else "refusals,groups,idle")]


def started(case: Case, name: str, duties: str, *more: str) -> Victim:
    return case.start(program(f"traffic/{name}", duties, SEED, *more))


def look(case: Case, victim: Victim, words: tuple[str, ...]) -> list[str]:
    if case.images.exists():
        shutil.rmtree(case.images)
    case.images.mkdir()
    verb, *options = words
    return case.ckpt.argv(verb, "-t", victim.pid, "-D", case.images, *options)


@pytest.mark.parametrize("words", LOOKS if STRESS else LOOKS[:1], ids=" ".join)
@pytest.mark.parametrize(("name", "duties"), CASES)
def test_it_goes_on(case: Case, name: str, duties: str, words: tuple[str, ...]) -> None:
    """What can't be dumped at that moment is refused, and goes on as well."""
    victim = started(case, name, duties)
    for _ in range(NR_TIMES):
        _, verb, *options = look(case, victim, words)
        done = case.ckpt.run(verb, *options)
        assert done.exit_code in (0, RefusedError.exit_code), done
    if words[0] == "pre-dump":
        case.ckpt.run("untrack", victim.pid)
    assert traces(victim.pid) == NOTHING
    victim.finish()


@pytest.mark.parametrize("lazy", [(), ("--lazy",)] if STRESS else [()], ids=" ".join)
@pytest.mark.parametrize(
    ("name", "duties"), [("events", EVENTS), ("requests", DATAGRAMS)] if STRESS else CASES[:1]
)
def test_restored(case: Case, name: str, duties: str, lazy: tuple[str, ...]) -> None:
    victim = started(case, name, duties, "away")
    for _ in range(NR_TIMES):
        _, verb, *options = look(case, victim, ("dump",))
        done = case.ckpt.run(verb, *options)
        if done.exit_code == RefusedError.exit_code:  # a datagram is not sent as a whole yet
            continue
        done.ok()
        processes.reap_orphans()
        case.ckpt.restore(case.images, *lazy).ok()
    victim.finish()


@pytest.mark.stress
@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
@pytest.mark.parametrize(("name", "duties"), CASES)
def test_killed(case: Case, name: str, duties: str, words: tuple[str, ...]) -> None:
    """At moments of chance."""
    victim = started(case, name, duties)
    chance = random.Random(SEED)
    for _ in range(NR_TIMES):
        killed_after(look(case, victim, words), chance.random() * MOST_S)
    victim.finish()
