"""`python -m tests.bench.chain [--mib N] [--share PERCENT]`: what a restore costs when the pages
are spread over layers, single pages at random places, beside the same set in one layer.

Processor time of the restore itself and of the tasks that it makes stands beside the elapsed time:
on a busy machine only the former can be compared.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.__main__ import BUILD, PLACES
from tests.bench.measure import resident
from tests.support import processes
from tests.support.ckptcmd import CKPT
from tests.support.layering import spread
from tests.support.procfd import become_subreaper


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.chain", description=__doc__)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--layers", default="1,10", help="lengths of chains")
    parser.add_argument("--share", type=float, default=1.0, help="percent that each layer holds")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--place", default="tmpfs", choices=PLACES)
    args = parser.parse_args()
    become_subreaper()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    BUILD.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=PLACES[args.place]))
    built = Path(tempfile.mkdtemp(prefix="bench-built-"))
    try:
        with resident(built, work, args.mib) as victim:
            _dump(work, victim.pid)
            chains = {}
            for nr_layers in map(int, args.layers.split(",")):
                home = _home(nr_layers, args.share / 100 * (nr_layers - 1))
                chains[nr_layers] = spread(work / "one", work / str(nr_layers), nr_layers, home)
            victim.await_gone([victim.pid])
            for nr_layers, newest in chains.items():
                runs = [_restore(work, newest, victim.pid) for _ in range(args.repeats)]
                elapsed, own, tree = (statistics.median(one) for one in zip(*runs, strict=True))
                print(
                    f"{args.mib} MiB in {nr_layers} layers: {elapsed * 1e3:.0f} ms elapsed; "
                    f"processor time {own * 1e3:.0f} ms of ckpt, {tree * 1e3:.0f} ms of the tree"
                )
    finally:
        shutil.rmtree(work)
        shutil.rmtree(built)
    return 0


def _home(nr_layers: int, share: float) -> Callable[[str, int], int]:
    chance = random.Random(nr_layers)

    def home(_name: str, _page: int) -> int:
        return chance.randrange(1, nr_layers) if chance.random() < share else 0

    return home


def _dump(work: Path, pid: int) -> None:
    (work / "one").mkdir()
    argv = [str(CKPT), "dump", "-t", str(pid), "-D", str(work / "one")]
    if os.spawnv(os.P_WAIT, argv[0], argv):
        raise SystemExit("the dump failed")


def _restore(work: Path, newest: Path, pid: int) -> tuple[float, float, float]:
    """Seconds: elapsed, of ckpt, of the restored task, which is ended then."""
    argv = [str(CKPT), "restore", "-D", str(newest), "-W", str(work), "-d"]
    began = time.monotonic()
    child = os.spawnv(os.P_NOWAIT, argv[0], argv)
    _, status, usage = os.wait4(child, 0)
    elapsed = time.monotonic() - began
    if status:
        raise SystemExit("the restore failed")
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    os.kill(pid, signal.SIGKILL)
    processes.wait_end(pid, 30)
    own = usage.ru_utime + usage.ru_stime
    return elapsed, own, (int(fields[11]) + int(fields[12])) / ticks


if __name__ == "__main__":
    sys.exit(main())
