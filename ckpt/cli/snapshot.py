"""`ckpt snapshot PID`: generation after generation of a running tree into a store, a line for each.

Each is a live dump (`ckpt dump --live=auto`): of a small tree by a fork, or where that takes less
time, a copy of what was written while it stands; of a large one by write protection, for which the
tree stands for milliseconds whatever its size.

It goes on until the tree has ended, `--count` is reached, or SIGINT, SIGTERM or SIGHUP comes; all
of these are a good end. Nothing of it is left in the tree then, unless `--track-mem` asks for that.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ckpt.cli.judged import judged_by
from ckpt.cli.operand import pid_of
from ckpt.cli.outcome import Terminated
from ckpt.cli.output import human, show
from ckpt.dump.options import DEFAULT_TIMEOUT_S, DumpOptions
from ckpt.errors import CkptError, UsageError
from ckpt.kerndat.cpufeature import DEFAULT_CPU_CAP
from ckpt.record import replace
from ckpt.units import PAGE

if TYPE_CHECKING:
    from pathlib import Path

    from ckpt.cli.parser import Args
    from ckpt.store.generations import Generation
    from ckpt.store.loop import Shot

DEFAULT_EVERY_S = 10.0
DEFAULT_KEEP = 20


def run(args: Args) -> int:
    """0, or what the first generation raises."""
    options = options_of(args)
    from ckpt.store.loop import SnapshotOptions, snapshot

    series = SnapshotOptions(
        pid=options.tree,
        directory=args.images_dir,
        every_s=args.every or DEFAULT_EVERY_S,
        keep=args.keep or DEFAULT_KEEP,
        count=args.count,
    )

    begun = False

    def take(folder: Path, prev: str) -> Shot:
        nonlocal begun
        begun = True
        here = replace(options, images_dir=folder, work_dir=folder, prev_images_dir=prev)
        return _take(here, args)

    def tell(made: Generation, shot: Shot) -> None:
        _tell(made, shot, as_json=args.json)

    try:
        snapshot(series, take, tell, args.report)
    except (KeyboardInterrupt, Terminated):
        args.report.info("ended by a signal")
    finally:
        if begun and not args.track_mem:
            _untrack(options.tree, args)
    return 0


def options_of(args: Args) -> DumpOptions:
    """Those of each dump, but for its folder. Raises UsageError for what no single option can
    know."""
    if args.tree is not None and args.operands:
        raise UsageError("names a second tree", resource=args.operands[0], hint="-t or PID")
    if args.tcp_established:
        why = "connections go on in the tree"
        raise UsageError("does not go with it", resource="--tcp-established", why=why)
    pid = pid_of(args) if args.tree is None else args.tree
    judged = {**judged_by(args), "tree": pid, "tcp_close": True, "unix_close": True}
    return DumpOptions(
        **judged,
        leave_running=True,
        live="auto",
        file_validation=args.file_validation or "filesize",
        network_lock=args.network_lock or "nftables",
        timeout_s=DEFAULT_TIMEOUT_S if args.timeout is None else args.timeout,
        cpu_cap=DEFAULT_CPU_CAP if args.cpu_cap is None else args.cpu_cap,
        checksums=args.checksums,
        track_mem=True,
        track_mode=args.track_mode or "",
        action_script=args.action_script,
    )


def _take(options: DumpOptions, args: Args) -> Shot:
    from ckpt.cli.live import dump_live
    from ckpt.store.loop import Shot

    stats = dump_live(options, args.report, may_begin_anew=True)
    return Shot(stats.instant_ms, stats.frozen_us, stats.pages_written, stats.pages_skipped_parent)


def _tell(made: Generation, shot: Shot, *, as_json: bool) -> None:
    time = made.instant.isoformat(timespec="milliseconds")
    if as_json:
        told = {
            "number": made.number,
            "time": time,
            "directory": str(made.path),
            "frozen_us": shot.frozen_us,
            "pages_written": shot.pages_written,
            "pages_in_parent": shot.pages_in_parent,
        }
        show(json.dumps(told))
        return
    show(
        f"{made.number} {time.replace('T', ' ')}: {human(shot.pages_written * PAGE)} written,"
        f" {human(shot.pages_in_parent * PAGE)} in the generations before,"
        f" stood for {shot.frozen_us / 1000:.1f} ms"
    )


def _untrack(pid: int, args: Args) -> None:
    from ckpt.dump.increment import end

    try:
        end(pid)
    except CkptError as error:
        args.report.debug(f"nothing is tracked any more: {error}")
