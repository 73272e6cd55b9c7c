"""What one connection to `ckpt serve` comes to, each in a process of its own.

*migrate*, the control connection: check, receive nothing, wait for `restore`, build the tree, wait
for `go`, let it run. *data*: receive the sets, and what follows later. *rest*: that, where the
connection before was lost. *outcome*: say what became of a migration.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from ckpt.errors import CkptError, PeerError, RestoreError
from ckpt.images.directory import cannot_write
from ckpt.images.types import import_messages
from ckpt.migrate import hello, messenger, sets, wire
from ckpt.migrate.duties import ABORTED, COMMITTED, DestinationDuty
from ckpt.migrate.forked import fork_outside
from ckpt.record import record
from ckpt.restore.options import Consent, Lazily, RestoreOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckpt.images.pageserver.stream import Stream
    from ckpt.mem.missing.client import Holder
    from ckpt.migrate.options import ServeOptions
    from ckpt.report import Report


_HOLDER_S = 30.0


@record(frozen=True)
class Arrived:
    """A tree that runs here now."""

    pid: int
    restore_us: int


class News(Protocol):
    """Whom the process of a connection, or one made from it, tells what it does: `arrived` of a
    tree that runs here; before that `brings`, where its memory comes later, as long as we live."""

    def arrived(self, came: Arrived) -> None: ...
    def brings(self) -> None: ...


def receive(
    stream: Stream, options: ServeOptions, report: Report, news: News, *, full: bool = False
) -> None:
    """Do what the connection is for; the stream becomes ours. `full`: no other tree is taken.
    Raises CkptError of any kind."""
    try:
        frame = wire.expect(stream, hello.MIGRATE, hello.DATA, hello.OUTCOME, hello.REST)
        folder = options.folder / hello.ident_of(frame)
        if frame.kind == hello.MIGRATE and full:
            wire.send(stream, "failed", why="it takes one tree, and has one (--once)")
        elif frame.kind == hello.MIGRATE:
            _migrate(stream, frame, folder, options, report, news.arrived)
        elif frame.kind == hello.DATA:
            _data(stream, frame, folder, report, news)
        elif frame.kind == hello.REST:
            from ckpt.migrate.later import bring_again

            bring_again(stream, folder, report)
        else:
            wire.send(stream, "outcome", outcome=_outcome(folder))
    finally:
        stream.close()


def _outcome(folder: Path) -> str:
    """Empty while it is not known: the one that knows is at work."""
    if (folder / COMMITTED).exists():
        return "COMMITTED"
    return "ABORTED" if (folder / ABORTED).exists() or not folder.exists() else ""


def _data(stream: Stream, frame: wire.Frame, folder: Path, report: Report, news: News) -> None:
    if not folder.is_dir():
        raise PeerError("sends for a migration that there is not", resource=stream.peer)

    def work() -> NoReturn:
        os._exit(_told(report, lambda: _receive(stream, folder, report, news)))

    fork_outside(frozenset(frame.numbers("numbers")), work)


def _receive(stream: Stream, folder: Path, report: Report, news: News) -> None:
    wire.send(stream, "welcome")
    # Not when it is wanted: then the tree stands.
    from ckpt.migrate.later import bring_the_rest

    if sets.receive_sets(stream, folder, report):
        news.brings()
        bring_the_rest(stream, folder, report)


def _told(report: Report, work: Callable[[], None]) -> int:
    """The exit code of a process that does `work`."""
    try:
        work()
    except CkptError as error:
        report.error(str(error))
        return error.exit_code
    except Exception as error:
        report.error(f"{type(error).__name__}: {error} (a defect of ckpt)")
        return 1
    return 0


def _migrate(
    stream: Stream,
    frame: wire.Frame,
    folder: Path,
    options: ServeOptions,
    report: Report,
    arrived: Callable[[Arrived], None],
) -> None:
    numbers = frozenset(frame.numbers("numbers"))
    try:
        hello.check_hello(frame, options.cpu_cap)
        restoring = hello.passed_options(frame)
        hello.check_numbers(numbers - {os.getpid()})
    except CkptError as error:
        wire.send(stream, "failed", why=str(error))
        raise

    def work() -> NoReturn:
        os._exit(_told(report, lambda: _build(stream, folder, restoring, numbers, report, arrived)))

    # We may have a number of the tree; who goes on for us must not.
    fork_outside(numbers, work)


def _holder(folder: Path) -> Holder:
    """Of the one that has received the sets, which is starting it."""
    from ckpt.mem.missing.client import Holder

    holder = Holder.find(folder, wait_s=_HOLDER_S)
    if holder is None:
        raise RestoreError("nobody brings its memory", why=f"none came within {_HOLDER_S:g} s")
    return holder


def _build(
    stream: Stream,
    folder: Path,
    restoring: dict[str, Any],
    numbers: frozenset[int],
    report: Report,
    arrived: Callable[[Arrived], None],
) -> None:
    """In a process of its own, whose child the tree becomes, and which then ends."""
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        wire.send(stream, "failed", why=f"{folder}: {error.strerror}")
        raise cannot_write(str(folder), error) from error
    verdict, writer = os.pipe2(os.O_CLOEXEC)
    control = messenger.start(
        stream, DestinationDuty(folder, verdict), numbers, not_for_it=(writer,)
    )
    os.close(verdict)
    going = False

    def wait() -> None:
        nonlocal going
        wire.send(control, "ready")
        wire.expect(control, "go")
        going = True

    try:
        # While the rounds are still coming in: it takes its time.
        from ckpt.migrate.filling import Filling
        from ckpt.restore.run import restore

        wire.send(control, "welcome")
        import_messages()
        with Filling(folder, report) as filling:
            while (frame := wire.expect(control, "fill", "restore")).kind == "fill":
                filling.fill(frame)
                wire.send(control, "filled")
            lazy = frame.flag("lazy")
            result = restore(
                RestoreOptions(
                    images_dir=folder / sets.FINAL,
                    work_dir=folder,
                    restore_detached=True,
                    cpu_cap=frozenset(),
                    **restoring,
                ),
                report,
                Lazily(lambda: _holder(folder), gives_pages=False, tracks=False) if lazy else None,
                consent=Consent(wait, writer),
                early=filling.early,
            )
        arrived(Arrived(result.pid, result.stats.restore_us))
    except BaseException as error:
        with suppress(PeerError):
            wire.send(control, ABORTED if going else "failed", why=str(error))
        raise
    finally:
        os.close(writer)
        control.close()
