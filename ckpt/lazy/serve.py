"""`ckpt lazy-pages`: gives the pages of an image set to the holder, and waits until all are there.

The holder is made if there is none, and is found if there is: then its server may have lost its
pages, and takes these; or it has what it needs, and we only wait. Our own end changes nothing for a
tree that runs; before one has come it is the end of the holder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.images.chain import Chain
from ckpt.lazy.start import numbers_of, start_holder
from ckpt.mem.missing.client import Holder, LostPagesError
from ckpt.mem.missing.contents import contents_of
from ckpt.mem.resolve import resolve
from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckpt.mem.missing.contents import Remote
    from ckpt.report import Report


@record(frozen=True, kw_only=True)
class LazyPagesOptions:
    """`work_dir`: where the socket is, and a restore looks for it."""

    images_dir: Path
    work_dir: Path
    checksums: bool = True


def serve(
    options: LazyPagesOptions,
    report: Report,
    ready: Callable[[], None],
    connect: Callable[[], Remote] | None = None,
) -> dict[str, object]:
    """Until the tree of a restore has all of its memory: figures. `ready` is called once a restore
    can come. `connect` makes a new connection, which stays the caller's, for pages that are in no
    file. Raises ImageError, LostPagesError, HolderRefused, HolderGone, KernelError."""
    holder = Holder.find(options.work_dir)
    if holder is None:
        avoid = numbers_of(options.images_dir)
        holder = start_holder(options.work_dir, report, need_name=True, avoid=avoid)
    with holder:
        given = _give(holder, options, report, connect)
        ready()
        while True:
            try:
                figures = holder.wait()
            except LostPagesError:
                # Those that another one has given: ours may be whole.
                if given:
                    raise
                figures = None
            if figures is not None:
                return figures
            report.info("the pages are given anew")
            given = _give(holder, options, report, connect)


def _give(
    holder: Holder, options: LazyPagesOptions, report: Report, connect: Callable[[], Remote] | None
) -> bool:
    """Whether they are taken: not where others are being brought."""
    remote = connect() if connect else None
    with Chain(options.images_dir, verify=options.checksums, resolver=resolve) as chain:
        taken = holder.give(contents_of(chain, remote))
    if not taken:
        report.info("the pages are being brought already")
    return taken
