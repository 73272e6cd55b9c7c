"""A page server's life: it listens, takes one sender, receives, commits, and ends.

Everything that can be wrong on this side is found before the sender is let in: address, directory,
certificates, parent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.errors import CkptError
from ckpt.images.pageserver.listener import Listener, ListenOptions
from ckpt.images.pageserver.protocol import Command
from ckpt.images.pageserver.receiver import Receiver
from ckpt.images.pageserver.store import ReceivedImages
from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckpt.images.chain import Resolver
    from ckpt.report import Report


@record(frozen=True, kw_only=True)
class ServerOptions(ListenOptions):
    """`prev_images_dir`: the parent, relative to `images_dir`; with `auto_dedup` it loses, at the
    end, the pages that came anew."""

    images_dir: Path
    prev_images_dir: str = ""
    auto_dedup: bool = False
    checksums: bool = True


@record(frozen=True)
class Received:
    """What came: how many images and pages bytes."""

    nr_images: int
    nr_bytes: int


def serve(
    options: ServerOptions,
    report: Report,
    ready: Callable[[tuple[str, int] | None], None],
    resolver: Resolver | None = None,
) -> Received:
    """Receive from one sender into `options.images_dir`. `resolver`: as that of a Chain.

    `ready` is called once a sender may connect, with the address and port, or None for a socket
    that was given. Raises UsageError, KernelError (the port is taken), ImageError, PeerError; the
    directory then holds nothing new.
    """
    with Listener(options) as listener:
        with ReceivedImages(
            options.images_dir,
            prev=options.prev_images_dir,
            checksums=options.checksums,
            resolver=resolver,
        ) as images:
            ready(listener.where)
            stream = listener.accept(last=True)
            report.info(f"{stream.peer} is connected")
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


def _dedup(options: ServerOptions, report: Report) -> None:
    from ckpt.images.dedup import punch_overridden

    try:
        freed = punch_overridden(options.images_dir, pages_only=True)
    except CkptError as error:
        # The images are whole and the sender knows it: only room is lost.
        report.warn(f"no page of an older set was freed: {error}")
        return
    report.info(f"{freed >> 10} KiB of older images freed")
