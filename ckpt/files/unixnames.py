"""Names of UNIX sockets: in the file system, and abstract.

A name in the file system is what was given to bind(2), which may be relative to a working directory
of long ago, and a file: SIOCUNIXFILE leads to that, whether its name is still there or not. Servers
that replace one another bind to a name of their own and rename the file (haproxy): getsockname(2)
goes on telling the first name.

Restore: the file that a killed tree has left is replaced, for nobody is bound to it. Anything else
that is there stays, and the restore fails. bind(2) is called by a child of ours, whose umask and
working directory are its own. What was made by a restore that fails is removed again.

Not restored: names that lead elsewhere than to their file (through another root, or ".."), renamed
ones whose first name is taken, or on another file system.

Source: unix(7), unix_bind() of net/unix/af_unix.c.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.errors import ImageError, RestoreError
from ckpt.files import unixdiag
from ckpt.files.sockqueue import borrowed
from ckpt.images.text import get_text

if TYPE_CHECKING:
    from collections.abc import Container

_SIOCUNIXFILE = 0x89E0
_LONGEST = 108
_LONGEST_PATH = 4096
_DELETED = " (deleted)"


class Name(NamedTuple):
    """`raw` as getsockname(2) tells it. `folder`: what a relative one is relative to. `file`: mode,
    uid and gid of the file, None for an abstract name. `moved`: the path of a file that was renamed
    since."""

    raw: bytes
    folder: str = ""
    deleted: bool = False
    file: tuple[int, int, int] | None = None
    moved: str = ""

    @property
    def given(self) -> bytes:
        """What is to be given to bind(2)."""
        return self.raw if self.raw.startswith(b"\0") else self.raw.partition(b"\0")[0]

    @property
    def path(self) -> str:
        return os.path.join(self.folder, os.fsdecode(self.given))  # noqa: PTH118 (no Path in a freeze)

    @property
    def at(self) -> str:
        """Where the file is once all is done; of a removed one, where it was bound."""
        return self.moved or self.path

    def __str__(self) -> str:
        if self.raw.startswith(b"\0"):
            return "@" + self.raw[1:].decode("ascii", "backslashreplace")
        return self.path


def find(lfd: int, raw: bytes) -> Name:
    """The name of a bound socket of the target. Raises ValueError where it can't be restored."""
    if raw.startswith(b"\0"):
        return Name(raw)
    try:
        file = fcntl.ioctl(lfd, _SIOCUNIXFILE, 0)
    except OSError as error:
        raise ValueError(f"the file of its name can't be asked for: {error.strerror}") from error
    try:
        link = os.readlink(f"/proc/self/fd/{file}")  # noqa: PTH115 (a Path changes the text)
        seen = os.fstat(file)
    finally:
        os.close(file)
    given = os.fsdecode(raw.partition(b"\0")[0])
    deleted = not _is_at(link, seen)
    path = link.removesuffix(_DELETED) if deleted else link
    folder = ""
    if not given.startswith("/"):
        if path.endswith("/" + given):
            folder = path.removesuffix("/" + given) or "/"
        elif "/" in given:
            raise ValueError(f"its relative name {given} does not lead to {path}")
        else:
            folder = os.path.dirname(path)  # noqa: PTH120 (no Path in a freeze)
    name = Name(raw, folder, deleted, (stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid))
    if name.path == path or (not deleted and _is_at(name.path, seen)):
        return name
    if not _can_be_renamed(name.path, path):
        raise ValueError(f"its name {given} does not lead to {path}")
    return name if deleted else name._replace(moved=path)


def _can_be_renamed(first: str, path: str) -> bool:
    """Whether a socket bound to the one could be brought to the other."""
    folders = [os.path.dirname(p) for p in (first, path)]  # noqa: PTH120 (no Path in a freeze)
    try:
        one, other = (os.stat(folder) for folder in folders)  # noqa: PTH116
    except OSError:
        return False
    return one.st_dev == other.st_dev and not os.path.lexists(first)


def _is_at(path: str, seen: os.stat_result) -> bool:
    try:
        there = os.stat(path)  # noqa: PTH116 (no Path in a freeze)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (seen.st_dev, seen.st_ino)


def write(name: Name, usk: Any) -> None:
    """Into a unix_sk_entry."""
    usk.name = name.raw
    if name.folder:
        usk.name_dir = name.folder
    if name.file is not None:
        usk.file_perms.mode, usk.file_perms.uid, usk.file_perms.gid = name.file
        if name.deleted:
            usk.deleted = True


