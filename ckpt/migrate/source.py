"""`ckpt migrate`: the side that has the tree and gives it away.

1. What a dump would be refused for is found, and what is in the way on the other side.
2. Pre-dumps of the running tree go there, as many as pay (ckpt.dump.rounds).
3. The last dump freezes the tree. While it stands its set goes there and is built up
   (ckpt.migrate.handover), and then exactly one of the two goes on.

Up to `go` whatever fails, our own end included, lets the tree run on here, and the other side drops
what it has.
"""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

from ckpt.dump.increment import end
from ckpt.dump.pre_dump import pre_dump
from ckpt.dump.preflight import refuse
from ckpt.dump.rounds import Round, run_rounds
from ckpt.dump.run import dump
from ckpt.dump.survey import survey
from ckpt.errors import CkptError, PeerError, TargetError
from ckpt.images.pageserver.connect import ServerAddress, connected
from ckpt.images.pageserver.relay import Relay
from ckpt.images.pageserver.stream import Stream
from ckpt.mem.tracking.where import is_tracked
from ckpt.migrate import folders, hello, messenger, sets, wire
from ckpt.migrate.duties import SourceDuty
from ckpt.migrate.handover import Handing, Outcome
from ckpt.migrate.outline import of_running
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.stat import parse_stat
from ckpt.procfs.tree import look, tree
from ckpt.record import record, replace
from ckpt.units import PAGE

if TYPE_CHECKING:
    from ckpt.dump.options import DumpOptions
    from ckpt.dump.stats import DumpStats
    from ckpt.migrate.options import MigrateOptions
    from ckpt.report import Report


@record
class MigrateResult:
    """`downtime_us`: from the first interrupt here until the tree could run there, as seen from
    here. `frozen_us`: the part of it until everything was taken from the tree."""

    pid: int
    mode: str
    rounds: int
    pages: int
    bytes: int
    frozen_us: int
    downtime_us: int
    total_us: int


class _Sender:
    """Sets on their way over the data connection, which `plain` is an end of."""

    def __init__(self, stream: Stream, options: MigrateOptions, scratch: Path) -> None:
        self._stream = stream
        self._options = options.dump
        self._lazy = options.lazy
        self._scratch = scratch
        self.last = ""
        self.nr_bytes = 0
        self.nr_pages = 0

    def begin(self, name: str) -> DumpOptions:
        """A set begins; the options of the dump that makes it."""
        folder = self._scratch / name
        folder.mkdir(mode=0o700)
        sets.announce(self._stream, name, self.last)
        return replace(
            self._options,
            images_dir=folder,
            work_dir=folder,
            prev_images_dir=f"../{self.last}" if self.last else "",
            page_server=ServerAddress(host="", lfd=self._stream.fileno()),
            tls=None,
            auto_dedup=False,
            lazy_pages=self._lazy and name == sets.FINAL,
            track_mem=False,
            leave_running=False,
            leave_stopped=False,
        )

    def send_rest(self, name: str, report: Report) -> None:
        """The pages are there: the other images."""
        report.stage("images")
        self.nr_bytes += sets.send_files(self._stream, self._scratch / name)
        self.last = name

    def count(self, stats: DumpStats) -> None:
        pages = stats.pages_written + stats.shpages_written
        self.nr_pages += pages
        self.nr_bytes += pages * PAGE

    def over(self) -> None:
        wire.send(self._stream, "done")


def migrate(options: MigrateOptions, report: Report) -> MigrateResult:
    """Move the tree to where `options` say.

    Raises RefusedError, TargetError, PeerError, ImageError, KernelError, DeadlineError: the tree
    then runs on here as before. HarmError: the connection was lost at the one moment at which
    nobody here can know where it runs; it is left stopped.
    """
    root = look(options.dump.tree)
    if root is None:
        raise TargetError("there is no such process", pid=options.dump.tree)
    refuse(survey(options.dump, report))
    was_tracked = is_tracked(root.pid, root.starttime)
    ident = secrets.token_hex(16)
    with ExitStack() as scope:
        scratch = _scratch(ident)
        untrack = _Untrack(options.dump.tree, report, needed=not was_tracked)
        control = _control(options, ident, SourceDuty(scratch, untrack.quietly))
        scope.callback(control.close)
        scope.callback(_over, control)
        # Only now: the messenger removes it, whatever becomes of us.
        scratch.mkdir(mode=0o700)
        scope.callback(folders.remove, scratch)
        data = scope.enter_context(Relay(_data(options, ident)))
        stream = Stream(data.sock, control.peer)
        sender = _Sender(stream, options, scratch)
        handing = Handing(
            options, ident, control, stream, lambda: sender.send_rest(sets.FINAL, report), report
        )
        try:
            return _move(options, sender, handing, control, report)
        except BaseException as error:
            with suppress(PeerError):
                wire.send(control, "failed", why=str(error)[:2000])
            untrack.say()
            raise


