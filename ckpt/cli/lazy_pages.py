"""`ckpt lazy-pages`: brings the memory of a tree that `ckpt restore --lazy-pages` has started."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ckpt.cli.connection import server_of, tls_of
from ckpt.cli.output import show
from ckpt.cli.status import write_pidfile, write_status

if TYPE_CHECKING:
    from ckpt.cli.parser import Args


def run(args: Args) -> int:
    """0 when every page is there, or what `serve` raises."""
    from ckpt.lazy.serve import LazyPagesOptions, serve

    options = LazyPagesOptions(
        images_dir=args.images_dir, work_dir=args.work_dir, checksums=args.checksums
    )

    def ready() -> None:
        if args.pidfile is not None:
            write_pidfile(args.work_dir / args.pidfile)
        args.report.info("waiting for a restore, or its pages")
        if args.status_fd is not None:
            write_status(args.status_fd)

    server = server_of(args)
    if server is None:
        figures = serve(options, args.report, ready)
    else:
        from ckpt.lazy.remote import RemotePages

        with RemotePages(server, tls_of(args)) as remote:
            figures = serve(options, args.report, ready, remote.connect)
    if args.json:
        show(json.dumps({key: figures[key] for key in sorted(figures) if key not in _OURS}))
    else:
        args.report.info(f"all pages are there: {figures}")
    return 0


_OURS = ("blobs", "fds")
