"""`python -m tests.bench.redis_live [--mib N] [--requests N] [--svg FILE] [--json]`: what clients
of redis-server notice while it is saved again and again: undisturbed, by its own BGSAVE (a fork),
by `ckpt dump --live`, and by `ckpt dump --leave-running`. Images and its own file are on disk.

redis-benchmark measures, SET of values of 1000 bytes over 20 connections. --svg draws the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tests.bench.__main__ import BUILD
from tests.bench.bars import draw
from tests.support.ckptcmd import CKPT

PORT = 7380
BINARY = "redis-check-rdb"
VALUE = 1000
_LATENCY = re.compile(r"^([0-9.]+)% <= ([0-9.]+) milliseconds", re.MULTILINE)
_THROUGHPUT = re.compile(r"throughput summary: ([0-9.]+) requests")


@dataclass(frozen=True)
class Row:
    """Latencies in ms. `nr_saves`: how many times it was saved meanwhile."""

    what: str
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    p99_9_ms: float
    longest_ms: float
    nr_saves: int


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.redis_live", description=__doc__)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--requests", type=int, default=400_000)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not shutil.which(BINARY):
        parser.error("redis-tools is not installed")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    BUILD.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=BUILD))
    rows = []
    try:
        with _server(work) as pid:
            nr_keys = args.mib * (1 << 20) // VALUE
            _ask("DEBUG", "POPULATE", str(nr_keys), "key", str(VALUE))
            saves: dict[str, Callable[[], None] | None] = {
                "undisturbed": None,
                "BGSAVE": _bgsave,
                "ckpt dump --live": partial(_dump, work, pid, "--live"),
                "ckpt dump --leave-running": partial(_dump, work, pid, "--leave-running"),
            }
            for what, save in saves.items():
                row = _measure(what, save, args.requests, nr_keys)
                rows.append(row)
                if not args.json:
                    print(row, flush=True)
    finally:
        shutil.rmtree(work)
    if args.json:
        print(json.dumps([asdict(row) for row in rows]))
    if args.svg:
        title = f"redis-server, {args.mib} MiB, while it is saved: latency of SET, ms"
        bars = {r.what: [r.p50_ms, r.p99_ms, r.p99_9_ms, r.longest_ms] for r in rows}
        args.svg.write_text(draw(title, ["p50", "p99", "p99.9", "longest"], bars))
    return 0


@contextmanager
def _server(work: Path) -> Iterator[int]:
    link = work / "redis-server"
    link.symlink_to(shutil.which(BINARY) or "")
    words = ("--port", str(PORT), "--bind", "127.0.0.1", "--save", "", "--dir", str(work))
    options = ("--enable-debug-command", "yes")
    with (work / "out").open("w") as out:
        server = subprocess.Popen(
            [str(link), *words, *options],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        while not _ready():
            threading.Event().wait(0.05)
        yield server.pid
    finally:
        server.kill()
        server.wait()


def _ready() -> bool:
    said = subprocess.run(
        ["redis-cli", "-p", str(PORT), "PING"], capture_output=True, text=True, check=False
    )
    return said.stdout.strip() == "PONG"


def _ask(*words: str) -> str:
    argv = ["redis-cli", "-p", str(PORT), *words]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def _measure(what: str, save: Callable[[], None] | None, nr_requests: int, nr_keys: int) -> Row:
    argv = ["redis-benchmark", "-p", str(PORT), "-c", "20", "-t", "set", "-d", str(VALUE)]
    argv += ["-r", str(nr_keys), "-n", str(nr_requests)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as benchmark:
        nr_saves = 0
        ended = threading.Event()

        def save_again() -> None:
            nonlocal nr_saves
            while save is not None and not ended.is_set():
                save()
                nr_saves += 1

        saver = threading.Thread(target=save_again)
        saver.start()
        assert benchmark.stdout is not None
        text = benchmark.stdout.read()
        ended.set()
        saver.join()
    return _row(what, text, nr_saves)


def _row(what: str, text: str, nr_saves: int) -> Row:
    told = [(float(share), float(ms)) for share, ms in _LATENCY.findall(text)]
    rate = _THROUGHPUT.search(text)
    if not told or rate is None:
        raise SystemExit(f"redis-benchmark said: {text[-500:]}")
    p50, p99, p99_9 = (next(ms for share, ms in told if share >= p) for p in (50, 99, 99.9))
    return Row(what, float(rate[1]), p50, p99, p99_9, told[-1][1], nr_saves)


def _bgsave() -> None:
    _ask("BGSAVE")
    while "rdb_bgsave_in_progress:1" in _ask("INFO", "persistence"):
        threading.Event().wait(0.05)


def _dump(work: Path, pid: int, option: str) -> None:
    images = work / "images"
    images.mkdir()
    argv = [str(CKPT), "dump", "-t", str(pid), "-D", str(images), option, "--tcp-close"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        os.write(2, done.stderr.encode())
        raise SystemExit(1)
    shutil.rmtree(images)


if __name__ == "__main__":
    sys.exit(main())
