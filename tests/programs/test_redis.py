"""redis-server under load, three pre-dumps of it, the dump, the restore."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from tests.programs.redis import Connection, compare, loaded
from tests.support.case import Case
from tests.support.nftables import own_network, tables
from tests.support.victim import Victim

NR_KEYS = 1_000_000 if os.environ.get("CKPT_STRESS") else 20_000
NR_PRE_DUMPS = 3
TCP = "--tcp-established"


@pytest.mark.timeout(600)
def test_clients_notice_nothing(case: Case) -> None:
    chain = case.folder / "chain"
    chain.mkdir()
    with own_network():
        with loaded(case, NR_KEYS) as load:
            prev: tuple[str, ...] = ()
            for number in range(NR_PRE_DUMPS):
                load.goes_on()
                pre_dump(case, load.server, chain / str(number), *prev)
                prev = ("--prev-images-dir", f"../{number}")
            load.goes_on()
            pids = load.server.tree
            last = chain / str(NR_PRE_DUMPS)
            case.ckpt.dump(load.server.pid, last, TCP, *prev).ok()
            load.server.await_gone(pids)
            assert len(tables()) == 1
            layers = case.ckpt.show(last)["layers"]
            assert len(layers) == NR_PRE_DUMPS + 1
            case.ckpt.restore(last, TCP).ok()
            assert tables() == set()
            load.goes_on()
            with closing(Connection()) as connection:
                load.benchmark_goes_on(connection)
        with closing(Connection()) as connection:
            compare(connection, load, NR_KEYS)


def pre_dump(case: Case, server: Victim, folder: Path, *words: str) -> None:
    folder.mkdir()
    case.ckpt.run("pre-dump", "-t", server.pid, "-D", folder, *words).ok()
