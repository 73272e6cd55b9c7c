"""Names that are not UTF-8, as another program may have put them into images: what has such a name
is opened by it, and what can't be is told in words that can be printed."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ckpt.errors import RestoreError
from tests.support import descriptors as ds

ODD = b"odd\xff"


def renamed(images: Path) -> None:
    """In all images, from even to odd; sums would tell."""
    for path in images.iterdir():
        path.write_bytes(path.read_bytes().replace(b"even", ODD))
    (images / "ckpt-checksums.img").unlink(missing_ok=True)


@pytest.mark.parametrize("there", [True, False])
def test_a_file(tmp_path: Path, *, there: bool) -> None:
    images, file = tmp_path / "images", tmp_path / "even"
    images.mkdir()
    file.write_bytes(b"content")
    with ds.Stander(f"stand(os.open({str(file)!r}, os.O_RDONLY))") as child:
        saved = ds.save(child, images)
        renamed(images)
        if not there:
            with (
                pytest.raises(RestoreError, match="No such file"),
                ds.restored(saved, inherit=child.outside),
            ):
                pass
            return
        file.rename(tmp_path / os.fsdecode(ODD))
        with ds.restored(saved, inherit=child.outside) as files:
            assert os.read(ds.by_number(files, child.pid)[child.said[0][1]], 10) == b"content"


def test_a_memfd(tmp_path: Path) -> None:
    with ds.Stander("stand(os.memfd_create('even'))") as child:
        saved = ds.save(child, tmp_path)
        renamed(tmp_path)
        with ds.restored(saved, inherit=child.outside) as files:
            lfd = ds.by_number(files, child.pid)[child.said[0][1]]
            assert ds.link("self", lfd).startswith(f"/memfd:{os.fsdecode(ODD)} ")


def test_the_folder_of_a_socket(tmp_path: Path) -> None:
    images, folder = tmp_path / "images", tmp_path / "even"
    images.mkdir()
    folder.mkdir()
    code = f"os.chdir({str(folder)!r})\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
    with ds.Stander(f"{code}s.bind('bound')\nstand(s.fileno())") as child:
        saved = ds.save(child, images)
        renamed(images)
        bound = folder.rename(tmp_path / os.fsdecode(ODD)) / "bound"
        bound.unlink()
        with ds.restored(saved, inherit=child.outside) as files:
            lfd = ds.by_number(files, child.pid)[child.said[0][1]]
            with socket.socket(fileno=os.dup(lfd)) as made:
                assert made.getsockname() == "bound"
            assert bound.is_socket()
