"""`ckpt dump --lazy-pages`: the connection that the pages are asked for on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.cli.connection import tls_of
from ckpt.cli.status import tell_where, write_status
from ckpt.errors import UsageError

if TYPE_CHECKING:
    from ckpt.cli.parser import Args
    from ckpt.dump.options import DumpOptions
    from ckpt.dump.stats import DumpStats

_NOT_WITH = ("page_server", "leave_running", "live", "pre_rounds", "track_mem", "auto_dedup")


def dump_lazily(args: Args, options: DumpOptions) -> DumpStats:
    """Returns when a client has all that it wants. Raises UsageError, and as `dump` does."""
    for name in _NOT_WITH:
        if getattr(args, name):
            option = f"--{name.replace('_', '-')}"
            raise UsageError("does not go with --lazy-pages", resource=option)
    from ckpt.dump.lazily import LeftPages
    from ckpt.dump.run import dump
    from ckpt.images.pageserver.listener import Listener, ListenOptions

    def ready(where: tuple[str, int] | None) -> None:
        tell_where(args, where)
        if args.status_fd is not None:
            write_status(args.status_fd)

    listening = ListenOptions(
        address=args.address or "127.0.0.1",
        port=args.port or 0,
        ps_socket=args.ps_socket,
        tls=tls_of(args),
        insecure=args.insecure,
    )
    with Listener(listening) as listener:
        left = LeftPages(options, listener, args.report, ready)
        return dump(options, args.report, handover=left)