def read(usk: Any, where: str) -> Name | None:
    """Of a unix_sk_entry, checked. None: it has none."""
    raw = usk.name
    if not raw:
        return None
    if len(raw) > _LONGEST:
        raise ImageError(f"has a name of {len(raw)} bytes", resource=where)
    if raw.startswith(b"\0"):
        return Name(raw)
    given, _, rest = raw.partition(b"\0")
    folder = get_text(usk, "name_dir")
    if rest.strip(b"\0") or "\0" in folder:
        raise ImageError("has a name with a zero byte in it", resource=where)
    if given.startswith(b"/"):
        folder = ""
    elif not folder.startswith("/"):
        raise ImageError("has a relative name, relative to nothing", resource=where)
    p = usk.file_perms
    file = (p.mode & 0o7777, p.uid, p.gid) if usk.HasField("file_perms") else (0o755, 0, 0)
    return Name(given + b"\0", folder, usk.deleted, file)


def read_moved(name: Name | None, moved: bytes, where: str) -> Name:
    """The name, of a socket whose file was renamed to `moved`, checked."""
    fits = moved.startswith(b"/") and b"\0" not in moved and len(moved) < _LONGEST_PATH
    if name is None or name.file is None or name.deleted or not fits:
        raise ImageError("has a name that can't have been renamed", resource=where)
    return name._replace(moved=os.fsdecode(moved))


class Binder:
    """Gives names to the sockets of one restore."""

    def __init__(self) -> None:
        self._made: list[str] = []
        self._bound: Container[int] | None = None

    def bind(self, lfd: int, name: Name) -> None:
        """Raises RestoreError, OSError."""
        if name.file is None:
            with borrowed(lfd) as sock:
                sock.bind(name.given)
            return
        self._clear(name.path, ours=not (name.deleted or name.moved))
        if name.moved:
            self._clear(name.moved, ours=True)
        _bind_apart(lfd, name)
        self._made.append(name.path)
        if name.moved:
            Path(name.path).rename(name.moved)
            self._made[-1] = name.moved
        file = file_of(lfd)
        try:
            mode, uid, gid = name.file
            os.chown(f"/proc/self/fd/{file}", uid, gid)
            os.chmod(f"/proc/self/fd/{file}", mode)  # noqa: PTH101
        finally:
            os.close(file)

    def unlink(self, name: Name) -> None:
        """Remove the file of a bound socket again."""
        Path(name.at).unlink()
        self._made.remove(name.at)

    def _clear(self, path: str, *, ours: bool) -> None:
        """Remove what the dumped socket has left, if it was its file that was there."""
        try:
            there = os.lstat(path)
        except FileNotFoundError:
            return
        if self._bound is None:
            self._bound = unixdiag.bound_files()
        if stat.S_ISSOCK(there.st_mode) and there.st_ino & 0xFFFF_FFFF in self._bound:
            why = "a socket of another process is bound to it"
        elif not stat.S_ISSOCK(there.st_mode) or not ours:
            why = "something else is there"
        else:
            Path(path).unlink()
            return
        raise RestoreError(
            "is the name of a UNIX socket, but taken",
            resource=path,
            why=why,
            hint="end that process, or remove the file",
        )

    def keep(self) -> None:
        """The restore has succeeded."""
        self._made.clear()

    def undo(self) -> None:
        """Remove what was made, unless it was kept."""
        made, self._made = self._made, []
        for path in made:
            Path(path).unlink(missing_ok=True)


def _bind_apart(lfd: int, name: Name) -> None:
    pid = os.fork()
    if pid == 0:
        code = errno.EIO
        try:
            os.umask(0o777)
            os.chdir(name.folder or "/")
            with borrowed(lfd) as sock:
                sock.bind(name.given)
            code = 0
        except OSError as error:
            code = error.errno or errno.EIO
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise RestoreError(
            "can't be bound again",
            resource=name.path,
            why=os.strerror(code) if code > 0 else "",
            hint="its folder must be there",
        )


def file_of(lfd: int) -> int:
    """An O_PATH descriptor of the file that a socket is bound to, the caller's."""
    return int(fcntl.ioctl(lfd, _SIOCUNIXFILE, 0))
