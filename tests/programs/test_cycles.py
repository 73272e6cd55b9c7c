"""One busy server, dumped and restored many times in a row: nothing of it grows, nothing is left.

Every fourth cycle is an incremental one, with a pre-dump. What is compared is read from /proc when
the first four cycles are over and when the last four are. The server works all the time, so what it
takes of memory may differ by what it needs for that; a cycle that leaves a mapping, or a page for
each page, would show as more.
"""

from __future__ import annotations

import os
import select
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from tests.programs.redis import loaded
from tests.support import processes
from tests.support.case import Case
from tests.support.nftables import own_network, tables
from tests.support.victim import Victim

STRESS = bool(os.environ.get("CKPT_STRESS"))
NR_CYCLES = 200 if STRESS else 8
NR_KEYS = 5_000
INCREMENTAL = 4
TCP = "--tcp-established"
KEEPERS = Path("/run/ckpt")
_MOST = {"mappings": 1.03, "virtual_kib": 1.05, "resident_kib": 1.25, "image_kib": 1.25}
"""By which factor each size may be larger at the end."""


@dataclass(frozen=True)
class Sizes:
    """What may move a little, as the server works."""

    mappings: int
    virtual_kib: int
    resident_kib: int
    image_kib: int

    def grown(self, first: Sizes) -> list[str]:
        """What is larger than at first by more than a working server's memory varies."""
        now = asdict(self)
        return [
            f"{name}: {was} -> {now[name]}"
            for name, was in asdict(first).items()
            if now[name] > was * _MOST[name]
        ]


def sizes(pid: int, images: Path) -> Sizes:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return Sizes(
        mappings=len(Path(f"/proc/{pid}/maps").read_text().splitlines()),
        virtual_kib=int(status["VmSize"].split()[0]),
        resident_kib=int(status["VmRSS"].split()[0]),
        image_kib=sum(path.stat().st_size for path in images.iterdir()) >> 10,
    )


def belongings(case: Case, server: Victim) -> dict[str, object]:
    """What has to be the same to the letter. Names of images hold numbers of inodes."""
    sockets = Path("/proc/thread-self/net/sockstat").read_text().split()
    own = (case.images, case.ckpt.logs)
    return {
        "descriptors": sorted(os.listdir(f"/proc/{server.pid}/fd")),
        "threads": sorted(os.listdir(f"/proc/{server.pid}/task")),
        "rules": tables(),
        "orphaned sockets": sockets[sockets.index("orphan") + 1],
        # A keeper that has ended is our child: this process takes up every orphan.
        "processes": [p for p in processes.tree(os.getpid()) if processes.state(p) != "Z"],
        "keepers": [path for path in KEEPERS.glob("*") if str(server.pid) in path.name],
        "descriptors of the test": len(os.listdir("/proc/self/fd")),
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "files": {p for p in case.folder.rglob("*") if not any(map(p.is_relative_to, own))},
        "images": len(list((case.images / "top").iterdir())),
    }


def settle(case: Case, server: Victim, owned: dict[str, object]) -> None:
    """Nothing has come or gone. What ends by itself, such as a keeper, may take its time."""
    for _ in range(6000):
        now = belongings(case, server)
        if now == owned:
            return
        select.select([], [], [], 0.01)
    assert now == owned


def cycle(case: Case, server: Victim, number: int) -> Path:
    """Dump and restore it once; the folder of the last set."""
    shutil.rmtree(case.images, ignore_errors=True)
    case.images.mkdir()
    below, top = case.images / "below", case.images / "top"
    below.mkdir()
    words: tuple[str, ...] = ()
    if number % INCREMENTAL == 0:
        case.ckpt.run("pre-dump", "-t", server.pid, "-D", below).ok()
        words = ("--prev-images-dir", "../below")
    pids = server.tree
    case.ckpt.dump(server.pid, top, TCP, *words).ok()
    server.await_gone(pids)
    case.ckpt.restore(top, TCP).ok()
    return top


@pytest.mark.timeout(3600 if STRESS else 600)
def test_nothing_grows(case: Case) -> None:
    with own_network(), loaded(case, NR_KEYS) as load:
        server = load.server
        found: list[Sizes] = []
        owned: dict[str, object] = {}
        for number in range(1, NR_CYCLES + 1):
            images = cycle(case, server, number)
            load.goes_on()
            if number % INCREMENTAL == INCREMENTAL - 1:  # a whole set
                found.append(sizes(server.pid, images))
            elif number == INCREMENTAL:
                owned = belongings(case, server)
            elif number % INCREMENTAL == 0:
                settle(case, server, owned)
    assert len(found) > 1 and found[-1].grown(found[0]) == []
