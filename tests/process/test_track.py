"""`ckpt track`: what it tells of a victim that keeps a record of its writes, and what is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ckpt.units import PAGE
from tests.support import visible
from tests.support.case import Case
from tests.support.ckptcmd import CKPT
from tests.support.programs import program
from tests.support.victim import Victim

LEDGER = program("chain/ledger")


@contextmanager
def tracking(victim: Victim, *words: str) -> Iterator[subprocess.Popen[str]]:
    command = [str(CKPT), "track", str(victim.pid), "--json", *words]
    # Whoever runs the tests may have the signal ignored, and then it is for ckpt, too.
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def change(victim: Victim, step: int) -> set[int]:
    """Let it take a step; the numbers of the pages that it says it has written."""
    before = versions(victim)
    victim.expect_ready()
    victim.go(f"step{step}")
    victim.wait_ready()
    after = versions(victim)
    return {page for page, (old, new) in enumerate(zip(before, after, strict=True)) if old != new}


def versions(victim: Victim) -> list[int]:
    raw = (victim.folder / "record").read_bytes()
    return list(memoryview(raw).cast("I"))


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_pages_written_are_told(case: Case, mode: str) -> None:
    victim = case.start(LEDGER)
    before = visible.look(victim.pid, exact=True)
    area = max(_anonymous(victim.pid), key=lambda r: r[1] - r[0])
    with tracking(victim, "--interval", "0.2", "--track-mode", mode) as process:
        assert process.stdout is not None
        json.loads(process.stdout.readline())
        changed = change(victim, 1)
        written = 0
        while written < len(changed):
            sample = json.loads(process.stdout.readline())
            mappings = [m for task in sample["tasks"] for m in task["mappings"]]
            assert sample["pages_written"] == sum(m["pages_written"] for m in mappings)
            written += sum(m["pages_written"] for m in mappings if area[0] <= m["start"] < area[1])
        assert written <= len(changed) + (0 if mode == "async" else 3 * 64)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    visible.assert_same(before, visible.look(victim.pid, exact=True))
    for step in range(2, 5):
        change(victim, step)
    victim.finish()


def test_events_name_every_page(case: Case) -> None:
    victim = case.start(LEDGER)
    area = max(_anonymous(victim.pid), key=lambda r: r[1] - r[0])
    with tracking(victim, "--events", "--interval", "60") as process:
        assert process.stdout is not None
        while not _protected(victim.pid, area[0] + 2047 * PAGE):
            os.sched_yield()
        changed = change(victim, 1)
        told: set[int] = set()
        while not {page for page in changed if page < 2048} <= told:
            event = json.loads(process.stdout.readline())
            told.add((event["start"] - area[0]) // PAGE)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    for step in range(2, 5):
        change(victim, step)
    victim.finish()


def _protected(pid: int, addr: int) -> bool:
    """Whether the page is write-protected: bit 57 of its word, proc_pid_pagemap(5)."""
    pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        word = os.pread(pagemap, 8, addr // PAGE * 8)
    finally:
        os.close(pagemap)
    return bool(int.from_bytes(word, "little") >> 57 & 1)


def _anonymous(pid: int) -> Iterator[tuple[int, int]]:
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        words = line.split()
        if len(words) == 5:
            start, end = words[0].split("-")
            yield int(start, 16), int(end, 16)


def test_ends_with_the_tree(case: Case) -> None:
    victim = case.start(LEDGER)
    with tracking(victim, "--interval", "0.1") as process:
        assert process.stdout is not None
        process.stdout.readline()
        for step in range(1, 5):
            change(victim, step)
        victim.finish()
        assert process.wait(60) == 0


def test_refused_where_a_dump_tracks(case: Case) -> None:
    victim = case.start(LEDGER)
    case.images.mkdir()
    case.ckpt.run("pre-dump", "-t", victim.pid, "-D", case.images).ok()
    case.ckpt.run("track", victim.pid).failed(4, "tracked already", "untrack")
    case.ckpt.run("untrack", victim.pid).ok()
