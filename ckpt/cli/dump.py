"""`ckpt dump`: from options to a call of the orchestrator, and its result to the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckpt.cli.connection import server_of, tls_of
from ckpt.cli.judged import judged_by
from ckpt.cli.output import show
from ckpt.cli.stats import as_json, as_lines
from ckpt.dump.options import DEFAULT_LIVE_MEMORY, DEFAULT_TIMEOUT_S, DumpOptions
from ckpt.errors import UsageError
from ckpt.kerndat.cpufeature import DEFAULT_CPU_CAP

if TYPE_CHECKING:
    from ckpt.cli.parser import Args
    from ckpt.dump.stats import DumpStats


def run(args: Args) -> int:
    """0, or what the dump raises."""
    options = options_of(args)
    stats = _dump(args, options)
    if args.json:
        show(as_json(stats))
    elif args.display_stats:
        show("Displaying dump stats:", *as_lines(stats))
    return 0


def _dump(args: Args, options: DumpOptions) -> DumpStats:
    # Only now: what the orchestrators import takes longer than everything up to here.
    if options.lazy_pages:
        from ckpt.cli.dump_lazy import dump_lazily

        return dump_lazily(args, options)
    if args.pre_rounds is None:
        if args.max_downtime is not None:
            hint = "--pre-rounds auto --max-downtime MS"
            raise UsageError("needs --pre-rounds auto", resource="--max-downtime", hint=hint)
        if options.live:
            from ckpt.cli.live import dump_live

            return dump_live(options, args.report)
        from ckpt.dump.run import dump

        return dump(options, args.report)
    if options.live:
        why = "a live dump needs no rounds: its pause does not grow with what is to be copied"
        raise UsageError("does not go with --live", resource="--pre-rounds", why=why)
    if bool(args.pre_rounds) == (args.max_downtime is not None):
        why = "auto needs a --max-downtime, a number of rounds has none"
        raise UsageError("no such rounds", resource="--pre-rounds", why=why)
    if options.page_server is not None:
        hint = "ckpt pre-dump and ckpt dump, each with a page server of its own"
        raise UsageError("does not go with --page-server", resource="--pre-rounds", hint=hint)
    from ckpt.dump.rounds import dump_after_rounds

    return dump_after_rounds(
        options,
        args.report,
        rounds=args.pre_rounds or None,
        max_downtime_ms=args.max_downtime,
    )


def options_of(args: Args) -> DumpOptions:
    """Raises UsageError for what no single option can know."""
    if args.tree is None:
        raise UsageError("the pid is missing", resource="dump", hint="ckpt dump -t PID")
    live = _live_options(args)
    return DumpOptions(
        **judged_by(args),
        leave_running=args.leave_running or bool(args.live),
        leave_stopped=args.leave_stopped,
        file_validation=args.file_validation or "filesize",
        network_lock=args.network_lock or "nftables",
        timeout_s=DEFAULT_TIMEOUT_S if args.timeout is None else args.timeout,
        cpu_cap=DEFAULT_CPU_CAP if args.cpu_cap is None else args.cpu_cap,
        checksums=args.checksums,
        prev_images_dir=args.prev_images_dir or "",
        track_mem=args.track_mem,
        track_mode=args.track_mode or "",
        auto_dedup=args.auto_dedup,
        page_server=server_of(args),
        tls=tls_of(args),
        action_script=args.action_script,
        lazy_pages=args.lazy_pages,
        **live,
    )


def _live_options(args: Args) -> dict[str, Any]:
    """Those that have a value of their own only with --live."""
    for name in ("live_catch", "live_memory", "max_slowdown"):
        if getattr(args, name) is not None and not args.live:
            option = f"--{name.replace('_', '-')}"
            raise UsageError("needs --live", resource=option, hint=f"--live {option}=...")
    for name in ("leave_stopped", "tcp_established"):
        if args.live and getattr(args, name):
            raise UsageError("does not go with --live", resource=f"--{name.replace('_', '-')}")
    if args.live == "wp" and args.track_mode == "async":
        why = "it shares the userfaultfd that tracks writes, whose faults it has to serve"
        hint = "--track-mode=sync"
        raise UsageError("does not go with --live=wp", resource="--track-mode", why=why, hint=hint)
    if args.live and args.page_server:
        why = "pages would come there in no order"
        raise UsageError("does not go with --live", resource="--page-server", why=why)
    return {
        "live": args.live or "",
        "live_catch": args.live_catch == "always",
        "live_memory": args.live_memory or DEFAULT_LIVE_MEMORY,
        "max_slowdown": args.max_slowdown or 100,
    }
