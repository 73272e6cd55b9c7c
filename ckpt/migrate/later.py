"""Memory that comes when the tree runs here already: over the data connection, on which the source
answers from now on.

The holder of ckpt.lazy waits for the restore, and would wait for ever for one that was given up. So
the end of the connection before that is our end, and with us the holder goes. Once pages are being
brought, whoever brings them sees to the connection.
"""

from __future__ import annotations

import os
import select
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from ckpt.errors import CkptError, PeerError
from ckpt.images.pageserver.protocol import NARROW
from ckpt.images.pageserver.relay import Relay
from ckpt.lazy.serve import LazyPagesOptions, serve
from ckpt.lazy.start import numbers_of, start_holder
from ckpt.mem.missing.client import Holder
from ckpt.mem.missing.contents import Remote
from ckpt.migrate import folders, sets
from ckpt.migrate.duties import COMMITTED

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from ckpt.images.pageserver.stream import Stream
    from ckpt.report import Report


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
    except (CkptError, OSError):
        if not (folder / COMMITTED).exists():
            folders.remove(folder)
        raise
    folders.remove(folder)


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
