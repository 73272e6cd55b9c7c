"""A tree that is restored elsewhere while its memory is still with the one that was dumped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from ckpt.images.pagemap import PE_LAZY
from ckpt.images.reader import ImageSet
from tests.fault.injection import eventually
from tests.support import processes
from tests.support.badserver import BAD, bad_server
from tests.support.ckptcmd import CKPT
from tests.support.moved import Mover, mover
from tests.support.worlds import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STRESS = bool(os.environ.get("CKPT_STRESS"))


@pytest.fixture
def tree(here: World, built: Path, tmp_path: Path) -> Iterator[Mover]:
    tmp_path.chmod(0o755)
    for name in ("images", "work"):
        (tmp_path / name).mkdir()
    with mover(here, built, tmp_path / "victim") as started:
        yield started


class Source:
    """A `ckpt dump --lazy-pages` whose set is whole, and that waits to be asked."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def ends(self, exit_code: int) -> str:
        err = self.process.communicate(timeout=60)[1]
        assert self.process.returncode == exit_code, err
        return err

    def terminate(self) -> None:
        """The process itself, not who has entered the namespaces for it."""
        for pid in processes.children(self.process.pid):
            os.kill(pid, signal.SIGTERM)


@contextmanager
def source(here: World, tree: Mover, images: Path, *options: str) -> Iterator[Source]:
    words = here.inside(CKPT, "dump", "-t", tree.pid, "-D", images, "--lazy-pages", "--json")
    process = subprocess.Popen(
        [*words, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield Source(process, json.loads(line)["port"])
    finally:
        for pid in processes.children(process.pid):
            with suppress(ProcessLookupError):  # it ends by itself
                os.kill(pid, signal.SIGKILL)
        process.communicate()


def lazy_pages(there: World, folder: Path, port: int) -> subprocess.Popen[str]:
    folders = ("-D", folder / "images", "-W", folder / "work")
    words = there.inside(CKPT, "lazy-pages", *folders, "--page-server", "--port", port)
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def restore(there: World, folder: Path) -> None:
    folders = ("-D", folder / "images", "-W", folder / "work")
    done = subprocess.run(
        there.inside(CKPT, "restore", *folders, "-d", "--lazy-pages"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def ended(process: subprocess.Popen[str], exit_code: int) -> str:
    err = process.communicate(timeout=60)[1]
    assert process.returncode == exit_code, err
    return err


def test_pages_come_from_the_tree(tree: Mover, here: World, there: World, tmp_path: Path) -> None:
    with source(here, tree, tmp_path / "images") as frozen:
        with ImageSet(tmp_path / "images") as images:
            runs = images.pagemap(f"pagemap-{tree.pid}").runs
            left = sum(run.nr_pages for run in runs if run.flags == PE_LAZY)
            assert left >= 2048
        assert sum(path.stat().st_size for path in (tmp_path / "images").iterdir()) < 4 << 20
        bringing = lazy_pages(there, tmp_path, frozen.port)
        restore(there, tmp_path)
        ended(bringing, 0)
        frozen.ends(0)
    assert here.processes(tree.binary) == []
    assert len(there.processes(tree.binary)) == 2
    tree.finish()


def test_nobody_comes(tree: Mover, here: World, tmp_path: Path) -> None:
    """Whoever ends the waiting has the tree run on; its set can't be restored any more."""
    with source(here, tree, tmp_path / "images") as frozen:
        frozen.terminate()
        frozen.ends(143)
    assert not (tmp_path / "images/inventory.img").exists()
    tree.finish()


FEW = ("another address", "cut off")


@pytest.mark.parametrize("how", BAD if STRESS else FEW)
def test_a_bad_server_stops_the_tree(
    how: str, tree: Mover, here: World, there: World, tmp_path: Path
) -> None:
    """It never runs on what was not its own; given a good server it goes on."""
    with source(here, tree, tmp_path / "images") as frozen:
        with bad_server(frozen.port, how, 5) as port:
            bringing = lazy_pages(there, tmp_path, port)
            # A restore that itself needs a page that can't be had fails, and nothing is left of it.
            try:
                restore(there, tmp_path)
            except AssertionError:
                assert eventually(lambda: not there.processes(tree.binary), 60)
                bringing.communicate(timeout=60)
                bringing = lazy_pages(there, tmp_path, frozen.port)
                restore(there, tmp_path)
                ended(bringing, 0)
            else:
                assert ended(bringing, bringing.wait(60)) and bringing.returncode != 0
                pids = there.processes(tree.binary)
                assert len(pids) == 2
                assert eventually(lambda: {processes.state(pid) for pid in pids} == {"T"}, 60)
                ended(lazy_pages(there, tmp_path, frozen.port), 0)
        frozen.ends(0)
    tree.finish()
