"""Terminals on the way into the images: pseudo terminals with both ends in the tree, or with the
master outside; consoles, virtual terminals and serial lines; /dev/tty; controlling terminals.

- A *master* in the tree makes its terminal the tree's: settings, size, what is on its way through
  it (ckpt.files.ttyqueue), session and foreground group are taken, and everything comes back.
- A *slave* whose master is outside belongs to somebody else, mostly to the shell that started the
  tree; only with `--shell-job`. Its settings are taken, as an editor needs them; what was typed
  and not read stays in the old terminal. Not where the leader of its session is in the tree: who
  restores could not give the tree his own terminal then, but another one (--external).
- A *console or line* (ckpt.files.ttydevice) is there without the tree and is opened again. One that
  controls a session that is led from outside is that job's terminal, as such a slave is.
- A slave that was *hung up* (its master closed, its session ended) has nothing but its number.
- */dev/tty* stands for the controlling terminal of who opened it, whichever it has now, or for one
  that is no session's any more (ckpt.files.devtty).
- `--external tty[RDEV:DEV]` (both hexadecimal) takes any terminal; a restore is given it by
  --inherit-fd under that name. A leader in the tree that it controls is controlled by the given one
  then, which must be free for that.

Everything but the queues is asked of duplicates. Refused: pseudo terminals of another devpts, a
master in packet mode that has not read the last change of state.

Not found out: whether somebody outside the tree holds a slave, too, of a master in the tree. Not
kept: what was written for a slave that nobody in the tree has open.

Source: tty_ioctl(4), pty(7), ioctl_tty(2); CRIU's criu/tty.c for ids and meaning of tty-info.img.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.errors import Refusal
from ckpt.files import ttydevice, ttystate
from ckpt.files.kind import DumpKind, FdType, Obstacle
from ckpt.files.openflags import open_as
from ckpt.files.ptmx import PTS
from ckpt.files.regular import RegularDump
from ckpt.files.ttyimage import CTTY, DEV_TTY, EXT_TTY, PTMX, PTS_MAJORS, PTY, Info
from ckpt.files.ttyqueue import Pair, Queues, may_hold, take_and_put_back
from ckpt.files.ttysession import leader, lost_leaders, session_on
from ckpt.procfs.tty import pts_index, tty_nr

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView
    from ckpt.procfs.stat import Stat

_KNOWN = frozenset({DEV_TTY, PTMX})
_EXTERNAL_ID = 1008 << 1
_FIRST_OWN_ID = 1 << 17
_CTTY_IDS = (1006 << 1, *range(1012 << 1, 1024 << 1, 2))
_INDEX = re.compile(rb"^tty-index:\s*([0-9]+)$", re.MULTILINE)


def external_name(d: Descriptor) -> str:
    """The name of a terminal for --external."""
    return f"tty[{d.rdev:x}:{d.dev:x}]"


def _elsewhere(d: Descriptor) -> str:
    """The advice to give another one."""
    return f"--external '{external_name(d)}' and, at restore, --inherit-fd"


def _pts_number(rdev: int) -> int:
    return os.minor(rdev) + (os.major(rdev) - PTS_MAJORS.start << 20)


def _seen_index(d: Descriptor) -> int | None:
    """The number of a master's terminal, by its fdinfo; None where this kernel doesn't tell."""
    found = _INDEX.search(d.info)
    return int(found[1]) if found else None


class _Held(NamedTuple):
    d: Descriptor
    file_id: int


class TtyDump(DumpKind):
    type = FdType.TTY

    def __init__(self, view: DumpView) -> None:
        super().__init__(view)
        self._held: list[_Held] = []
        self._paths: dict[int, int] = {}
        self._infos: list[Info] = []
        self._info_of: dict[int, int] = {}
        self._masters: dict[int, _Held] = {}
        self._slaves: dict[int, list[_Held]] = {}
        self._devices: dict[int, int] = {}

    def claims(self, d: Descriptor) -> bool:
        if d.format != stat.S_IFCHR or d.flags & os.O_PATH:
            return False
        known = d.rdev in _KNOWN or os.major(d.rdev) in PTS_MAJORS
        return known or ttydevice.type_of(d.rdev) is not None

    def obstacle(self, d: Descriptor) -> Obstacle | None:
        if self._external(d) or d.rdev == DEV_TTY:
            return None
        if d.rdev == PTMX:
            same = d.named and d.link in ("/dev/ptmx", f"{PTS}/ptmx")
        elif os.major(d.rdev) in PTS_MAJORS:
            same = d.dev == os.stat(PTS).st_dev  # noqa: PTH116
        elif d.named:
            return None
        else:
            why = "a console or serial line without a path is not restored"
            return Obstacle(why, _elsewhere(d))
        return None if same else Obstacle("a pseudo terminal of another devpts is not restored yet")

    def together(
        self, descriptors: Sequence[Descriptor], stats: Mapping[int, Stat]
    ) -> Iterator[Refusal]:
        """Before the freeze: which masters there are is seen, who opened /dev/tty is assumed."""
        own = [d for d in descriptors if not self._external(d)]
        given = self._seen_given(descriptors, stats)
        masters = {_seen_index(d) for d in own if d.rdev == PTMX}
        if None in masters:
            return
        for d in own:
            if ttydevice.type_of(d.rdev) is not None:
                number = tty_nr(d.rdev)
                if session_on(stats, number) and not leader(stats, number, given):
                    yield from self._outside(d)
                continue
            if os.major(d.rdev) in PTS_MAJORS and not d.deleted:
                index: int | None = _pts_number(d.rdev)
            elif d.rdev == DEV_TTY and stats[d.pid].tty_nr:
                if leader(stats, stats[d.pid].tty_nr, given):
                    continue
                index = pts_index(stats[d.pid].tty_nr)
            else:
                continue
            if index not in masters:
                yield from self._outside(d)
        yield from lost_leaders(stats, masters, given)

    def _seen_given(self, descriptors: Sequence[Descriptor], stats: Mapping[int, Stat]) -> set[int]:
        """What can be given to a session, as far as it is seen before the freeze."""
        lasting = [d for d in descriptors if self._external(d) or ttydevice.type_of(d.rdev)]
        given = {tty_nr(d.rdev) for d in lasting}
        if any(ttydevice.stands_for_another(d.rdev) for d in lasting):
            others = {s.tty_nr & 0xFFFF_FFFF for s in stats.values()}
            given |= {number for number in others if pts_index(number) is None}
        return given

    def _outside(self, d: Descriptor) -> Iterator[Refusal]:
        if not self.view.options.shell_job:
            hint = f"--shell-job, or {_elsewhere(d)}"
            yield Refusal(d.pid, str(d), "a terminal outside the tree", hint)

    def hold(self, d: Descriptor, file_id: int) -> None:
        self._held.append(_Held(d, file_id))
        if not self._external(d):
            # A slave that was hung up has lost its name.
            self._paths[file_id] = self.view.kind(RegularDump).add_path(
                d._replace(link=d.path, named=True)
            )

    def settle(self) -> Iterable[Refusal]:
        found = list(self._settle_all())
        if not found:
            self._take_queues()
        return found

    def _settle_all(self) -> Iterator[Refusal]:
        """Masters first: they tell which terminals are the tree's."""
        stats = self.view.stats
        for held in self._held:
            if held.d.rdev == PTMX and not self._external(held.d):
                index = ttystate.ask(self.view.duplicate(held.d), ttystate.TIOCGPTN)
                self._masters[index] = held
            elif ttydevice.type_of(held.d.rdev) is not None and not self._external(held.d):
                yield from self._ask_device(held)
        for held in self._held:
            if self._external(held.d):
                self._settle_external(held, stats)
            elif held.file_id in self._devices:
                yield from self._settle_device(held, stats)
            elif held.d.rdev == DEV_TTY or os.major(held.d.rdev) in PTS_MAJORS:
                yield from self._settle_slave(held, stats)
        yield from lost_leaders(stats, self._masters, self._given())
        for index in self._masters:
            yield from self._settle_master(index)

    def _given(self) -> set[int]:
        """Terminals that are there without the tree, as stat names them."""
        external = {tty_nr(held.d.rdev) for held in self._held if self._external(held.d)}
        return external.union(self._devices.values())

    def _ask_device(self, held: _Held) -> Iterator[Refusal]:
        lfd, kind = self.view.duplicate(held.d), ttydevice.type_of(held.d.rdev)
        if why := ttydevice.obstacle(lfd, kind or 0):
            yield Refusal(held.d.pid, str(held.d), why, _elsewhere(held.d))
        else:
            self._devices[held.file_id] = ttystate.ask(lfd, ttystate.TIOCGDEV) & 0xFFFF_FFFF

    def _settle_device(self, held: _Held, stats: Mapping[int, Stat]) -> Iterator[Refusal]:
        d, number = held.d, self._devices[held.file_id]
        kind = ttydevice.type_of(d.rdev) or 0
        sid = session_on(stats, number)
        pgrp = 0
        if sid and leader(stats, number, self._given()):
            pgrp = max(0, stats[sid].tpgid)
        elif sid:
            yield from self._all_outside(held)
        info = Info(kind, self._settings(d), sid=sid, pgrp=pgrp)
        self._add(held, info, self._number(held, kind, ttydevice.FIRST_IDS[kind]))

    def _number(self, held: _Held, kind: int, first: int) -> int:
        """The id of a terminal's message. CRIU has one for a kind: the first one gets it."""
        d = held.d
        known = {(i.rdev, i.dev): i.id for i in self._infos if i.type == kind}
        own = _FIRST_OWN_ID + 2 * held.file_id
        return known.get((d.rdev, d.dev), own) if known else first

    def _settle_external(self, held: _Held, stats: Mapping[int, Stat]) -> None:
        d = held.d
        sid = leader(stats, tty_nr(d.rdev), {tty_nr(d.rdev)})
        pgrp = max(0, stats[sid].tpgid) if sid else 0
        info = Info(EXT_TTY, self._settings(d), sid=sid, pgrp=pgrp)
        self._add(held, info, self._number(held, EXT_TTY, _EXTERNAL_ID))

    def _external(self, d: Descriptor) -> bool:
        return external_name(d) in self.view.options.external

    def _all_outside(self, held: _Held) -> Iterator[Refusal]:
        for same, file_id in self.view.described:
            if file_id == held.file_id:
                yield from self._outside(same)

    def _settle_slave(self, held: _Held, stats: Mapping[int, Stat]) -> Iterator[Refusal]:
        d = held.d
        lfd = self.view.duplicate(d)
        try:
            device = ttystate.ask(lfd, ttystate.TIOCGDEV) & 0xFFFF_FFFF
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self._add_hung_up(held)
            return
        if ttystate.has_discipline(lfd):
            yield Refusal(d.pid, str(d), ttystate.DISCIPLINE, "close it before the dump")
            return
        if d.rdev == DEV_TTY and (sid := leader(stats, device, self._given())):
            self._add_session(held, sid)
            return
        index = pts_index(device)
        inside = index in self._masters
        if index is None or not inside:
            yield from self._all_outside(held)
        else:
            self._slaves.setdefault(index, []).append(held)
        if index is not None and d.rdev != DEV_TTY:
            self._add(
                held, Info(PTY, self._settings(d), number=index), _pty_id(index, master=False)
            )
            return
        sid = session_on(stats, device) if inside else 0
        if inside and not sid:
            lost = Info(CTTY, self._settings(d), number=index or 0, lost=True)
            self._add(held, lost, _FIRST_OWN_ID + 2 * held.file_id)
        else:
            self._add_session(held, sid)

    def _add_session(self, held: _Held, sid: int) -> None:
        """/dev/tty of a session."""
        known = {info.id for info in self._infos if info.type == CTTY and info.sid != sid}
        number = next((i for i in _CTTY_IDS if i not in known), _FIRST_OWN_ID + 2 * held.file_id)
        self._add(held, Info(CTTY, self._settings(held.d), sid=sid), number)

    def _add_hung_up(self, held: _Held) -> None:
        """Not under the id of its terminal, which may have been opened anew since."""
        info = Info(CTTY, None)
        if held.d.rdev != DEV_TTY:
            info = Info(PTY, None, number=_pts_number(held.d.rdev))
        self._add(held, info, _FIRST_OWN_ID + 2 * held.file_id)

    def _settle_master(self, index: int) -> Iterator[Refusal]:
        held = self._masters[index]
        lfd = self.view.duplicate(held.d)
        if ttystate.has_news(lfd):
            why = "it has not read a change of state yet (packet mode)"
            yield Refusal(held.d.pid, str(held.d), why, "dump it once more")
        slave = None
        with suppress(OSError):
            slave = os.stat(f"{PTS}/{index}")  # noqa: PTH116
        info = Info(
            PTY,
            self._settings(held.d),
            number=index,
            sid=ttystate.ask_if(lfd, ttystate.TIOCGSID),
            pgrp=ttystate.ask_if(lfd, termios.TIOCGPGRP),
            locked=bool(ttystate.ask(lfd, ttystate.TIOCGPTLCK)),
            packets=bool(ttystate.ask(lfd, ttystate.TIOCGPKT)),
            left=ttystate.is_left(lfd),
            node=(slave.st_uid, slave.st_gid, stat.S_IMODE(slave.st_mode)) if slave else None,
        )
        self._add(held, info, _pty_id(index, master=True))

    def _settings(self, d: Descriptor) -> ttystate.Whole:
        return ttystate.Whole.of(self.view.duplicate(d))

    def _add(self, held: _Held, info: Info, number: int) -> None:
        self._info_of[held.file_id] = number
        if all(known.id != number for known in self._infos):
            self._infos.append(info._replace(id=number, rdev=held.d.rdev, dev=held.d.dev))

    def _take_queues(self) -> None:
        """One child for all terminals, if any has to be looked into."""
        slaves: dict[int, int] = {}
        try:
            for index in self._masters:
                if (slave := self._open_slave(index)) >= 0:
                    slaves[index] = slave
            pairs = {
                index: pair
                for index, slave in slaves.items()
                if may_hold(pair := Pair(self.view.duplicate(self._masters[index].d), slave))
            }
            if pairs:
                found = take_and_put_back(list(pairs.values()))
                self._note(dict(zip(pairs, found, strict=True)))
        finally:
            for slave in slaves.values():
                os.close(slave)

    def _open_slave(self, index: int) -> int:
        """One of ours to read and write; -1 where there was none yet: the master would see that one
        came and went."""
        if index not in self._slaves and not ttystate.is_left(
            self.view.duplicate(self._masters[index].d)
        ):
            return -1
        try:
            return open_as(f"{PTS}/{index}", os.O_RDWR | os.O_NONBLOCK)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            self.view.report.warn(f"{PTS}/{index}: what is on its way is not dumped: {why}")
            return -1

    def _note(self, queues: Mapping[int, Queues]) -> None:
        known = {info.id for info in self._infos}
        for at, info in enumerate(list(self._infos)):
            if info.master and info.number in queues:
                now = self._infos[at] = info._replace(**queues[info.number]._asdict())
                if (now.lines or now.rest) and info.id & ~1 not in known:
                    # The slave is open as /dev/tty only; its input belongs to somebody.
                    rdev = os.makedev(PTS_MAJORS.start, info.number)
                    self._infos.append(
                        Info(PTY, info.whole, info.id & ~1, rdev, number=info.number)
                    )

    def entries(self) -> Iterator[Any]:
        for d, file_id in self._held:
            entry = self.entry(file_id)
            tty = entry.tty
            tty.id, tty.tty_info_id, tty.flags = file_id, self._info_of[file_id], d.flags
            tty.fown.CopyFrom(self.view.fown(d))
            if file_id in self._paths:
                tty.regf_id = self._paths[file_id]
            yield entry

    def images(self) -> dict[str, Sequence[Any]]:
        if not self._infos:
            return {}
        images: dict[str, Sequence[Any]] = {"tty-info": [i.message() for i in self._infos]}
        if data := [m for i in self._infos for m in i.data_messages()]:
            images["tty-data"] = data
        if own := [m for i in self._infos if (m := i.own_message()) is not None]:
            images["ckpt-tty"] = own
        return images


def _pty_id(index: int, *, master: bool) -> int:
    """CRIU's id, twice the number and one more for a master, where CRIU allows the number; above
    it has ids for other kinds."""
    number = index if index <= 1000 else index + (_FIRST_OWN_ID << 4)
    return (number << 1) + master
