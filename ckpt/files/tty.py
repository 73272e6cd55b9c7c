"""Terminals on the way into the images: pseudo terminals with both ends in the tree, or with the
master outside; /dev/tty; controlling terminals.

- A *master* in the tree makes its terminal the tree's: settings, size, what is on its way through
  it (ckpt.files.ttyqueue), session and foreground group are taken, and everything comes back.
- A *slave* whose master is outside belongs to somebody else, mostly to the shell that started the
  tree; only with `--shell-job`. Its settings are taken, as an editor needs them; what was typed
  and not read stays in the old terminal. Not where the leader of its session is in the tree: who
  restores could not give the tree his own terminal then, but another one (--external).
- A slave that was *hung up* (its master closed, its session ended) has nothing but its number.
- */dev/tty* stands for the controlling terminal of who opened it, whichever it has now.
- `--external tty[RDEV:DEV]` (both hexadecimal) takes any terminal; a restore is given it by
  --inherit-fd under that name. A leader in the tree that it controls is controlled by the given one
  then, which must be free for that.

Everything but the queues is asked of duplicates. Refused: consoles, serial lines, pseudo terminals
of another devpts, a master in packet mode that has not read the last change of state.

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
from ckpt.files import ttystate
from ckpt.files.kind import DumpKind, FdType, Obstacle
from ckpt.files.openflags import open_as
from ckpt.files.ptmx import PTS
from ckpt.files.regular import RegularDump
from ckpt.files.ttyimage import CTTY, DEV_TTY, EXT_TTY, PTMX, PTS_MAJORS, PTY, Info
from ckpt.files.ttyqueue import Pair, Queues, may_hold, take_and_put_back
from ckpt.procfs.tty import pts_index, tty_nr

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView
    from ckpt.procfs.stat import Stat

_MAJORS = frozenset({4, 204, *PTS_MAJORS})
_KNOWN = frozenset({DEV_TTY, PTMX, os.makedev(5, 1)})
_EXTERNAL_ID = 1008 << 1
_FIRST_OWN_ID = 1 << 17
_CTTY_IDS = (1006 << 1, *range(1010 << 1, 1024 << 1, 2))
_INDEX = re.compile(rb"^tty-index:\s*([0-9]+)$", re.MULTILINE)
_LEADER_REFUSED = (
    "its leader is in the tree and has a controlling terminal whose other end is outside",
    "dump a tree that holds what made the terminal, or the job without its shell; or give it "
    "another terminal at restore (--external 'tty[RDEV:DEV]')",
)


def external_name(d: Descriptor) -> str:
    """The name of a terminal for --external."""
    return f"tty[{d.rdev:x}:{d.dev:x}]"


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

    def claims(self, d: Descriptor) -> bool:
        if d.format != stat.S_IFCHR or d.flags & os.O_PATH:
            return False
        return os.major(d.rdev) in _MAJORS or d.rdev in _KNOWN

    def obstacle(self, d: Descriptor) -> Obstacle | None:
        if self._external(d) or d.rdev == DEV_TTY:
            return None
        if d.rdev == PTMX:
            same = d.named and d.link in ("/dev/ptmx", f"{PTS}/ptmx")
        elif os.major(d.rdev) in PTS_MAJORS:
            same = d.dev == os.stat(PTS).st_dev  # noqa: PTH116
        else:
            name = f"a console or serial line ({os.major(d.rdev)}:{os.minor(d.rdev)})"
            hint = f"--external '{external_name(d)}' and, at restore, --inherit-fd"
            return Obstacle(f"{name} is not restored yet", hint)
        return None if same else Obstacle("a pseudo terminal of another devpts is not restored yet")

    def together(
        self, descriptors: Sequence[Descriptor], stats: Mapping[int, Stat]
    ) -> Iterator[Refusal]:
        """Before the freeze: which masters there are is seen, who opened /dev/tty is assumed."""
        own = [d for d in descriptors if not self._external(d)]
        given = {tty_nr(d.rdev) for d in descriptors if self._external(d)}
        masters = {_seen_index(d) for d in own if d.rdev == PTMX}
        if None in masters:
            return
        for d in own:
            if os.major(d.rdev) in PTS_MAJORS and not d.deleted:
                index: int | None = _pts_number(d.rdev)
            elif d.rdev == DEV_TTY and stats[d.pid].tty_nr:
                if _leader(stats, stats[d.pid].tty_nr, given):
                    continue
                index = pts_index(stats[d.pid].tty_nr)
            else:
                continue
            if index not in masters:
                yield from self._outside(d)
        yield from _leaders(stats, masters, given)

    def _outside(self, d: Descriptor) -> Iterator[Refusal]:
        if not self.view.options.shell_job:
            hint = f"--external '{external_name(d)}' and, at restore, --inherit-fd"
            yield Refusal(d.pid, str(d), "a terminal outside the tree", f"--shell-job, or {hint}")

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
        for held in self._held:
            if self._external(held.d):
                self._settle_external(held, stats)
            elif held.d.rdev != PTMX:
                yield from self._settle_slave(held, stats)
        yield from _leaders(stats, self._masters, self._given())
        for index in self._masters:
            yield from self._settle_master(index)

    def _given(self) -> set[int]:
        """External terminals, as stat names them."""
        return {tty_nr(held.d.rdev) for held in self._held if self._external(held.d)}

    def _settle_external(self, held: _Held, stats: Mapping[int, Stat]) -> None:
        d = held.d
        sid = _leader(stats, tty_nr(d.rdev), {tty_nr(d.rdev)})
        pgrp = max(0, stats[sid].tpgid) if sid else 0
        known = {(i.rdev, i.dev): i.id for i in self._infos if i.type == EXT_TTY}
        number = known.get((d.rdev, d.dev), _FIRST_OWN_ID + 2 * held.file_id)
        info = Info(EXT_TTY, self._settings(d), sid=sid, pgrp=pgrp)
        self._add(held, info, number if known else _EXTERNAL_ID)

    def _external(self, d: Descriptor) -> bool:
        return external_name(d) in self.view.options.external

    def _settle_slave(self, held: _Held, stats: Mapping[int, Stat]) -> Iterator[Refusal]:
        d = held.d
        lfd = self.view.duplicate(d)
        try:
            device = ttystate.ask(lfd, ttystate.TIOCGDEV) & 0xFFFF_FFFF
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            yield from self._settle_hung_up(held)
            return
        if d.rdev == DEV_TTY and (sid := _leader(stats, device, self._given())):
            self._add_session(held, sid)
            return
        index = pts_index(device)
        if index is None:
            yield Refusal(
                d.pid, str(d), "a /dev/tty that is no pseudo terminal is not restored yet"
            )
            return
        inside = index in self._masters
        if not inside:
            for same, file_id in self.view.described:
                if file_id == held.file_id:
                    yield from self._outside(same)
        else:
            self._slaves.setdefault(index, []).append(held)
        if d.rdev != DEV_TTY:
            self._add(
                held, Info(PTY, self._settings(d), number=index), _pty_id(index, master=False)
            )
            return
        sid = 0
        if inside:
            sid = next((s.session for s in stats.values() if pts_index(s.tty_nr) == index), 0)
            if not sid:
                why = "a /dev/tty of a terminal that is no controlling terminal any more"
                yield Refusal(d.pid, str(d), why, "close it before the dump")
        self._add_session(held, sid)

    def _add_session(self, held: _Held, sid: int) -> None:
        """/dev/tty of a session."""
        known = {info.id for info in self._infos if info.type == CTTY and info.sid != sid}
        number = next((i for i in _CTTY_IDS if i not in known), _FIRST_OWN_ID + 2 * held.file_id)
        self._add(held, Info(CTTY, self._settings(held.d), sid=sid), number)

    def _settle_hung_up(self, held: _Held) -> Iterator[Refusal]:
        d = held.d
        if d.rdev == DEV_TTY:
            why = "a /dev/tty that was hung up is not restored yet"
            yield Refusal(d.pid, str(d), why, "close it before the dump")
            return
        # Not the id of its terminal, which may have been opened anew since.
        self._add(
            held, Info(PTY, None, number=_pts_number(d.rdev)), _FIRST_OWN_ID + 2 * held.file_id
        )

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


def _leader(stats: Mapping[int, Stat], number: int, given: Container[int]) -> int:
    """Who in the tree leads the session of the terminal `number`, if that is `given`; or 0."""
    number &= 0xFFFF_FFFF
    if not number or number not in given:
        return 0
    leaders = (p for p, s in stats.items() if s.session == p and s.tty_nr & 0xFFFF_FFFF == number)
    return next(leaders, 0)


def _leaders(
    stats: Mapping[int, Stat], masters: Iterable[int | None], given: Container[int]
) -> Iterator[Refusal]:
    """Leaders of sessions whose controlling terminal nobody could give them again."""
    known = set(masters)
    for pid, seen in stats.items():
        if not seen.tty_nr or seen.session != pid or _leader(stats, seen.tty_nr, given):
            continue
        if pts_index(seen.tty_nr) not in known:
            yield Refusal(pid, f"session {pid}", *_LEADER_REFUSED)
