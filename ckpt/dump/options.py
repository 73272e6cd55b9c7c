"""What a dump is asked to do. Checked by the command line as far as that needs no look at the
target; whatever needs the target is the dump's to check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_TIMEOUT_S = 10.0
"""CRIU's: how long freezing the whole tree may take."""

DEFAULT_CPU_CAP = frozenset({"fpu", "ins"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpOptions:
    """Field by field what the options of ckpt-dump(1) say.

    `tree`: pid of the root. `images_dir` and `work_dir` exist. At most one of `leave_running` and
    `leave_stopped` is set; neither means that the tree is killed once its images are whole.
    `external`: resources such as `file[MNT_ID:INODE]` or `tty[RDEV:DEV]`, form checked.
    `timeout_s`: bound of the time until all is frozen; 0 means none. `cpu_cap`: subset of
    fpu, ins, cpu; empty: write no cpuinfo image.
    """

    tree: int
    images_dir: Path
    work_dir: Path
    leave_running: bool = False
    leave_stopped: bool = False
    shell_job: bool = False
    file_locks: bool = False
    external: tuple[str, ...] = ()
    timeout_s: float = DEFAULT_TIMEOUT_S
    cpu_cap: frozenset[str] = DEFAULT_CPU_CAP
    checksums: bool = True
