"""`ckpt serve`: from options to the destination's side, in the foreground."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ckpt.cli.connection import tls_of
from ckpt.cli.output import show
from ckpt.cli.status import tell_where, write_status
from ckpt.kerndat.cpufeature import DEFAULT_CPU_CAP

if TYPE_CHECKING:
    from ckpt.cli.parser import Args
    from ckpt.migrate.destination import Arrived
    from ckpt.migrate.options import ServeOptions


def run(args: Args) -> int:
    """0 with `--once` when a tree has come; else a signal ends it."""
    options = options_of(args)
    from ckpt.migrate.serving import serve

    def ready(where: tuple[str, int] | None) -> None:
        tell_where(args, where)
        if args.status_fd is not None:
            write_status(args.status_fd)

    def arrived(came: Arrived) -> None:
        if args.json:
            show(json.dumps({"pid": came.pid, "restore_us": came.restore_us}))
        else:
            show(f"pid {came.pid} runs here")

    serve(options, args.report, ready, arrived)
    return 0


def options_of(args: Args) -> ServeOptions:
    from ckpt.migrate.options import ServeOptions

    return ServeOptions(
        folder=args.images_dir,
        address=args.address or "127.0.0.1",
        port=args.port or 0,
        tls=tls_of(args),
        insecure=args.insecure,
        once=args.once,
        cpu_cap=DEFAULT_CPU_CAP if args.cpu_cap is None else args.cpu_cap,
    )
