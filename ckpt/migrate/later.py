"""Memory that comes when the tree runs here already: over the data connection, on which the source
answers from now on.

The holder of ckpt.lazy waits for the restore, and would wait for ever for one that was given up. So
the end of the connection before that is our end, and with us the holder goes. Once pages are being
brought, whoever brings them sees to the connection.

A connection that is lost then stops the tree. The images stay, for the source makes another one
(ckpt.migrate.remainder), for which there is a process of its own, `bring_again`. Who brought the
first pages stays as long as the holder does: `ckpt serve` must not end before, and the images go
when nobody is left who could need them.
"""

from __future__ import annotations

import os
import select
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from ckpt.errors import CkptError, PeerError
from ckpt.images.chain import Chain
from ckpt.images.pageserver.protocol import NARROW
from ckpt.images.pageserver.relay import Relay
from ckpt.lazy.serve import LazyPagesOptions, serve
from ckpt.lazy.start import numbers_of, start_holder
from ckpt.mem.missing.client import Holder
from ckpt.mem.missing.contents import Remote, contents_of
from ckpt.mem.resolve import resolve
from ckpt.migrate import folders, messenger, sets, wire
from ckpt.migrate.duties import COMMITTED

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from ckpt.images.pageserver.stream import Stream
    from ckpt.report import Report

LOST = "lost"
"""The state of a holder (ckpt.lazy.holder.State) that waits for pages to be given anew."""


def bring_the_rest(stream: Stream, folder: Path, report: Report) -> None:
    """Until everything is here; the images are removed then. Raises PeerError, LostPagesError."""
    options = LazyPagesOptions(images_dir=folder / sets.FINAL, work_dir=folder, checksums=False)
    used = False

    def connect() -> Remote:
        nonlocal used
        if used:
            raise stream.gone()
        used = True
        return Remote(relay.sock.fileno(), NARROW.size)

    avoid = numbers_of(options.images_dir)
    try:
        # Before there is a second thread, which a relay may be.
        with start_holder(folder, report, need_name=True, avoid=avoid), Relay(stream) as relay:
            watching = threading.Thread(target=_watch, args=(relay.sock, folder), daemon=True)
            serve(options, report, watching.start, connect)
    except (CkptError, OSError) as error:
        holder = _lost(folder)
        if holder is None:
            if not (folder / COMMITTED).exists():
                folders.remove(folder)
            raise
        report.warn(f"{error}; the tree is stopped, another connection of the source is waited for")
        messenger.let_go_of_the_terminal()
        with holder:
            holder.await_end()
    folders.remove(folder)


def bring_again(stream: Stream, folder: Path, report: Report) -> None:
    """The same over another connection of the source, if one is wanted, which it is told. Raises
    PeerError, LostPagesError: one is wanted again."""
    holder = _holder(folder)
    if holder is None:
        wire.send(stream, "gone")
        return
    with holder:
        if holder.status().get("state") != LOST:
            wire.send(stream, "busy")
            return
        wire.send(stream, "welcome")
        with Relay(stream) as relay, _chain(folder) as chain:
            pages = contents_of(chain, Remote(relay.sock.fileno(), NARROW.size))
            if not holder.give(pages) or holder.wait() is None:
                raise stream.gone()
    report.info("everything is there")
    folders.remove(folder)


def _chain(folder: Path) -> Chain:
    return Chain(folder / sets.FINAL, verify=False, resolver=resolve)


def _holder(folder: Path) -> Holder | None:
    with suppress(CkptError, OSError):
        return Holder.find(folder)
    return None


def _lost(folder: Path) -> Holder | None:
    """A holder that lacks pages and waits for somebody who gives them; None where none does."""
    holder = _holder(folder)
    if holder is None:
        return None
    with suppress(CkptError):
        if holder.status().get("state") == LOST:
            return holder
    holder.close()
    return None


def _watch(sock: socket.socket, folder: Path) -> None:
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    poll.poll()
    with suppress(CkptError):
        holder = None
        with suppress(OSError):  # the folder is gone, with a migration that was given up
            holder = Holder.find(folder)
        if holder is None and folder.exists():
            return  # everything has come
        if holder is not None:
            with holder:
                if holder.status().get("state") != "waiting":
                    return
        folders.remove(folder)
        os._exit(PeerError.exit_code)
