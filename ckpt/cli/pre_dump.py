"""`ckpt pre-dump`: the options of a dump, without what only a dump does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.cli.connection import server_of, tls_of
from ckpt.cli.judged import judged_by
from ckpt.cli.output import show
from ckpt.cli.stats import as_json, as_lines
from ckpt.dump.options import DumpOptions
from ckpt.errors import UsageError

if TYPE_CHECKING:
    from ckpt.cli.parser import Args


def run(args: Args) -> int:
    """0, or what the pre-dump raises."""
    if args.tree is None:
        raise UsageError("the pid is missing", resource="pre-dump", hint="ckpt pre-dump -t PID")
    options = DumpOptions(
        **judged_by(args),
        checksums=args.checksums,
        prev_images_dir=args.prev_images_dir or "",
        track_mem=True,
        track_mode=args.track_mode or "",
        auto_dedup=args.auto_dedup,
        page_server=server_of(args),
        tls=tls_of(args),
    )
    from ckpt.dump.pre_dump import pre_dump

    stats = pre_dump(options, args.report)
    if args.json:
        show(as_json(stats))
    elif args.display_stats:
        show("Displaying dump stats:", *as_lines(stats))
    return 0
