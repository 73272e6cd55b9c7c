"""Regular files, directories, symbolic links (O_PATH) and memory devices: all that is opened again
by its path.

The path is the one that /proc shows to us, and was compared with the file itself: a restore opens
what is there under this name then. Size and mode have to be what they were (CRIU's check), so that
nobody goes on in a file that somebody else replaced; only the size of a log (opened O_WRONLY and
O_APPEND) may differ.

Of the devices only those that hold no state are known: null, zero, full, random, urandom.

`--external file[MNT_ID:INODE]` (both hexadecimal): the file is not looked for; the restore is given
it by --inherit-fd under that name and opens it anew with the flags of the target. A descriptor that
--inherit-fd names by the path itself (without its first slash, CRIU's rule) is taken as it is.

Not kept: advice (posix_fadvise, write hints), who opened it (file systems that check a file's
opener at each access, such as NFS, see the controller's credentials).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.errors import ImageError, RestoreError
from ckpt.files.kind import DumpKind, FdType, Obstacle, RestoreKind
from ckpt.files.openflags import checked, open_as, shown
from ckpt.files.refused import path_obstacle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.restoring import RestoreView

_OPENED_BY_PATH = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK})
_DEVICES = frozenset(os.makedev(1, minor) for minor in (3, 5, 7, 8, 9))
_LONGEST_PATH = 4095
_NO_POSITION = 2**64 - 1


class RegularDump(DumpKind):
    """Also makes the entries that stand for the path of other kinds: see `add_path`."""

    type = FdType.REG

    def __init__(self, view: Any) -> None:
        super().__init__(view)
        self._held: list[tuple[Descriptor, int]] = []

    def claims(self, d: Descriptor) -> bool:
        kind = d.format
        if kind in _OPENED_BY_PATH or d.flags & os.O_PATH:
            return True
        return kind == stat.S_IFCHR and d.rdev in _DEVICES

    def obstacle(self, d: Descriptor) -> Obstacle | None:
        if self._external(d):
            return None
        return path_obstacle(d)

    def hold(self, d: Descriptor, file_id: int) -> None:
        self._held.append((d, file_id))

    def add_path(self, d: Descriptor) -> int:
        """The id of a new entry that keeps the path and flags of a FIFO or terminal."""
        file_id = self.view.next_id()
        self.hold(d, file_id)
        return file_id

    def entries(self) -> Iterator[Any]:
        for d, file_id in self._held:
            entry = self.entry(file_id)
            reg = entry.reg
            reg.id, reg.flags, reg.pos, reg.mode = file_id, d.flags, d.pos, d.mode
            reg.fown.CopyFrom(self.view.fown(d))
            if self._external(d):
                reg.name, reg.ext = external_name(d), True
            else:
                reg.name = d.path
            if d.format == stat.S_IFREG and not _is_log(d.flags):
                reg.size = d.size
            yield entry

    def _external(self, d: Descriptor) -> bool:
        wanted = self.view.options.external
        return bool(wanted) and external_name(d) in wanted


def _refuse_side_effects(path: str, name: str) -> None:
    """Opening a pipe can block, opening a device can do anything: what an image calls a file may be
    one by now, or have been one always."""
    found = Path(path).stat()
    kind = stat.S_IFMT(found.st_mode)
    if kind in _OPENED_BY_PATH or (kind == stat.S_IFCHR and found.st_rdev in _DEVICES):
        return
    raise RestoreError("is no file, directory or known device", resource=name)


def external_name(d: Descriptor) -> str:
    """The name of a file for --external."""
    return f"file[{d.mnt_id:x}:{d.ino:x}]"


def _move(lfd: int, pos: int) -> None:
    """Set the position. A directory is read once first: ext4 gives nothing at all from position 0
    on a description that was read at its end before it was ever read elsewhere."""
    if stat.S_ISDIR(os.fstat(lfd).st_mode):
        os.listdir(lfd)
    os.lseek(lfd, pos, os.SEEK_SET)


def _is_log(flags: int) -> bool:
    return bool(flags & os.O_APPEND) and flags & os.O_ACCMODE == os.O_WRONLY


class PathFile(NamedTuple):
    """A checked reg_file_entry. `flags` are fit for open(2)."""

    path: str
    flags: int
    pos: int
    size: int | None
    mode: int | None
    external: bool
    signum: int

    @property
    def resource(self) -> str:
        """What --inherit-fd calls it."""
        return self.path if self.external else self.path[1:]


class RegularRestore(RestoreKind):
    type = FdType.REG
    field = "reg"

    def __init__(self, view: RestoreView) -> None:
        super().__init__(view)
        self.files: dict[int, PathFile] = {}

    def take(self, file_id: int, message: Any) -> None:
        where = f"file {file_id:#x} of files.img"
        name: str = message.name
        external = bool(message.ext)
        if not name or "\0" in name or len(name.encode()) > _LONGEST_PATH:
            raise ImageError("has no path that can be", resource=where)
        if not external and not name.startswith("/"):
            raise ImageError(f"has a path that is not absolute: {name!r}", resource=where)
        pos = message.pos
        if pos >= 2**63 and pos != _NO_POSITION:
            raise ImageError(f"has position {pos:#x}, outside of any file", resource=where)
        self.files[file_id] = PathFile(
            name,
            checked(message.flags, where),
            pos,
            message.size if message.HasField("size") else None,
            message.mode if message.HasField("mode") else None,
            external,
            self.view.signum(message.fown, where),
        )

    def text(self, file_id: int) -> str:
        file = self.files[file_id]
        return f"open {file.path} {shown(file.flags)} at {file.pos if file.pos < 2**63 else 0}"

    def open(self, file_id: int) -> int:
        file = self.files[file_id]
        given = self.view.inherited(file.resource)
        if given is not None and not file.external:
            return given
        lfd = self.open_with(file_id, file.flags, given)
        try:
            seekable = stat.S_IFMT(os.fstat(lfd).st_mode) in _OPENED_BY_PATH
            if seekable and 0 < file.pos < 2**63 and not file.flags & os.O_PATH:
                _move(lfd, file.pos)
            self.view.set_signum(lfd, file.signum)
        except OSError as error:
            os.close(lfd)
            raise self._failed(file, f"can't be set to {file.pos}", error) from error
        except BaseException:
            os.close(lfd)
            raise
        return lfd

    def open_with(self, file_id: int, flags: int, given: int | None = None) -> int:
        """Open the file of an entry, but with `flags`, for a mapping or as a directory.

        `given` is consumed: our duplicate of what --inherit-fd gives for it.
        """
        file = self.files[file_id]
        self._refuse_remapped(file_id, file)
        path = file.path
        if file.external:
            given = self.view.inherited(file.resource) if given is None else given
            if given is None:
                raise RestoreError(
                    "is external, and nothing was given for it",
                    resource=file.path,
                    hint=f"--inherit-fd 'fd[N]:{file.path}' with N open in ckpt",
                )
            path = f"/proc/self/fd/{given}"
            flags &= ~os.O_NOFOLLOW
        try:
            if not flags & os.O_PATH:
                _refuse_side_effects(path, file.path)
            lfd = open_as(path, flags)
        except OSError as error:
            raise self._failed(file, "can't be opened", error) from error
        finally:
            if given is not None:
                os.close(given)
        try:
            if given is None:  # what was given stands in for the file, as it is
                self._compare(file, os.fstat(lfd))
        except BaseException:
            os.close(lfd)
            raise
        return lfd

    def _refuse_remapped(self, file_id: int, file: PathFile) -> None:
        if file_id in self.view.remapped:
            raise RestoreError(
                "had no name at the dump, and its contents are in the images",
                resource=file.path,
                why="such files are not restored yet",
            )

    def _compare(self, file: PathFile, found: os.stat_result) -> None:
        ignored = 0o777 if self.view.skip_file_rwx_check else 0
        if file.mode is not None and (found.st_mode ^ file.mode) & ~ignored:
            raise RestoreError(
                f"has mode {found.st_mode:#o}, at the dump it had {file.mode:#o}",
                resource=file.path,
                hint="put the file back as it was, or pass --skip-file-rwx-check",
            )
        if file.size is not None and found.st_size != file.size:
            raise RestoreError(
                f"has {found.st_size} bytes, at the dump it had {file.size}",
                resource=file.path,
                hint="put the file back as it was",
            )

    def _failed(self, file: PathFile, what: str, error: OSError) -> RestoreError:
        hint = "put the file back, or give another one with --inherit-fd"
        why = os.strerror(error.errno or 0)
        return RestoreError(what, resource=file.path, why=why, hint=hint)
