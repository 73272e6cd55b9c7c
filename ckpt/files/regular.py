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

A file of /proc that tells of a task of the tree is opened when there are tasks
(ckpt.files.procfile).

Not kept: advice (posix_fadvise, write hints), who opened it (file systems that check a file's
opener at each access, such as NFS, see the controller's credentials).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.errors import ImageError, Refusal, RestoreError
from ckpt.files import ghost, links, procfile
from ckpt.files.buildid import LONGEST, build_id_of, from_words, to_words
from ckpt.files.ghost import DEVICES, Ghosts, is_ghost
from ckpt.files.kind import DumpKind, FdType, Obstacle, RestoreKind, Stage
from ckpt.files.links import Links, is_linked
from ckpt.files.openflags import O_TMPFILE_ALONE, checked, open_as, shown
from ckpt.files.refused import path_obstacle, refuse_lost
from ckpt.files.remapped import Remapped
from ckpt.images.text import get_text

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.restoring import RestoreView

_OPENED_BY_PATH = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK})
_LONGEST_PATH = 4095
_NO_POSITION = 2**64 - 1


class RegularDump(DumpKind):
    """Also makes the entries that stand for the path of other kinds: see `add_path`."""

    type = FdType.REG

    def __init__(self, view: Any) -> None:
        super().__init__(view)
        self._held: list[tuple[Descriptor, int, str]] = []
        self._ghosts = Ghosts(view)
        self.links = Links(view)

    def claims(self, d: Descriptor) -> bool:
        kind = d.format
        if kind in _OPENED_BY_PATH or d.flags & os.O_PATH:
            return True
        return kind == stat.S_IFCHR and d.rdev in DEVICES

    def obstacle(self, d: Descriptor) -> Obstacle | None:
        if self._external(d):
            return None
        if procfile.tells_of_task(d):
            return procfile.obstacle(d)
        return self.path_obstacle(d)

    def path_obstacle(self, d: Descriptor, source: str = "") -> Obstacle | None:
        """Why a file can't be had again. `source` leads to it where no descriptor does."""

        def lost(d: Descriptor) -> Obstacle | None:
            if is_ghost(d):
                return ghost.obstacle(d, self.view.options.ghost_limit, source)
            if is_linked(d):
                return links.obstacle(d, link_remap=self.view.options.link_remap)
            return refuse_lost(d)

        return path_obstacle(d, lost)

    def hold(self, d: Descriptor, file_id: int) -> None:
        self._held.append((d, file_id, ""))

    def add_path(self, d: Descriptor, source: str = "") -> int:
        """The id of a new entry that keeps the path and flags of a FIFO or terminal, or of what is
        open without a descriptor: `source` leads to it then."""
        file_id = self.view.next_id()
        self._held.append((d, file_id, source))
        return file_id

    def settle(self) -> Iterable[Refusal]:
        for d, file_id, source in self._held:
            if self._external(d):
                continue
            if procfile.tells_of_task(d):
                yield from self._of_strangers(d)
            elif is_ghost(d):
                yield from self._ghosts.take(d, file_id, source)
            elif is_linked(d) and self.view.options.link_remap:
                self.links.take(d, file_id, source)

    def _of_strangers(self, d: Descriptor) -> Iterator[Refusal]:
        number = procfile.task_of(d.link)
        if number is not None and not self.view.holds(number):
            yield Refusal(
                d.pid,
                str(d),
                f"a /proc file of process {number}, which is outside the tree",
                "close it before the dump",
            )

    def entries(self) -> Iterator[Any]:
        for d, file_id, _ in self._held:
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
                if self.view.options.build_ids:
                    reg.build_id.extend(to_words(_build_id(d)))
            yield entry
        yield from self.links.entries()

    def images(self) -> dict[str, Sequence[Any]]:
        remaps = [*self._ghosts.remaps(), *self.links.remaps()]
        return {"remap-fpath": remaps, **self._ghosts.images()} if remaps else {}

    def _external(self, d: Descriptor) -> bool:
        wanted = self.view.options.external
        return bool(wanted) and external_name(d) in wanted


def _refuse_side_effects(path: str, name: str) -> None:
    """Opening a pipe can block, opening a device can do anything: what an image calls a file may be
    one by now, or have been one always."""
    found = Path(path).stat()
    kind = stat.S_IFMT(found.st_mode)
    if kind in _OPENED_BY_PATH or (kind == stat.S_IFCHR and found.st_rdev in DEVICES):
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


def _build_id(d: Descriptor) -> bytes:
    """Whoever has a write lease would be told that the file is opened."""
    if not d.named or b"LEASE" in d.info:
        return b""
    return build_id_of(d.path)