def _move(
    options: MigrateOptions, sender: _Sender, handing: Handing, control: Stream, report: Report
) -> MigrateResult:
    def make(number: int) -> DumpStats:
        name = f"pre-{number}"
        stats = pre_dump(sender.begin(name), report)
        sender.count(stats)
        sender.send_rest(name, report)
        _still_there(control)
        if not options.lazy:
            _fill(control, name, options.dump.tree)
        return stats

    rounds: list[Round] = (
        []
        if options.mode == "postcopy"
        else run_rounds(
            make,
            report,
            rounds=options.rounds,
            limit_ms=options.max_downtime_ms,
            tree=options.dump.tree,
        )
    )
    stats = dump(sender.begin(sets.FINAL), report, handover=handing)
    sender.count(stats)
    handing.conclude()
    if not options.lazy:
        sender.over()
    return MigrateResult(
        pid=options.dump.tree,
        mode=options.mode,
        rounds=len(rounds),
        pages=sender.nr_pages + handing.nr_late_bytes // PAGE,
        bytes=sender.nr_bytes + handing.nr_late_bytes,
        frozen_us=stats.frozen_us,
        downtime_us=handing.downtime_us,
        total_us=handing.total_us,
    )


def _scratch(ident: str) -> Path:
    """Where a folder may be made for images without pages, if it can be on a file system that has
    nothing to sync. Nobody can guess its name."""
    memory = "/dev/shm"
    return Path(memory if os.access(memory, os.W_OK) else gettempdir(), f"ckpt-migrate-{ident}")


class _Untrack:
    """Ends the tracking that only this migration needed, where the tree runs on here."""

    def __init__(self, pid: int, report: Report, *, needed: bool) -> None:
        self._pid = pid
        self._report = report
        self._needed = needed

    def say(self) -> None:
        try:
            self.quietly()
        except CkptError as error:
            self._report.warn(f"its writes are tracked on (ckpt untrack {self._pid}): {error}")

    def quietly(self) -> None:
        if self._needed and look(self._pid) is not None:
            end(self._pid)


def _control(options: MigrateOptions, ident: str, duty: SourceDuty) -> Stream:
    """The control connection, held by a messenger, when the other side would have the tree."""
    stream = connected(options.to, options.tls)
    try:
        hello.say_hello(stream, ident, _numbers(options.dump.tree), options.dump)
    except BaseException:
        stream.close()
        raise
    return messenger.start(stream, duty, ())


def _over(control: Stream) -> None:
    """Nothing is left for the messenger to do when we end."""
    try:
        wire.send(control, "over")
    except PeerError:
        return


def _data(options: MigrateOptions, ident: str) -> Stream:
    stream = connected(options.to, options.tls)
    try:
        wire.send(stream, hello.DATA, id=ident, numbers=sorted(_numbers(options.dump.tree)))
        wire.expect(stream, "welcome")
    except BaseException:
        stream.close()
        raise
    return stream


def _numbers(root: int) -> set[int]:
    """Of all tasks and threads, of their groups and sessions, as they are now."""
    found: set[int] = set()
    for task in tree(root):
        try:
            with ProcDir(task.pid) as proc:
                stat = parse_stat(proc.read("stat"))
                found.update((task.pid, stat.pgrp, stat.session, *proc.tids()))
        except TargetError:
            continue  # it has ended
    return found - {0}


def _fill(control: Stream, name: str, tree: int) -> None:
    """Have the destination put the pages of a round into place, and wait until it has."""
    outline = of_running(tree)
    if outline is None:
        return
    frame = wire.encode("fill", name=name, outline=outline)
    if len(frame) <= wire.MAX_HEAD:
        control.send([frame])
        wire.expect(control, "filled")


def _still_there(control: Stream) -> None:
    """Raises PeerError where the other side has said that it can't go on."""
    import select

    poll = select.poll()
    poll.register(control.fileno(), select.POLLIN)
    if poll.poll(0):
        wire.expect(control)


__all__ = ["MigrateResult", "Outcome", "migrate"]
