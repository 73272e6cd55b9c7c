"""A store: a folder of image sets, the generations of one tree, each restorable.

A generation's folder is named by its number and the instant that it holds, in UTC:
`000017-20261121T145433.123Z`. That name is all the index there is: it appears by one rename when
the set is whole, and so do all changes. What begins with a dot is not finished or not wanted any
more, and whoever owns the store removes it:

    .next      the generation that is being written
    .merge     a merged set that is being written, or the set that it has replaced
    .gone-*    generations that are being removed

Two locks (flock). `.owner` belongs to the one `ckpt snapshot` that writes here. The folder itself
is locked exclusively for the moment in which generations change places, and shared by those who
read one by number or time, until they have done so.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.errors import ImageError
from ckpt.images import directory as files_of
from ckpt.images.types import INVENTORY, PARENT_LINK, file_name
from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NEXT, MERGE, GONE, OWNER = ".next", ".merge", ".gone-", ".owner"
_NAME = re.compile(r"(\d{6,12})-(\d{8}T\d{6})\.(\d{3})Z", re.ASCII)
_ENDING_S = 10.0
_FORM = "%Y%m%dT%H%M%S"


@record(frozen=True)
class Generation:
    """One folder. `instant_ms`: of the wall clock, since 1970."""

    number: int
    instant_ms: int
    path: Path

    def __lt__(self, other: Generation) -> bool:
        return (self.number, self.instant_ms) < (other.number, other.instant_ms)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def instant(self) -> datetime:
        """In local time."""
        return datetime.fromtimestamp(self.instant_ms / 1000, UTC).astimezone()

    @property
    def parent(self) -> str:
        """The name of the generation that it builds on; empty for none."""
        try:
            return (self.path / PARENT_LINK).readlink().name
        except OSError:
            return ""


def name_of(number: int, instant_ms: int) -> str:
    """The name of a generation's folder."""
    seconds, ms = divmod(instant_ms, 1000)
    return f"{number:06}-{datetime.fromtimestamp(seconds, UTC).strftime(_FORM)}.{ms:03}Z"


def generation_at(path: Path) -> Generation | None:
    """None where the name is not that of one, or there is no whole set. A link is none."""
    match = _NAME.fullmatch(path.name)
    if not match or path.is_symlink() or not (path / file_name(INVENTORY)).is_file():
        return None
    try:
        instant = datetime.strptime(match[2], _FORM).replace(tzinfo=UTC)
    except ValueError:
        return None
    return Generation(int(match[1]), int(instant.timestamp()) * 1000 + int(match[3]), path)


def generations(store: Path) -> list[Generation]:
    """The oldest first. Raises ImageError if the store can't be read."""
    try:
        found = [generation_at(path) for path in store.iterdir()]
    except OSError as error:
        why = (error.strerror or "").lower()
        raise ImageError("can't be read as a store", resource=str(store), why=why) from error
    return sorted(one for one in found if one)


@record(frozen=True)
class Wanted:
    """Which generation: the newest, that of a number, or the newest that is not after an instant of
    the wall clock. At most one of the two is set."""

    number: int | None = None
    instant_ms: int | None = None


def pick(store: Path, wanted: Wanted) -> Generation:
    """Raises ImageError, telling what there is."""
    found = generations(store)
    if not found:
        raise ImageError("holds no generations", resource=str(store), hint="ckpt snapshot -D DIR")
    if wanted.number is not None:
        if chosen := [one for one in found if one.number == wanted.number]:
            return chosen[0]
        raise ImageError(
            f"has no generation {wanted.number}", resource=str(store), why=_range(found)
        )
    if wanted.instant_ms is None:
        return found[-1]
    if before := [one for one in found if one.instant_ms <= wanted.instant_ms]:
        return before[-1]
    raise ImageError(
        "has no generation of that time, or before", resource=str(store), why=_range(found)
    )


def _range(found: Sequence[Generation]) -> str:
    first, last = found[0], found[-1]
    return (
        f"it has {len(found)}, from {first.number} ({first.instant:%Y-%m-%d %H:%M:%S})"
        f" to {last.number} ({last.instant:%Y-%m-%d %H:%M:%S})"
    )


@contextmanager
def owned(store: Path) -> Iterator[None]:
    """Within it nobody else writes to the store. Raises ImageError if somebody does.

    An owner that was killed may have a child that is about to end: that one is waited for.
    """
    where = str(store / OWNER)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        lfd = os.open(where, flags, 0o600)
    except OSError as error:
        raise files_of.cannot_write(where, error) from error
    try:
        deadline = time.monotonic() + _ENDING_S
        while not _try_to_own(lfd):
            if _lives(os.pread(lfd, 32, 0)) or time.monotonic() > deadline:
                raise ImageError("another ckpt snapshot writes there", resource=str(store))
            time.sleep(0.01)
        os.ftruncate(lfd, 0)
        os.pwrite(lfd, b"%d" % os.getpid(), 0)
        yield
    finally:
        os.close(lfd)


def _try_to_own(lfd: int) -> bool:
    try:
        fcntl.flock(lfd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lives(pid: bytes) -> bool:
    """Whether there is such a process; one that has not written its number yet is there."""
    if not pid.isdigit():
        return True
    try:
        stat = Path(f"/proc/{int(pid)}/stat").read_bytes()
    except OSError:
        return False
    return stat[stat.rindex(b")") + 2 :][:1] not in b"ZX"


@contextmanager
def steady(store: Path, *, changing: bool = False) -> Iterator[None]:
    """Within it no generation changes its place or goes; `changing`: but by us, and nobody reads
    one by number or time. Waits for those who do."""
    lfd = files_of.open_directory(str(store))
    try:
        fcntl.flock(lfd, fcntl.LOCK_EX if changing else fcntl.LOCK_SH)
        yield
    finally:
        os.close(lfd)


def begin_next(store: Path) -> Path:
    """The empty folder for the next generation."""
    path = store / NEXT
    try:
        path.mkdir(mode=0o700)
    except OSError as error:
        raise files_of.cannot_write(str(path), error) from error
    return path


def publish(store: Path, number: int, instant_ms: int) -> Generation:
    """The set in `.next` is whole: from here on it is a generation. Durable when this returns."""
    path = store / name_of(number, instant_ms)
    try:
        (store / NEXT).rename(path)
    except OSError as error:
        raise files_of.cannot_write(str(path), error) from error
    sync(store)
    return Generation(number, instant_ms, path)


def recover(store: Path) -> None:
    """Finish or clear away what an owner left that was killed. A set that had become whole is a
    generation, of the time when it was written. Only for the owner."""
    complete = store / NEXT / file_name(INVENTORY)
    if complete.is_file() and not (store / NEXT).is_symlink():
        found = generations(store)
        number = found[-1].number + 1 if found else 1
        publish(store, number, complete.stat().st_mtime_ns // 1_000_000)
    clear(store)


def clear(store: Path) -> None:
    """Remove whatever is not finished or not wanted any more. Only for the owner."""
    for path in store.iterdir():
        if path.name in (NEXT, MERGE) or path.name.startswith(GONE):
            path.unlink() if path.is_symlink() else shutil.rmtree(path)


def sync(store: Path) -> None:
    """Bring changes of names to the disk."""
    lfd = files_of.open_directory(str(store))
    try:
        files_of.sync_one(lfd, str(store))
    finally:
        os.close(lfd)