def _checked_build_id(message: Any, where: str) -> bytes:
    if len(message.build_id) > LONGEST // 4:
        raise ImageError("has a build id that can't be", resource=where)
    return from_words(message.build_id)


class PathFile(NamedTuple):
    """A checked reg_file_entry. `flags` are fit for open(2); `tmpfile`: made by O_TMPFILE."""

    path: str
    flags: int
    pos: int
    size: int | None
    mode: int | None
    external: bool
    signum: int
    tmpfile: bool
    build_id: bytes

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
        self._of_tasks: set[int] = set()
        self._remapped = Remapped(view)

    def take(self, file_id: int, message: Any) -> None:
        where = f"file {file_id:#x} of files.img"
        name = get_text(message, "name")
        external = bool(message.ext)
        if not name or "\0" in name or len(os.fsencode(name)) > _LONGEST_PATH:
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
            bool(message.flags & O_TMPFILE_ALONE),
            _checked_build_id(message, where),
        )

    def prepare(self, wanted: Iterable[int]) -> None:
        del wanted
        self._remapped.prepare(self.files)

    def check_tree(self, numbers: Container[int]) -> None:
        for file_id, file in self.files.items():
            if not file.external and procfile.task_of(file.path) in numbers:
                self._of_tasks.add(file_id)

    def stage_of(self, file_id: int) -> Stage:
        return Stage.TASKS if file_id in self._of_tasks else self.stage

    def text(self, file_id: int) -> str:
        file = self.files[file_id]
        lost = ""
        if file_id in self._remapped:
            lost = ", by another name" if self._remapped.is_link(file_id) else ", made anew"
            lost += ", without a name"
        pos = file.pos if file.pos < 2**63 else 0
        return f"open {file.path} {shown(file.flags)} at {pos}{lost}"

    def open(self, file_id: int) -> int:
        file = self.files[file_id]
        given = self.view.inherited(file.resource)
        if given is not None and not file.external:
            return given
        lfd = self._open_own(file_id) if given is None else None
        if lfd is None:
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
        if file_id in self._remapped and given is None:
            return self._open_remapped(file_id, file, flags)
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
                self._compare(file, lfd)
        except BaseException:
            os.close(lfd)
            raise
        return lfd

    def _open_remapped(self, file_id: int, file: PathFile, flags: int) -> int:
        try:
            lfd = self._remapped.open(file_id, file, flags)
        except OSError as error:
            raise self._failed(file, "can't be opened", error) from error
        try:
            if self._remapped.is_link(file_id):
                self._compare(file, lfd)
        except BaseException:
            os.close(lfd)
            raise
        return lfd

    def remove_links(self) -> None:
        """When the tree runs: take away the names that the dump made for it."""
        self._remapped.remove_links()

    def path(self, file_id: int) -> str:
        """What leads to the file now."""
        file = self.files[file_id]
        if file_id not in self._remapped:
            return file.path
        return f"/proc/self/fd/{self._remapped.path_lfd(file_id, file)}"

    def close(self) -> None:
        self._remapped.close()

    def _open_own(self, file_id: int) -> int | None:
        """The description that makes its file, for one that did."""
        file = self.files[file_id]
        if file_id not in self._remapped or not file.tmpfile:
            return None
        self._remapped.path_lfd(file_id, file)
        return self._remapped.own(file_id)

    def _compare(self, file: PathFile, lfd: int) -> None:
        found = os.fstat(lfd)
        ignored = 0o777 if self.view.skip_file_rwx_check else 0
        if file.mode is not None and (found.st_mode ^ file.mode) & ~ignored:
            raise RestoreError(
                f"has mode {found.st_mode:#o}, at the dump it had {file.mode:#o}",
                resource=file.path,
                hint="put the file back as it was, or pass --skip-file-rwx-check",
            )
        if file.build_id and self.view.build_ids:
            there = build_id_of(f"/proc/self/fd/{lfd}")
            if from_words(to_words(there)) != file.build_id:
                was, now = file.build_id.hex(), there.hex() or "none"
                raise RestoreError(
                    f"has build id {now}, at the dump it had {was}",
                    resource=file.path,
                    hint="put the file back as it was",
                )
        elif file.size is not None and found.st_size != file.size:
            raise RestoreError(
                f"has {found.st_size} bytes, at the dump it had {file.size}",
                resource=file.path,
                hint="put the file back as it was",
            )

    def _failed(self, file: PathFile, what: str, error: OSError) -> RestoreError:
        hint = "put the file back, or give another one with --inherit-fd"
        why = os.strerror(error.errno or 0)
        return RestoreError(what, resource=file.path, why=why, hint=hint)
