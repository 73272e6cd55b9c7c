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
