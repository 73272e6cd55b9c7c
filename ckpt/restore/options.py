"""What a restore is asked to do. Checked by the command line as far as that needs no look at the
images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.kerndat.cpufeature import DEFAULT_CPU_CAP
from ckpt.ns.cgroups import DEFAULT_GROUPS, GroupsAsked
from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckpt.mem.missing.client import Holder
    from ckpt.ns.join import Joined


@record(frozen=True)
class InheritFd:
    """`--inherit-fd fd[LFD]:RESOURCE`: use our open descriptor `lfd` for what the images call
    `resource` (`file[MNT_ID:INODE]`, `tty[RDEV:DEV]`, `pipe:[INODE]`, or a path without its first
    slash, as CRIU has it)."""

    lfd: int
    resource: str


@record(frozen=True)
class Consent:
    """Somebody else's word before a tree is let go. `wait`: is called when all of it is made and
    stands; it returns, or raises, and then nothing of the tree is left. `verdict`: a descriptor of
    ours into which ckpt.restore.guard says what came of it, whatever becomes of us."""

    wait: Callable[[], None]
    verdict: int


@record(frozen=True, kw_only=True)
class RestoreOptions:
    """Field by field what the options of ckpt-restore(1) say.

    `images_dir` and `work_dir` exist. `restore_sibling` is only set with `restore_detached`.
    `pidfile`: resolved against `work_dir`; must not exist yet (CRIU's rule), gets the root's pid
    in decimal without a newline. Every `inherit_fd` is open in this process. `dry_run`: compute
    and return the plan, execute nothing. `cpu_cap`: subset of fpu, ins, cpu that must match.
    `file_validation`: filesize or buildid.
    `action_script`: see ckpt.actions. `join_ns`: namespaces for the tree in place of our own.
    """

    images_dir: Path
    work_dir: Path
    restore_detached: bool = False
    restore_sibling: bool = False
    leave_stopped: bool = False
    shell_job: bool = False
    pidfile: Path | None = None
    inherit_fd: tuple[InheritFd, ...] = ()
    external: tuple[str, ...] = ()
    file_locks: bool = False
    skip_file_rwx_check: bool = False
    ext_unix_sk: frozenset[int] | None = None
    tcp_established: bool = False
    tcp_close: bool = False
    network_lock: str = "nftables"
    file_validation: str = "filesize"
    cpu_cap: frozenset[str] = DEFAULT_CPU_CAP
    cgroups: GroupsAsked = DEFAULT_GROUPS
    checksums: bool = True
    dry_run: bool = False
    action_script: tuple[str, ...] = ()
    join_ns: tuple[Joined, ...] = ()


@record(frozen=True)
class Lazily:
    """For a lazy restore: `connect` to who holds the userfaultfds, once the images have been read.
    `gives_pages`: it is told where the pages are, else somebody else does. `tracks`: what the tree
    writes is tracked from its first instruction on."""

    connect: Callable[[], Holder]
    gives_pages: bool
    tracks: bool = False
