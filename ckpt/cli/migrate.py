"""`ckpt migrate`: from options to a call of the source's side, and its result to the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.cli.connection import tls_of
from ckpt.cli.judged import judged_by
from ckpt.cli.operand import pid_of
from ckpt.cli.output import show
from ckpt.cli.stats import as_json, as_lines
from ckpt.dump.options import DEFAULT_TIMEOUT_S, DumpOptions
from ckpt.errors import UsageError
from ckpt.kerndat.cpufeature import DEFAULT_CPU_CAP

if TYPE_CHECKING:
    from ckpt.cli.parser import Args
    from ckpt.migrate.options import MigrateOptions


def run(args: Args) -> int:
    """0 when the tree runs there and no more here, or what `migrate` raises."""
    options = options_of(args)
    # Only now: what it imports takes longer than everything up to here.
    from ckpt.migrate.source import migrate

    result = migrate(options, args.report)
    if args.json:
        show(as_json(result))
    else:
        show(*as_lines(result))
    return 0


def options_of(args: Args) -> MigrateOptions:
    """Raises UsageError for what no single option can know."""
    from ckpt.images.pageserver.connect import ServerAddress
    from ckpt.migrate.options import MigrateOptions

    if args.tree is not None and args.operands:
        raise UsageError("names a second tree", resource=args.operands[0], hint="-t or PID")
    if args.tree is None:
        args.values["tree"] = pid_of(args)
    if args.to is None:
        raise UsageError("is missing", resource="--to", hint="ckpt migrate PID --to HOST:PORT")
    if args.pre_rounds and args.max_downtime is not None:
        why = "a number of rounds has no limit"
        raise UsageError("does not go with --max-downtime", resource="--pre-rounds", why=why)
    if args.mode == "postcopy" and (args.pre_rounds or args.max_downtime is not None):
        why = "it has no rounds"
        raise UsageError("does not go with --mode=postcopy", resource="--pre-rounds", why=why)
    dump = DumpOptions(
        **judged_by(args),
        network_lock=args.network_lock or "nftables",
        file_validation=args.file_validation or "filesize",
        timeout_s=DEFAULT_TIMEOUT_S if args.timeout is None else args.timeout,
        cpu_cap=DEFAULT_CPU_CAP if args.cpu_cap is None else args.cpu_cap,
        track_mode=args.track_mode or "",
    )
    return MigrateOptions(
        dump=dump,
        to=ServerAddress(*args.to),
        tls=tls_of(args),
        rounds=args.pre_rounds or None,
        max_downtime_ms=args.max_downtime,
        mode=args.mode or "precopy",
    )
