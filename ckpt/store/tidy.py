"""Thinning a store, in the background: merge, change places, remove.

1. Generations that nothing needs get a name of `.gone-`, then go.
2. The merged set is written to `.merge` (ckpt.images.merge). Nothing has changed for anybody.
3. With the store to itself, and with every folder concerned locked: `.merge` and the generation
   that it replaces change places (renameat2(2), RENAME_EXCHANGE), so that at every instant a whole
   set stands there. What was merged into it gets a name of `.gone-`.
4. All of that goes.

Being killed at any point leaves every generation restorable that was, but those that were to go;
the owner's next start removes the rest. Where somebody reads a folder concerned, nothing is
changed: it is tried again after the next generation.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ckpt._native import ffi, lib
from ckpt.errors import ImageError, KernelError
from ckpt.images import directory as files_of
from ckpt.images.chain import Chain
from ckpt.images.merge import merge
from ckpt.images.types import parse_file_name
from ckpt.mem.resolve import resolve
from ckpt.store.generations import GONE, MERGE, generations, steady, sync
from ckpt.store.thinning import Held, plan

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ckpt.report import Report
    from ckpt.store.generations import Generation
    from ckpt.store.thinning import Plan

_AT_FDCWD, _RENAME_EXCHANGE = (1 << 64) - 100, 2


def tidy(store: Path, keep: int, report: Report) -> None:
    """Thin the store until there is nothing to be thinned. Only for its owner, or for a child of
    its.

    Raises ImageError if a set is damaged or in use, or the disk is full; KernelError where the file
    system can't do it. All generations stay as they are then.
    """
    while True:
        held = [_held(one) for one in generations(store)]
        todo = plan(held, keep)
        _remove(store, todo.unneeded)
        if not todo.into:
            return
        _merge(store, todo, report)


def _held(generation: Generation) -> Held:
    size = 0
    for file in os.listdir(generation.path):
        image = parse_file_name(file)
        if image and image.type.stem == "pages":
            size += (generation.path / file).lstat().st_size
    return Held(generation.name, size, generation.parent)


def _merge(store: Path, todo: Plan, report: Report) -> None:
    into = store / todo.into
    merging = store / MERGE
    merging.mkdir(mode=0o700)
    try:
        with Chain(into, resolver=resolve) as chain:
            _must_be(chain, store, todo)
            size = merge(chain, len(todo.merged), merging)
        _replace(store, todo)
    finally:
        shutil.rmtree(merging, ignore_errors=True)
    _clear(store)
    report.info(f"{len(todo.merged)} generations merged into {todo.into}, {size >> 10} KiB")


def _must_be(chain: Chain, store: Path, todo: Plan) -> None:
    """The sets are those of the plan: links may lead elsewhere than their names tell."""
    found = [os.fstat(layer.dir_lfd) for layer in chain.layers[1 : len(todo.merged) + 1]]
    wanted = [(store / name).stat() for name in todo.merged]
    if [(a.st_dev, a.st_ino) for a in found] != [(b.st_dev, b.st_ino) for b in wanted]:
        raise ImageError("builds on sets outside of its store", resource=str(store / todo.into))


def _replace(store: Path, todo: Plan) -> None:
    with steady(store, changing=True), ExitStack() as scope:
        for name in (todo.into, *todo.merged):
            lfd = files_of.open_directory(str(store / name))
            scope.callback(os.close, lfd)
            files_of.lock(lfd, str(store / name))
        _exchange(store / MERGE, store / todo.into)
        sync(store)
        for name in todo.merged:
            (store / name).rename(store / f"{GONE}{name}")


def _remove(store: Path, names: Iterable[str]) -> None:
    """Generations that nothing builds on, unless somebody reads them."""
    for name in names:
        with steady(store, changing=True):
            lfd = files_of.open_directory(str(store / name))
            try:
                files_of.lock(lfd, str(store / name))
                (store / name).rename(store / f"{GONE}{name}")
            except ImageError:
                continue
            finally:
                os.close(lfd)
    _clear(store)


def _clear(store: Path) -> None:
    for path in store.iterdir():
        if path.name.startswith(GONE):
            shutil.rmtree(path)


def _exchange(one: Path, other: Path) -> None:
    """Both folders change places, at once."""
    names = [ffi.from_buffer(os.fsencode(path) + b"\0") for path in (one, other)]
    a, b = (int(ffi.cast("uintptr_t", name)) for name in names)
    result = lib.ckpt_call(lib.__NR_renameat2, _AT_FDCWD, a, _AT_FDCWD, b, _RENAME_EXCHANGE, 0)
    if result < 0:
        unable = -result in (errno.EINVAL, errno.ENOSYS)
        raise KernelError(
            "generations can't be merged",
            resource=str(other),
            why=os.strerror(-result).lower(),
            hint="the file system can't exchange folders (RENAME_EXCHANGE)" if unable else "",
        )
