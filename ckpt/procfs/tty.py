"""The controlling terminal of a task: `tty_nr` of /proc/PID/stat as a device.

Source: proc_pid_stat(5), new_encode_dev() in linux/kdev_t.h, Documentation/admin-guide/devices.txt.
"""

from __future__ import annotations

import os

_PTS_MAJORS = range(136, 144)


def device(tty_nr: int) -> tuple[int, int] | None:
    """Major and minor; None without a controlling terminal. `tty_nr` is printed as signed."""
    number = tty_nr & 0xFFFF_FFFF
    if number == 0:
        return None
    return (number >> 8) & 0xFFF, (number & 0xFF) | ((number >> 12) & 0xFFF00)


def tty_nr(rdev: int) -> int:
    """The number under which a terminal with this st_rdev stands there, as unsigned."""
    major, minor = os.major(rdev), os.minor(rdev)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def pts_index(tty_nr: int) -> int | None:
    """N of /dev/pts/N; None for another kind of terminal, or none."""
    found = device(tty_nr)
    if found is None or found[0] not in _PTS_MAJORS:
        return None
    return (found[0] - _PTS_MAJORS.start << 20) + found[1]
