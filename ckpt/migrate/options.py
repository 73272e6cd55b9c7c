"""What a migration is asked to do, on either side. Checked by the command line as far as that needs
no look at the target and no connection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.images.pageserver.connect import ServerAddress
from ckpt.images.pageserver.listener import ListenOptions
from ckpt.kerndat.cpufeature import DEFAULT_CPU_CAP
from ckpt.record import field, record

if TYPE_CHECKING:
    from ckpt.dump.options import DumpOptions
    from ckpt.images.pageserver.tls import TlsOptions


@record(frozen=True, kw_only=True)
class MigrateOptions:
    """`dump`: how the tree is dumped; its folders, its parent and its page server are replaced.
    `rounds`: how many pre-dumps, None for as many as pay. `max_downtime_ms`: frozen time to get
    below before the tree is frozen at last, None for as short as can be had. `lazy`: what is left
    then follows when it runs there already (postcopy, and hybrid after rounds)."""

    dump: DumpOptions
    to: ServerAddress
    tls: TlsOptions | None = None
    rounds: int | None = None
    max_downtime_ms: float | None = None
    mode: str = "precopy"

    @property
    def lazy(self) -> bool:
        return self.mode != "precopy"


@record(frozen=True, kw_only=True)
class ServeOptions(ListenOptions):
    """`folder`: where the images of a tree that comes stand until it runs, each in a folder of its
    own. `once`: end when one tree has come. `cpu_cap`: what of the source's CPU must be here."""

    folder: Path = field(default=Path())
    once: bool = False
    cpu_cap: frozenset[str] = DEFAULT_CPU_CAP
