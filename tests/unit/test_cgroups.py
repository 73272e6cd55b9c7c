"""cgroup.img is hostile, `--cgroup-props` a small language, paths of groups are of two kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ckpt.errors import ImageError
from ckpt.images.pb.cgroup_pb2 import cgroup_entry
from ckpt.images.reader import ImageSet
from ckpt.images.text import set_text
from ckpt.images.writer import ImageSetWriter
from ckpt.ns import cgroup_props
from ckpt.ns.cgroup_image import GroupsImage, read_groups
from ckpt.ns.cgroups import Hierarchies, NoGroupError, Root, is_below, root_for
from ckpt.procfs.mountinfo import parse_mountinfo
from tests.support.image_set import write_set


def image(folder: Path, entry: cgroup_entry) -> GroupsImage:
    """What is read of a set whose cgroup.img is `entry`."""
    whole, own = folder / "whole", folder / "own"
    whole.mkdir()
    own.mkdir()
    write_set(whole)
    with ImageSetWriter(own) as writer:
        writer.write("cgroup", [entry])
        writer.write("inventory", [inventory(whole)])
        writer.commit()
    with ImageSet(own) as images:
        return read_groups(images)


def inventory(folder: Path) -> Any:
    with ImageSet(folder) as images:
        return images.read_one("inventory")


def made(
    path: str = "/a/b", name: str = "a/b", child: str = "c", prop: str = "x.y"
) -> cgroup_entry:
    entry = cgroup_entry()
    set_text(entry.sets.add(id=2).ctls.add(name="cpu", path=""), "path", path)
    top = entry.controllers.add(cnames=["cpu"]).dirs.add()
    set_text(top, "dir_name", name)
    set_text(top.children.add(), "dir_name", child)
    top.properties.add(name=prop, value="1")
    return entry


def test_groups_of_an_image(tmp_path: Path) -> None:
    found = image(tmp_path, made())
    assert found.sets == {2: {"cpu": "/a/b"}}
    assert [(g.path, g.top) for g in found.groups] == [("/a/b", "/a/b"), ("/a/b/c", "/a/b")]
    moved = found.moved([Root("cpu", "/new"), Root(None, "/other")])
    assert moved.sets == {2: {"cpu": "/new"}}
    assert [g.path for g in moved.groups] == ["/new", "/new/c"]


@pytest.mark.parametrize(
    "entry",
    [
        made(path="a"),
        made(path="/a/../b"),
        made(path="/.."),
        made(path="//a"),
        made(name="../a"),
        made(name="a/.."),
        made(child=".."),
        made(child="../../x"),
        made(child=""),
        made(prop="release_agent"),
        made(prop="cgroup.kill"),
        made(prop="../a.b"),
        made(prop="a.b/c.d"),
    ],
    ids=lambda e: str(e.SerializeToString()),
)
def test_names_that_lead_elsewhere(tmp_path: Path, entry: cgroup_entry) -> None:
    with pytest.raises(ImageError, match=r"cgroup\.img"):
        image(tmp_path, entry)


def test_properties_asked_for() -> None:
    known = cgroup_props.recorded("cpu,cpuacct", ())
    assert "cpu.shares" in known and known[-1] == "tasks"
    merge = cgroup_props.parse_spec(
        '"cpu":\n - "strategy": "merge"\n - "properties": ["cpu.idle", "cpu.x"]\n'
        '"pids":\n - "strategy": "replace"\n - "properties": [ ]\n'
    )
    assert merge == (("cpu", "merge", ("cpu.idle", "cpu.x")), ("pids", "replace", ()))
    assert cgroup_props.recorded("cpu", [merge])[-6:-4] == ["cpu.idle", "cpu.x"]
    assert "pids.max" not in cgroup_props.recorded("pids", [merge])
    assert "memory.max" in cgroup_props.recorded("", [merge])


@pytest.mark.parametrize(
    "text",
    [
        "cpu",
        '"cpu":\n - "strategy": "add"\n - "properties": ["a.b"]\n',
        '"cpu":\n - "strategy": "merge"\n',
        '"cpu":\n - "strategy": "merge"\n - "properties": ["a.b"\n',
        '"cpu":\n - "strategy": "merge"\n - "properties": ["release_agent"]\n',
        '"cpu":\n - "strategy": "merge"\n - "properties": ["../a.b"]\n',
    ],
)
def test_properties_asked_for_wrongly(text: str) -> None:
    with pytest.raises(ValueError, match=r"the form is|no property"):
        cgroup_props.parse_spec(text)


MOUNTS = b"""\
30 1 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
31 1 0:31 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 1 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
33 1 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""


def test_directories_of_groups() -> None:
    own = {"cpu,cpuacct": "/", "memory": "/docker/x", "name=systemd": "/", "": "/"}
    here = Hierarchies(own, "", parse_mountinfo(MOUNTS))
    found = here.directory
    assert found("cpu,cpuacct", "/a") == Path("/sys/fs/cgroup/cpu,cpuacct/a")
    assert found("memory", "/docker/x/y") == Path("/sys/fs/cgroup/memory/y")
    assert found("name=systemd", "/") == Path("/sys/fs/cgroup/systemd")
    assert found("", "/a:b") == Path("/sys/fs/cgroup/unified/a:b")
    for name, path in (("memory", "/docker/xy"), ("pids", "/"), ("", "/../a")):
        with pytest.raises(NoGroupError):
            found(name, path)
    assert here.holding("cpuacct") == "cpu,cpuacct" and here.holding("") == ""
    with pytest.raises(NoGroupError):
        here.holding("pids")
    yard = Hierarchies(own, "/y", parse_mountinfo(MOUNTS))
    assert yard.directory("name=systemd", "/a") == Path("/y/systemd/a")
    assert yard.directory("", "/") == Path("/y/unified")


def test_roots() -> None:
    roots = [Root(None, "/all"), Root("cpu", "/c")]
    assert root_for(roots, "cpu,cpuacct") == "/c" and root_for(roots, "") == "/all"
    assert root_for(roots[1:], "memory") == ""
    assert is_below("/a", "/a") and is_below("/a/b", "/a") and is_below("/a", "/")
    assert not is_below("/ab", "/a")
