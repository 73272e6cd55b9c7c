"""What CRIU's own tool reads in the images of descriptors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.requirements import require
from tests.support import descriptors as ds


def decoded(image: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["crit", "decode", "-i", str(image)], capture_output=True, text=True, check=True
    )
    entries: list[dict[str, Any]] = json.loads(done.stdout)["entries"]
    return entries


def test_crit_reads_every_image_of_descriptors(tmp_path: Path) -> None:
    require(shutil.which("crit"), "crit (Debian's package criu) is not installed")
    master, slave = os.openpty()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    code = (
        f"a = os.open({str(tmp_path / 'file')!r}, os.O_RDWR|os.O_CREAT)\n"
        "fcntl.lockf(a, fcntl.LOCK_EX, 10, 3)\nos.write(a, b'abc')\n"
        "r, w = os.pipe()\nos.write(w, b'in flight')\n"
        f"f = os.open({str(fifo)!r}, os.O_RDWR)\nos.write(f, b'queued')\n"
        "m = os.memfd_create('m')\nos.write(m, b'x')\nstand(a, r, w, f, m)"
    )
    with ds.Stander(code, stdin=slave) as child:
        saved = ds.save(child, images_in(tmp_path), shell_job=True, file_locks=True)
        assert not saved.refusals
        _, a, r, _, f, m = child.said[0]
    folder = saved.directory
    table = {entry["fd"]: entry for entry in decoded(folder / "fdinfo-1.img")}
    files = {entry["id"]: entry for entry in decoded(folder / "files.img")}
    assert table[a]["type"] == "REG" and table[a]["flags"] == 1
    reg = files[table[a]["id"]]["reg"]
    assert (reg["name"], reg["pos"], reg["size"]) == (str(tmp_path / "file"), 3, 3)
    assert files[table[m]["id"]]["type"] == "MEMFD"
    assert files[files[table[f]["id"]]["fifo"]["regf_id"]]["reg"]["name"] == str(fifo)
    assert files[table[0]["id"]]["tty"]["tty_info_id"] == decoded(folder / "tty-info.img")[0]["id"]
    pipes = {e["pipe_id"]: e for e in decoded(folder / "pipes-data.img")}
    assert pipes[files[table[r]["id"]]["pipe"]["pipe_id"]]["bytes"] == len(b"in flight")
    assert [entry["bytes"] for entry in decoded(folder / "fifo-data.img")] == [len(b"queued")]
    assert [(e["start"], e["len"]) for e in decoded(folder / "filelocks.img")] == [(3, 10)]
    assert [entry["name"] for entry in decoded(folder / "memfd.img")] == ["m"]
    os.close(master)
    os.close(slave)


def images_in(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


def test_crit_reads_what_has_no_file(tmp_path: Path) -> None:
    require(shutil.which("crit"), "crit (Debian's package criu) is not installed")
    code = (
        "import ctypes, select\nlibc = ctypes.CDLL(None)\n"
        "e = os.eventfd(5, os.EFD_SEMAPHORE)\n"
        "s = libc.signalfd(-1, struct.pack('QQ', 1 << 9, 0).ljust(128, b'\\0'), 0)\n"
        "t = libc.timerfd_create(7, 0)\n"
        "libc.timerfd_settime(t, 0, struct.pack('4q', 9, 8, 3600, 0), None)\n"
        f"i = libc.inotify_init1(0)\nw = libc.inotify_add_watch(i, {str(tmp_path)!r}.encode(), 2)\n"
        "p = select.epoll()\np.register(e, select.EPOLLIN | select.EPOLLET)\n"
        "fcntl.fcntl(e, fcntl.F_SETOWN, os.getpid())\nfcntl.fcntl(e, 10, 12)\n"
        "stand(e, s, t, i, p.fileno())"
    )
    with ds.Stander(code) as child:
        saved = ds.save(child, images_in(tmp_path))
        assert not saved.refusals
        pid, e, s, t, i, p = child.said[0]
    table = {entry["fd"]: entry for entry in decoded(saved.directory / "fdinfo-1.img")}
    files = {entry["id"]: entry for entry in decoded(saved.directory / "files.img")}
    kinds = [table[fd]["type"] for fd in (e, s, t, i, p)]
    assert kinds == ["EVENTFD", "SIGNALFD", "TIMERFD", "INOTIFY", "EVENTPOLL"]
    event = files[table[e]["id"]]["efd"]
    assert event["counter"] == 5
    owner = event["fown"]
    assert (owner["pid"], owner["pid_type"], owner["signum"]) == (pid, 1, 12)
    assert files[table[s]["id"]]["sgfd"]["sigmask"] == 1 << 9
    timer = files[table[t]["id"]]["tfd"]
    assert (timer["clockid"], timer["isec"], timer["insec"]) == (7, 9, 8)
    assert 3500 < timer["vsec"] <= 3600
    (watch,) = files[table[i]["id"]]["ify"]["wd"]
    assert (watch["wd"], watch["i_ino"]) == (1, tmp_path.stat().st_ino)
    assert watch["f_handle"]["path"] == str(tmp_path) and len(watch["f_handle"]["handle"]) == 16
    (target,) = files[table[p]["id"]]["epfd"]["tfd"]
    assert target["tfd"] == e
