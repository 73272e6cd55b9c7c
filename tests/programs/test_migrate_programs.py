"""redis-server and CPython move between two sets of namespaces on one wire, in every mode."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from tests.programs.elsewhere import (
    MODES,
    ask,
    ask_by_name,
    counted,
    counting,
    cpython,
    finish_cpython,
    redis,
    two_places,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.programs.elsewhere import Place

NR_KEYS = 1_000_000 if os.environ.get("CKPT_STRESS") else 100_000
pytestmark = pytest.mark.usefixtures("built")


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[Place, Place]]:
    tmp_path.chmod(0o755)
    with two_places() as both:
        yield both


@pytest.mark.timeout(600)
def test_a_server_moves_and_has_all_keys(places: tuple[Place, Place], tmp_path: Path) -> None:
    """A client counts meanwhile, and goes on counting there: nothing it was told is lost, and
    nothing is done at both places."""
    here, there = places
    with redis(here, tmp_path / "victim", NR_KEYS) as moving:
        digest = ask(moving, "DEBUG", "DIGEST")
        assert len(digest) == 40
        for mode in MODES:
            to = there if moving.at is here else here
            with counting(moving, to) as client:
                said = moving.move(to, tmp_path / "images", "--mode", mode, "--tcp-close")
                assert said["mode"] == mode
                result = counted(client)
            assert 0 < result["here"] < result["there"]
            assert 0 < said["frozen_us"] <= said["downtime_us"] <= said["total_us"]
            assert ask_by_name(moving, "GET", "counter") == str(result["there"])
            assert ask(moving, "DEL", "counter") == "1"
            assert ask(moving, "DEBUG", "DIGEST") == digest, mode
        assert ask(moving, "DBSIZE") == str(NR_KEYS)


@pytest.mark.timeout(600)
def test_an_interpreter_moves_and_loses_no_round(
    places: tuple[Place, Place], tmp_path: Path
) -> None:
    here, there = places
    with cpython(here, tmp_path / "victim") as moving:
        for mode in MODES:
            to = there if moving.at is here else here
            moving.move(to, tmp_path / "images", "--mode", mode)
        chains = finish_cpython(moving)
    assert sorted(number for number, _, _ in chains) == [b"0", b"1", b"2"]
    for number, rounds, digest in chains:
        expected = number
        for _ in range(rounds):
            expected = hashlib.sha256(expected).digest()
        assert digest == expected.hex(), f"chain {number!r} after {rounds} rounds"
