"""A page server's life: it listens, takes one sender, receives, commits, and ends.

Everything that can be wrong on this side is found before the sender is let in: address, directory,
certificates, parent. It listens beyond the loopback interface only with TLS, or if told `insecure`:
whoever reaches the port could else write the memory of a process that is restored as root.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from ckpt.errors import CkptError, KernelError, UsageError
from ckpt.images.pageserver.connect import socket_of
from ckpt.images.pageserver.protocol import Command
from ckpt.images.pageserver.receiver import Receiver
from ckpt.images.pageserver.store import ReceivedImages
from ckpt.images.pageserver.stream import Stream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from ckpt.images.pageserver.tls import TlsOptions
    from ckpt.report import Report


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """`ps_socket`: a socket on which the sender is connected already; nothing is listened on then.
    `prev_images_dir`: the parent, relative to `images_dir`; with `auto_dedup` it loses, at the end,
    the pages that came anew."""

    images_dir: Path
    prev_images_dir: str = ""
    auto_dedup: bool = False
    address: str = "127.0.0.1"
    port: int = 0
    ps_socket: int | None = None
    tls: TlsOptions | None = None
    insecure: bool = False
    checksums: bool = True


@dataclass(frozen=True, slots=True)
class Received:
    """What came: how many images and pages bytes."""

    nr_images: int
    nr_bytes: int


def serve(
    options: ServerOptions, report: Report, ready: Callable[[tuple[str, int] | None], None]
) -> Received:
    """Receive from one sender into `options.images_dir`.

    `ready` is called once a sender may connect, with the address and port, or None for a socket
    that was given. Raises UsageError, KernelError (the port is taken), ImageError, PeerError; the
    directory then holds nothing new.
    """
    context = _context(options.tls)
    listener = None if options.ps_socket is not None else _listen(options)
    try:
        with ReceivedImages(
            options.images_dir, prev=options.prev_images_dir, checksums=options.checksums
        ) as images:
            ready(None if listener is None else listener.getsockname()[:2])
            sock, peer = _sender(options, listener)
            report.info(f"{peer} is connected")
            stream = Stream(sock, peer) if context is None else _secured(sock, context, peer)
            try:
                report.stage("receive")
                last = Receiver(stream, images, lambda done: report.progress(done, 0)).run()
            except BaseException:
                stream.close()
                raise
            report.info(f"{images.nr_images} images with {images.nr_bytes} bytes are committed")
            # After a FORCE_CLOSE others may hold the sender's socket: no end of it would come.
            stream.close() if last == Command.FORCE_CLOSE else stream.end()
        if options.auto_dedup and options.prev_images_dir:
            _dedup(options, report)
        return Received(images.nr_images, images.nr_bytes)
    finally:
        if listener is not None:
            listener.close()


def _dedup(options: ServerOptions, report: Report) -> None:
    from ckpt.images.dedup import punch_overridden

    try:
        freed = punch_overridden(options.images_dir, pages_only=True)
    except CkptError as error:
        # The images are whole and the sender knows it: only room is lost.
        report.warn(f"no page of an older set was freed: {error}")
        return
    report.info(f"{freed >> 10} KiB of older images freed")


def _context(tls: TlsOptions | None) -> ssl.SSLContext | None:
    if tls is None:
        return None
    from ckpt.images.pageserver import tls as tls_of

    return tls_of.context(tls, server=True)


def _secured(sock: socket.socket, context: ssl.SSLContext, peer: str) -> Stream:
    from ckpt.images.pageserver import tls as tls_of

    return tls_of.secured(sock, context, peer)


def _listen(options: ServerOptions) -> socket.socket:
    where = f"--address {options.address} --port {options.port}"
    try:
        found = socket.getaddrinfo(
            options.address, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise UsageError(
            "no such address", resource=f"--address {options.address}", why=error.strerror or ""
        ) from error
    family, _, _, _, addr = found[0]
    if not (options.tls or options.insecure or ip_address(str(addr[0]).split("%")[0]).is_loopback):
        raise UsageError(
            "can be reached from other machines",
            resource=f"--address {options.address}",
            why="without --tls anybody there could write these images",
            hint="--tls, or --insecure if the network is safe",
        )
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(addr)
        sock.listen(1)
    except OSError as error:
        sock.close()
        raise KernelError("can't listen", resource=where, why=error.strerror or "") from error
    return sock


def _sender(options: ServerOptions, listener: socket.socket | None) -> tuple[socket.socket, str]:
    """The connection of the only sender, and its name for messages."""
    if listener is None:
        assert options.ps_socket is not None
        return socket_of(options.ps_socket), f"sender at descriptor {options.ps_socket}"
    sock, addr = listener.accept()
    listener.close()
    return sock, f"sender {addr[0]} port {addr[1]}"
