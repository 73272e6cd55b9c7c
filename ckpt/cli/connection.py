"""From the options of a connection to what opens one: for both ends of a page server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.errors import UsageError

if TYPE_CHECKING:
    from ckpt.cli.parser import Args
    from ckpt.images.pageserver.connect import ServerAddress
    from ckpt.images.pageserver.tls import TlsOptions


def tls_of(args: Args) -> TlsOptions | None:
    """None without `--tls`: the other options of TLS are then without effect, as in CRIU."""
    if not args.tls:
        return None
    from ckpt.images.pageserver.tls import TlsOptions

    return TlsOptions(
        cacert=args.tls_cacert or "",
        cacrl=args.tls_cacrl or "",
        cert=args.tls_cert or "",
        key=args.tls_key or "",
        check_name=not args.values.get("tls_no_cn_verify", False),
    )


def server_of(args: Args) -> ServerAddress | None:
    """The page server that a dump sends its pages to; None without `--page-server`."""
    if not args.page_server:
        return None
    from ckpt.images.pageserver.connect import ServerAddress

    if args.ps_socket is None and not args.port:
        hint = "--page-server --address ADDR --port PORT, or --ps-socket FD"
        raise UsageError("the port is missing", resource="--page-server", hint=hint)
    host = args.address or ("" if args.ps_socket is not None else "127.0.0.1")
    return ServerAddress(host, args.port or 0, args.ps_socket)
