"""A writer killed at any moment leaves a whole set or none, and the next dump is told which."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ckpt.errors import ImageError
from ckpt.images.reader import ImageSet
from ckpt.images.writer import ImageSetWriter
from tests.support.dying import killed_at
from tests.support.image_set import write_set


def write_whole(directory: Path) -> None:
    write_set(directory, commit=False).commit()


def test_no_death_leaves_half_a_set(tmp_path: Path) -> None:
    call, complete, refused, clean = 0, 0, 0, 0
    while True:
        call += 1
        directory = tmp_path / str(call)
        directory.mkdir()
        if not killed_at(call, partial(write_whole, directory)):
            break
        try:
            with ImageSet(directory) as images:
                images.verify_pages().wait()
                assert [task.pid for task in images.read("pstree")] == [10, 20, 30]
            complete += 1
        except ImageError as error:
            assert "no inventory.img" in str(error)
            try:
                write_set(directory)
            except ImageError as again:
                assert "parts of an image set" in str(again)
                refused += 1
            else:
                assert not list(directory.glob(".*.tmp"))
                clean += 1
    # Most die while the files are made, some between the renames, a few after the last.
    assert clean > 50, (clean, refused, complete)
    assert refused > 10, (clean, refused, complete)
    assert complete > 1, (clean, refused, complete)


def test_the_lock_dies_with_its_writer(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        writer = ImageSetWriter(tmp_path)
        writer.pages(1)
        os._exit(0)
    os.waitpid(pid, 0)
    with ImageSetWriter(tmp_path) as writer:
        assert list(tmp_path.iterdir()) == []
        writer.pages(1)


def test_images_need_no_extension(tmp_path: Path) -> None:
    write_set(tmp_path)
    code = (
        "import sys; sys.modules['ckpt._native'] = None; sys.path.remove('')\n"
        "import ckpt.images.writer, ckpt.images.chain, ckpt.images.checksums\n"
        "from ckpt.cli.__main__ import main\n"
        f"sys.exit(main(['show', {str(tmp_path)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "work er" in done.stdout


def test_a_set_is_read_by_nobody_in_particular() -> None:
    """No privilege is asked for: a user that may read the files sees the set."""
    with TemporaryDirectory() as name:
        directory = Path(name)
        write_set(directory)
        for path in (directory, *directory.iterdir()):
            path.chmod(0o755)
        pid = os.fork()
        if pid == 0:
            try:
                if os.getuid() == 0:
                    os.setgid(65534)
                    os.setuid(65534)
                with ImageSet(directory) as images:
                    images.verify_pages().wait()
                    os._exit(0 if len(images.read("files")) == 5 else 1)
            except BaseException:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
