"""Where the pages of a dump go: into files beside the images, or to a page server.

For each address space or shared memory object: `begin`, then its present pages in order into the
descriptor that this gave, then `end`. What the pagemap says may be computed when there is time for
it, which for files is after the thaw.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from ckpt.errors import ImageError
from ckpt.images.pagemap import PE_PARENT, Run, merge_runs, pagemap_messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import ExitStack

    from google.protobuf.message import Message

    from ckpt.dump.options import DumpOptions
    from ckpt.images.pageserver.sender import PageSender
    from ckpt.images.writer import ImageSetWriter

    Runs = Callable[[], Sequence[Run]]

_STEP = 1 << 30


class Pages(ABC):
    """`remote`: the pages are not in the folder of images."""

    remote = False

    @abstractmethod
    def prepare(self, names: Sequence[str]) -> None:
        """What will probably be begun, while there is time for it."""

    @abstractmethod
    def begin(self, name: str, pages_id: int, runs: Runs) -> int:
        """A descriptor, ours, for the present pages of image `name` ("pagemap-7")."""

    @abstractmethod
    def more(self, runs: Sequence[Run]) -> int:
        """The same for runs that were not told at the beginning, above all that were."""

    @abstractmethod
    def end(self) -> None:
        """All of them are written. Raises ImageError."""

    @abstractmethod
    def where(self, pages_id: int) -> str:
        """What an error names."""

    @abstractmethod
    def images(self) -> Iterator[tuple[str, list[Message]]]:
        """The pagemaps that belong into the folder of images."""

    @abstractmethod
    def runs(self) -> Iterator[Sequence[Run]]:
        """Those of every image."""

    @abstractmethod
    def commit(self) -> None:
        """Have whoever keeps the pages elsewhere make them whole."""


class LocalPages(Pages):
    """Files of the set that is being written."""

    def __init__(self, writer: ImageSetWriter) -> None:
        self._writer = writer
        self._begun: list[tuple[str, int, Runs]] = []

    def prepare(self, _: Sequence[str]) -> None:
        return

    def begin(self, name: str, pages_id: int, runs: Runs) -> int:
        self._begun.append((name, pages_id, runs))
        return self._writer.pages(pages_id)

    def more(self, runs: Sequence[Run]) -> int:
        raise NotImplementedError("files have one pagemap, computed at the end")

    def end(self) -> None:
        return

    def where(self, pages_id: int) -> str:
        return f"{self._writer.directory}/pages-{pages_id}.img"

    def images(self) -> Iterator[tuple[str, list[Message]]]:
        for name, pages_id, runs in self._begun:
            yield name, pagemap_messages(pages_id, runs())

    def runs(self) -> Iterator[Sequence[Run]]:
        for _, _, runs in self._begun:
            yield runs()

    def commit(self) -> None:
        return  # with the set


class RemotePages(Pages):
    """A page server. It writes the pagemaps as well."""

    remote = True

    def __init__(self, sender: PageSender, server: str) -> None:
        self._sender = sender
        self._server = server
        self._sent: list[Sequence[Run]] = []
        self._name = ""
        self._has_parent = False

    def prepare(self, names: Sequence[str]) -> None:
        """Saves a round trip for each of them while the tree stands."""
        self._sender.prepare(names)

    def begin(self, name: str, _: int, runs: Runs) -> int:
        """The server numbers its pages files itself."""
        self._name = name
        self._has_parent = self._sender.open(name)
        return self.more(runs())

    def more(self, runs: Sequence[Run]) -> int:
        known = merge_runs(sorted(runs))
        if not self._has_parent and any(run.flags & PE_PARENT for run in known):
            raise ImageError(
                "has no parent for this image",
                resource=f"{self._server}: {self._name}",
                why="pages were left to the set before",
                hint="ckpt page-server --prev-images-dir with that set's folder",
            )
        self._sent.append(known)
        return self._sender.sink(known)

    def end(self) -> None:
        self._sender.finish()

    def where(self, _: int) -> str:
        return self._server

    def images(self) -> Iterator[tuple[str, list[Message]]]:
        return iter(())

    def runs(self) -> Iterator[Sequence[Run]]:
        return iter(self._sent)

    def commit(self) -> None:
        self._sender.close()


def pages_for(options: DumpOptions, writer: ImageSetWriter, scope: ExitStack) -> Pages:
    """Where the options want them. Connects to the server; `scope` drops that connection, and with
    it what the server has, unless `commit` was called."""
    if options.page_server is None:
        return LocalPages(writer)
    # Only now: most dumps open no connection.
    from ckpt.images.pageserver.sender import PageSender

    server = options.page_server
    sender = scope.enter_context(PageSender(server, options.tls))
    return RemotePages(sender, str(server))


def send_file(lfd: int, start: int, to: int, size: int) -> None:
    """Copy `size` bytes of the file `lfd` from `start` on to the position of `to`, which may be a
    pipe. ImageError: the file has not got them."""
    while size:
        done = os.sendfile(to, lfd, start, min(size, _STEP))
        if not done:
            raise ImageError("memory shrank while it was copied")
        start, size = start + done, size - done
