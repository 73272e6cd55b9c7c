"""/proc/PID/mountinfo: the mounts of a task's mount namespace below its root.

Source: proc_pid_mountinfo(5), show_mountinfo() in fs/proc_namespace.c.

Blanks, tabs, newlines, backslashes and # in names are written in octal and given back here as the
bytes they were. Mounts outside the task's root directory are not listed at all, so a mount id that
a descriptor names can be missing.
"""

from __future__ import annotations

from os import makedev

from ckpt.procfs.parse import dec, fail, lines, text, unescape
from ckpt.record import record

FILE = "mountinfo"


@record(frozen=True)
class Mount:
    """One mount. `optional` are the tags of propagation: shared:1, master:2, unbindable, ..."""

    mnt_id: int
    parent_id: int
    device: tuple[int, int]
    root: str
    mountpoint: str
    options: tuple[str, ...]
    optional: tuple[str, ...]
    fstype: str
    source: str
    super_options: tuple[str, ...]

    @property
    def dev(self) -> int:
        return makedev(*self.device)

    @property
    def readonly(self) -> bool:
        return "ro" in self.options or "ro" in self.super_options


def parse_mountinfo(data: bytes) -> list[Mount]:
    """All mounts in the order of the file: a later one can hide an earlier one."""
    return [_mount(line) for line in lines(data, FILE)]


def _mount(line: bytes) -> Mount:
    fields = line.split(b" ")
    if b"-" not in fields[6:]:
        fail(FILE, line, "no dash after the optional fields")
    dash = fields.index(b"-", 6)
    if len(fields) - dash < 4:
        fail(FILE, line, "file system type, source or options missing")
    major, colon, minor = fields[2].partition(b":")
    if not colon:
        fail(FILE, line, "no device number")
    return Mount(
        mnt_id=dec(fields[0], FILE, line),
        parent_id=dec(fields[1], FILE, line),
        device=(dec(major, FILE, line), dec(minor, FILE, line)),
        root=text(unescape(fields[3])),
        mountpoint=text(unescape(fields[4])),
        options=tuple(text(unescape(o)) for o in fields[5].split(b",")),
        optional=tuple(text(o) for o in fields[6:dash]),
        fstype=text(unescape(fields[dash + 1])),
        source=text(unescape(fields[dash + 2])),
        super_options=tuple(text(unescape(o)) for o in b" ".join(fields[dash + 3 :]).split(b",")),
    )
