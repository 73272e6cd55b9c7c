"""A migration in which somebody is killed, or a connection is cut, at any moment: the tree exists
once and has lost nothing, or nobody can know and it stands, of which the user is told.

The moments are bytes on the wire, some of them with a while after that. `make test` takes some,
`make stress` hundreds.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ckpt.errors import HarmError
from tests.fault.injection import eventually
from tests.support.moved import Mover, migrate, mover, serving
from tests.support.passage import Passage
from tests.support.processes import state
from tests.support.worlds import World

STRESS = bool(os.environ.get("CKPT_STRESS"))
NR = 60 if STRESS else 1
MODES = ["precopy", "postcopy"] if STRESS else ["precopy"]
PAGES = 2 * 2048 * 4096
"""Bytes of memory that the tree has."""
CONTROL, DATA = 0, 1
UNKNOWN = "nobody can know"
HEAD = 4000
"""Bytes on the control connection of a whole migration, about."""


def ours(world: World) -> list[int]:
    """The processes of ckpt in there."""
    mine = Path(f"/proc/{world.init}/ns/pid").readlink()
    found = []
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            is_python = "python" in Path(f"/proc/{entry}/exe").readlink().name
            if is_python and Path(f"/proc/{entry}/ns/pid").readlink() == mine:
                found.append(int(entry))
    return [pid for pid in found if pid != world.init]


def moment(chance: random.Random, act: Callable[[Passage], None], to: int) -> Passage:
    """Somewhere on the way, or a while after that."""
    after_s = chance.choice([0, 0, chance.random() / 4]) if STRESS else 0

    def later(passage: Passage) -> None:
        if after_s:
            threading.Timer(after_s, act, [passage]).start()
        else:
            act(passage)

    nr = chance.choice([CONTROL, DATA])
    most = HEAD if nr == CONTROL else PAGES + PAGES // 8
    return Passage(to, nr, chance.randrange(most), later)


def settle(tree: Mover, here: World, there: World) -> str:
    """What became of the tree; it has ended then."""

    def place() -> str:
        at = [home.processes(tree.binary) for home in (here, there)]
        run = [[state(pid) in ("R", "S", "D") for pid in pids] for pids in at]
        if [len(pids) for pids in at] in ([2, 0], [0, 2]) and all(map(all, run)):
            return "here" if at[0] else "there"
        stands = [state(pid) for pid in at[0]] == ["T", "T"]
        return UNKNOWN if stands and not any(run[0]) else ""

    assert eventually(lambda: bool(place()), 90), [
        [(pid, state(pid)) for pid in home.processes(tree.binary)] for home in (here, there)
    ]
    found = place()
    if found != UNKNOWN:
        tree.finish()
    return found


def mishap(
    mode: str, seed: int, tree: Mover, here: World, there: World, tmp_path: Path, *, cut: bool
) -> None:
    chance = random.Random(f"{mode} {seed} {cut}")

    def act(passage: Passage) -> None:
        if cut:
            passage.cut(*chance.choice([(), (CONTROL,), (DATA,)]))
            return
        victims = ours(chance.choice([here, there]))
        if victims:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(sorted(victims)), signal.SIGKILL)

    with serving(there, tmp_path / "images") as server, moment(chance, act, server.port) as way:
        done = migrate(here, tree.pid, way.port, "--mode", mode, timeout_s=120)
        found = settle(tree, here, there)
    assert found != UNKNOWN or done.returncode in (HarmError.exit_code, -signal.SIGKILL)


@pytest.fixture
def tree(here: World, built: Path, tmp_path: Path) -> Iterator[Mover]:
    tmp_path.chmod(0o755)
    with mover(here, built, tmp_path / "victim") as started:
        yield started


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(NR))
def test_somebody_is_killed(
    mode: str, seed: int, tree: Mover, here: World, there: World, tmp_path: Path
) -> None:
    mishap(mode, seed, tree, here, there, tmp_path, cut=False)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(NR))
def test_a_connection_is_cut(
    mode: str, seed: int, tree: Mover, here: World, there: World, tmp_path: Path
) -> None:
    mishap(mode, seed, tree, here, there, tmp_path, cut=True)
