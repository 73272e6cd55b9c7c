"""Sockets of keepers: only in folders that are ours alone."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from ckpt.errors import DeadlineError, KernelError
from ckpt.mem.tracking import where
from ckpt.mem.tracking.where import Folder
from ckpt.procfs.tree import look
from tests.requirements import require

UID = os.geteuid()
NAME = where.socket_name(1, 2)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "ckpt"


def test_folders() -> None:
    runtime = {"XDG_RUNTIME_DIR": "/run/user/5"}
    assert where.folders(0, runtime) == [Path("/run/ckpt"), Path("/tmp/ckpt-0")]
    assert where.folders(5, runtime) == [Path("/run/user/5/ckpt"), Path("/tmp/ckpt-5")]
    assert where.folders(5, {"XDG_RUNTIME_DIR": "relative"}) == [Path("/tmp/ckpt-5")]


def test_a_socket_is_ours_alone(place: Path) -> None:
    before = os.umask(0)
    try:
        with Folder(place, UID, create=True) as folder, folder.listen(NAME, backlog=1) as listening:
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
            assert stat.S_IMODE((place / NAME).stat().st_mode) == 0o600
            connected = folder.connect(NAME)
            assert connected is not None
            connected.close()
            listening.close()
            assert folder.connect(NAME) is None
            folder.remove(NAME)
            assert not (place / NAME).exists()
            assert folder.connect(NAME) is None
            folder.remove(NAME)
    finally:
        os.umask(before)


def test_there_is_none(place: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Folder(place, UID, create=False)


def test_a_link_is_refused(place: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir(0o700)
    place.symlink_to(real)
    with pytest.raises(KernelError, match="no directory"):
        Folder(place, UID, create=True)


def test_a_file_is_refused(place: Path) -> None:
    place.touch()
    with pytest.raises(KernelError, match="no directory"):
        Folder(place, UID, create=True)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o701, 0o777])
def test_a_folder_that_others_can_enter_is_refused(place: Path, mode: int) -> None:
    place.mkdir()
    place.chmod(mode)
    with pytest.raises(KernelError, match=f"mode is {mode:o}"):
        Folder(place, UID, create=True)


def test_somebody_elses_folder_is_refused(place: Path) -> None:
    require(UID == 0, "only root can give folders away")
    place.mkdir(0o700)
    os.chown(place, 65534, 65534)
    with pytest.raises(KernelError, match="user 65534"):
        Folder(place, UID, create=True)


def test_the_next_folder_is_taken(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.symlink_to(tmp_path)
    other = tmp_path / "other"
    monkeypatch.setattr(where, "folders", lambda *_: [place, tmp_path / "a" / "b", other])
    with where.made(UID, {}) as folder:
        assert folder.path == other
    assert [folder.path for folder in where.existing(UID, {})] == [other]


def test_no_folder_at_all(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.symlink_to(tmp_path)
    monkeypatch.setattr(where, "folders", lambda *_: [place])
    with pytest.raises(KernelError, match="no place"):
        where.made(UID, {})


def test_the_lock_excludes_and_gives_up(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, "_LOCK_S", 0.05)
    with Folder(place, UID, create=True) as folder, Folder(place, UID, create=True) as other:
        with folder.locked(), pytest.raises(DeadlineError), other.locked():
            pass
        with other.locked():
            assert threading.active_count()


def test_what_the_dead_have_left_is_swept(place: Path) -> None:
    """Of dead targets whose keepers don't listen; nothing else goes."""
    task = look(os.getpid())
    assert task
    alive = where.socket_name(task.pid, task.starttime)
    reused = where.socket_name(task.pid, task.starttime - 1)
    served = where.socket_name(task.pid, task.starttime - 2)
    with Folder(place, UID, create=True) as folder:
        for name in (alive, reused):
            folder.listen(name, backlog=1).close()
        (place / "keeper-x-1").touch()
        with folder.listen(served, backlog=1), folder.locked():
            folder.sweep()
            assert {path.name for path in place.iterdir()} == {alive, served, "keeper-x-1"}
