"""The options by which a tree is judged: those of a dump that decide what it refuses.

A dump, a pre-dump and `ckpt check --tree` take all of them, so that the latter two say what a dump
with the same options would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckpt.cli.cgroups import dump_cgroups
from ckpt.dump.options import DEFAULT_GHOST_LIMIT

if TYPE_CHECKING:
    from ckpt.cli.parser import Args


def judged_by(args: Args) -> dict[str, Any]:
    """Fields of DumpOptions."""
    return {
        "tree": args.tree,
        "images_dir": args.images_dir,
        "work_dir": args.work_dir,
        "shell_job": args.shell_job,
        "file_locks": args.file_locks,
        "external": args.external,
        "force_irmap": args.force_irmap,
        "irmap_scan_path": args.irmap_scan_path,
        "skip_in_flight": args.skip_in_flight,
        "link_remap": args.link_remap,
        "ghost_limit": DEFAULT_GHOST_LIMIT if args.ghost_limit is None else args.ghost_limit,
        "ext_unix_sk": args.ext_unix_sk,
        "risk_seccomp": args.risk_seccomp,
        "tcp_established": args.tcp_established,
        # Of a connection that goes on nothing can be restored but its end.
        "tcp_close": args.tcp_close or bool(getattr(args, "live", "")),
        "unix_close": args.unix_close or bool(getattr(args, "live", "")),
        "cgroups": dump_cgroups(args),
    }
