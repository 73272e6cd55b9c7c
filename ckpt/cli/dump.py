"""`ckpt dump`: from options to a call of the orchestrator, and its result to the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.cli.output import show
from ckpt.cli.stats import as_json, as_lines
from ckpt.dump.options import DEFAULT_CPU_CAP, DEFAULT_TIMEOUT_S, DumpOptions
from ckpt.errors import UsageError

if TYPE_CHECKING:
    from ckpt.cli.parser import Args


def run(args: Args) -> int:
    """0, or what the dump raises."""
    options = options_of(args)
    # Only now: what the orchestrator imports takes longer than everything up to here.
    from ckpt.dump.run import dump

    stats = dump(options, args.report)
    if args.json:
        show(as_json(stats))
    elif args.display_stats:
        show("Displaying dump stats:", *as_lines(stats))
    return 0


def options_of(args: Args) -> DumpOptions:
    """Raises UsageError for what no single option can know."""
    if args.tree is None:
        raise UsageError("the pid is missing", resource="dump", hint="ckpt dump -t PID")
    return DumpOptions(
        tree=args.tree,
        images_dir=args.images_dir,
        work_dir=args.work_dir,
        leave_running=args.leave_running,
        leave_stopped=args.leave_stopped,
        shell_job=args.shell_job,
        file_locks=args.file_locks,
        external=args.external,
        timeout_s=DEFAULT_TIMEOUT_S if args.timeout is None else args.timeout,
        cpu_cap=DEFAULT_CPU_CAP if args.cpu_cap is None else args.cpu_cap,
        checksums=args.checksums,
    )
