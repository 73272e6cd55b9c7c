"""`ckpt track PID`: what a tree writes, as a table that renews itself, as lines, or as JSON.

On a terminal a live table (rich); into a pipe one line for each look and mapping that was written
to; with `--json` one object a line. `--events` prints every page as it is written, for which each
first write waits until ckpt has seen it.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from typing import TYPE_CHECKING

from ckpt.cli.operand import pid_of
from ckpt.cli.output import human, printable, show
from ckpt.errors import TargetError, UsageError
from ckpt.units import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckpt.cli.parser import Args
    from ckpt.track.watch import Sample, TaskSample, Watch, Written

_TOP = 25
_EVENT_BUFFER = 1 << 16
F_SETPIPE_SZ = 1031


def run(args: Args) -> int:
    """0 at the end of the tree, after `--count` looks, or by ctrl-C."""
    pid = pid_of(args)
    try:
        _events(args, pid) if args.events else _samples(args, pid)
    except KeyboardInterrupt:
        return 0
    return 0


def _samples(args: Args, pid: int) -> None:
    from ckpt.mem.tracking.choose import choose
    from ckpt.mem.tracking.engine import Mode
    from ckpt.track.watch import Watch

    mode = choose(Mode(args.track_mode) if args.track_mode else None)
    with Watch(pid, mode, args.report) as watch:
        samples = _looks(watch, args.interval or 1.0, args.count)
        if args.json:
            for sample in samples:
                show(json.dumps(_as_dict(sample)))
        elif sys.stdout.isatty():
            _live(samples)
        else:
            for sample in samples:
                show(*_lines(sample))


def _looks(watch: Watch, interval_s: float, count: int | None) -> Iterator[Sample]:
    """The samples after the first, which knows of no interval; ends with the tree."""
    watch.sample()
    at = time.monotonic()
    nr = 0
    while count is None or nr < count:
        at += interval_s
        time.sleep(max(0.0, at - time.monotonic()))
        try:
            yield watch.sample()
        except TargetError:
            return
        nr += 1


def _rows(sample: Sample) -> list[tuple[TaskSample, Written]]:
    """The mappings that were written to, the most written first."""
    rows = [(task, one) for task in sample.tasks for one in task.mappings if one.written]
    return sorted(rows, key=lambda row: -row[1].written)


def _name(one: Written) -> str:
    m = one.mapping
    return printable(f"{m.start:x}-{m.end:x} {m.perms} {m.path}".rstrip())


def _total(sample: Sample) -> str:
    return (
        f"{human(int(sample.bytes_per_s))}/s, {sample.written} of {sample.populated} pages in"
        f" {sample.interval_s:.2f} s, {len(sample.tasks)} tasks, scan {sample.scan_us} us"
    )


def _lines(sample: Sample) -> Iterator[str]:
    yield _total(sample)
    for task, one in _rows(sample):
        rate = human(int(one.written * PAGE / sample.interval_s))
        yield f"  {task.pid} {rate}/s {one.written}/{one.populated} {_name(one)}"


def _as_dict(sample: Sample) -> dict[str, object]:
    return {
        "interval_s": round(sample.interval_s, 6),
        "scan_us": sample.scan_us,
        "pages_written": sample.written,
        "pages": sample.populated,
        "bytes_per_s": round(sample.bytes_per_s),
        "tasks": [
            {
                "pid": task.pid,
                "comm": task.comm,
                "pages_written": task.written,
                "pages": task.populated,
                "mappings": [
                    {
                        "start": one.mapping.start,
                        "end": one.mapping.end,
                        "perms": one.mapping.perms,
                        "path": one.mapping.path,
                        "pages": one.populated,
                        "pages_written": one.written,
                    }
                    for one in task.mappings
                ],
            }
            for task in sample.tasks
        ],
    }


def _live(samples: Iterator[Sample]) -> None:
    from rich.live import Live
    from rich.table import Table

    with Live(auto_refresh=False) as live:
        for sample in samples:
            table = Table(title=_total(sample), title_justify="left", expand=True)
            for name in ("PID", "COMMAND", "RATE", "WRITTEN", "PAGES"):
                table.add_column(name, justify="left" if name == "COMMAND" else "right")
            table.add_column("MAPPING", overflow="ellipsis", no_wrap=True)
            for task, one in _rows(sample)[:_TOP]:
                rate = f"{human(int(one.written * PAGE / sample.interval_s))}/s"
                cells = (str(task.pid), printable(task.comm), rate, str(one.written))
                table.add_row(*cells, str(one.populated), _name(one))
            live.update(table, refresh=True)


def _events(args: Args, pid: int) -> None:
    """Each first write since the last look: an address a line, `--interval` apart armed anew."""
    from ckpt.mem.tracking.choose import choose
    from ckpt.mem.tracking.engine import Mode
    from ckpt.track.watch import Watch, events

    if args.track_mode == "async":
        why = "the kernel resolves these writes by itself and tells nobody"
        raise UsageError("needs --track-mode sync", resource="--events", why=why)
    mode = choose(Mode.SYNC)
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        import fcntl

        fcntl.fcntl(writer, F_SETPIPE_SZ, 1 << 20)
        with Watch(pid, mode, args.report, events=writer) as watch:
            for _ in _looks_while(
                watch,
                args.interval or 1.0,
                args.count,
                lambda timeout_s: _print_events(args, reader, timeout_s, events),
            ):
                pass
    finally:
        os.close(reader)
        os.close(writer)


def _looks_while(
    watch: Watch, interval_s: float, count: int | None, meanwhile: Callable[[float], None]
) -> Iterator[Sample]:
    watch.sample()
    nr = 0
    while count is None or nr < count:
        until = time.monotonic() + interval_s
        while (left := until - time.monotonic()) > 0:
            meanwhile(left)
        try:
            yield watch.sample()
        except TargetError:
            return
        nr += 1


def _print_events(
    args: Args,
    reader: int,
    timeout_s: float,
    parse: Callable[[bytes], Iterator[tuple[int, int]]],
) -> None:
    if not select.select([reader], [], [], timeout_s)[0]:
        return
    written = parse(os.read(reader, _EVENT_BUFFER))
    if args.json:
        show(*(f'{{"start": {start}, "end": {end}}}' for start, end in written))
    else:
        show(*(f"{start:x}-{end:x}" for start, end in written))
