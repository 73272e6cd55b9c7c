"""What a dump is asked to do. Checked by the command line as far as that needs no look at the
target; whatever needs the target is the dump's to check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.kerndat.cpufeature import DEFAULT_CPU_CAP
from ckpt.ns.cgroups import DEFAULT_GROUPS, GroupsAsked
from ckpt.record import record

if TYPE_CHECKING:
    from ckpt.images.pageserver.connect import ServerAddress
    from ckpt.images.pageserver.tls import TlsOptions

DEFAULT_TIMEOUT_S = 10.0
"""CRIU's: how long freezing the whole tree may take."""

DEFAULT_GHOST_LIMIT = 1 << 20
"""CRIU's: bytes of data of a file without a name."""

DEFAULT_LIVE_MEMORY = 64 << 20
"""Bytes of buffers of a live dump."""


@record(frozen=True, kw_only=True)
class DumpOptions:
    """Field by field what the options of ckpt-dump(1) say.

    `tree`: pid of the root. `images_dir` and `work_dir` exist. At most one of `leave_running` and
    `leave_stopped` is set; neither means that the tree is killed once its images are whole.
    `external`: resources such as `file[MNT_ID:INODE]` or `tty[RDEV:DEV]`, form checked.
    `file_validation`: filesize or buildid. `timeout_s`: bound of the time until all is frozen; 0
    means none. `cpu_cap`: subset of fpu, ins, cpu; empty: write no cpuinfo image. `cgroups`: which
    control groups are recorded. `risk_seccomp`: also of tasks that their seccomp would kill,
    should this process be killed while it works in them. `prev_images_dir`, relative to
    `images_dir`, is the set to build on, empty for none. `page_server`: where pages go, None for
    files beside the images. `track_mode`: async, sync, or empty for what works best.
    `action_script`: see ckpt.actions. `live` (with `leave_running`): wp, fork or auto, empty for a
    tree that stands until all is copied; `live_catch`: calls that take memory away are caught from
    the first; `live_memory`: bytes that it may take for buffers; `max_slowdown`: how much of the
    time its sweep works, in per cent. `lazy_pages`: private memory is left with the tree, which
    stays until it was asked for it (ckpt.dump.lazily).
    """

    tree: int
    images_dir: Path
    work_dir: Path
    leave_running: bool = False
    leave_stopped: bool = False
    shell_job: bool = False
    file_locks: bool = False
    external: tuple[str, ...] = ()
    force_irmap: bool = False
    irmap_scan_path: tuple[str, ...] = ()
    skip_in_flight: bool = False
    ghost_limit: int = DEFAULT_GHOST_LIMIT
    link_remap: bool = False
    ext_unix_sk: frozenset[int] | None = None
    risk_seccomp: bool = False
    tcp_established: bool = False
    tcp_close: bool = False
    unix_close: bool = False
    network_lock: str = "nftables"
    file_validation: str = "filesize"
    timeout_s: float = DEFAULT_TIMEOUT_S
    cpu_cap: frozenset[str] = DEFAULT_CPU_CAP
    cgroups: GroupsAsked = DEFAULT_GROUPS
    checksums: bool = True
    prev_images_dir: str = ""
    track_mem: bool = False
    track_mode: str = ""
    auto_dedup: bool = False
    page_server: ServerAddress | None = None
    tls: TlsOptions | None = None
    action_script: tuple[str, ...] = ()
    live: str = ""
    live_catch: bool = False
    live_memory: int = DEFAULT_LIVE_MEMORY
    max_slowdown: int = 100
    lazy_pages: bool = False

    @property
    def survives(self) -> bool:
        """Whether the tree is there after the dump."""
        return self.leave_running or self.leave_stopped
