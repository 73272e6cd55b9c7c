"""Tasks come back in the control groups that they were in; groups that are missing are made, and
removed again when the restore fails."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.requirements import require
from tests.support import processes
from tests.support.case import Case
from tests.support.cgroups import Groups, expect, groups_in, line_of, own
from tests.support.programs import program
from tests.support.victim import Victim

REFUSED, RESTORE = 3, 6


def join(directory: Path, pid: int, file: str = "cgroup.procs") -> None:
    (directory / file).write_text(str(pid))


def line(groups: Groups, path: str) -> str:
    """As the victim must read it."""
    head = line_of(groups.name, "self").rsplit(":", 1)[0]
    return f"{head}:{groups.top}/{path}".rstrip("/")


def started_in(case: Case, groups: Groups, path: str = "a") -> Victim:
    """The victim, all of it in one group, and all of it expecting to be there."""
    victim = case.start(program("cgroups/members"))
    for pid in victim.tree:
        join(groups.directory(path), pid)
    for who in ("root", "thread", "child"):
        expect(victim, who, line(groups, path))
    return victim


def dumped_in(case: Case, groups: Groups, *options: str) -> Victim:
    groups.make("a")
    set_limit(groups, "77")
    victim = started_in(case, groups)
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images, *options).ok()
    victim.await_gone(pids)
    return victim


def set_limit(groups: Groups, value: str) -> None:
    (groups.directory("a") / "pids.max").write_text(value)


def limit(groups: Groups) -> str:
    return (groups.directory("a") / "pids.max").read_text().strip()


@pytest.mark.parametrize(
    ("name", "prop", "value"),
    [
        ("pids", "pids.max", "77"),
        ("cpu", "cpu.shares", "512"),
        ("cpuset", "cpuset.memory_migrate", "1"),
        ("memory", "memory.limit_in_bytes", str(1 << 30)),
        ("devices", "notify_on_release", "0"),
        ("name=systemd", "cgroup.clone_children", "1"),
        ("", "cgroup.max.depth", "5"),
    ],
)
def test_members_return(case: Case, name: str, prop: str, value: str) -> None:
    """Task, thread and child each to its own, in groups that had to be made anew."""
    with groups_in(name) as groups:
        for path in ("a", "a/b", "c", "c/empty"):
            groups.make(path)
        (groups.directory("a") / prop).write_text(value)
        (groups.directory("c") / "cgroup.procs").chmod(0o600)
        victim = case.start(program("cgroups/members"))
        root, child = victim.tree
        expect(victim, "root", line(groups, "a"))
        expect(victim, "child", line(groups, "c"))
        expect(victim, "thread", line(groups, "a/b" if name else "a"))
        join(groups.directory("a"), root)
        join(groups.directory("c"), child)
        if name:
            (tid,) = (
                int(p.name) for p in Path(f"/proc/{root}/task").iterdir() if p.name != str(root)
            )
            join(groups.directory("a/b"), tid, "tasks")
        case.ckpt.dump(root, case.images).ok()
        victim.await_gone([root, child])
        groups.remove()
        groups.make()
        case.ckpt.restore(case.images).ok()
        assert (groups.directory("a") / prop).read_text().strip() == value
        assert groups.directory("c/empty").is_dir()
        procs = (groups.directory("c") / "cgroup.procs").stat()
        assert procs.st_mode & 0o777 == 0o600
        victim.finish()


def test_threads_of_version_2(case: Case) -> None:
    with groups_in("") as groups:
        groups.make("a")
        (groups.make("a/t") / "cgroup.type").write_text("threaded")
        victim = started_in(case, groups)
        expect(victim, "thread", line(groups, "a/t"))
        root, child = victim.tree
        (tid,) = (int(p.name) for p in Path(f"/proc/{root}/task").iterdir() if p.name != str(root))
        join(groups.directory("a/t"), tid, "cgroup.threads")
        case.ckpt.dump(root, case.images).ok()
        victim.await_gone([root, child])
        groups.remove()
        groups.make()
        case.ckpt.restore(case.images).ok()
        victim.finish()


@pytest.mark.parametrize(
    ("mode", "after"), [("none", "55"), ("soft", "55"), ("props", "77"), ("full", "77")]
)
def test_modes_where_the_group_is_there(case: Case, mode: str, after: str) -> None:
    with groups_in("pids") as groups:
        victim = dumped_in(case, groups)
        set_limit(groups, "55")
        case.ckpt.restore(case.images, f"--manage-cgroups={mode}").ok()
        assert limit(groups) == after
        victim.finish()


def test_strict_wants_no_group_there(case: Case) -> None:
    with groups_in("pids") as groups:
        victim = dumped_in(case, groups)
        set_limit(groups, "55")
        case.ckpt.restore(case.images, "--manage-cgroups=strict").failed(RESTORE, "there already")
        assert limit(groups) == "55"
        groups.directory("a").rmdir()
        case.ckpt.restore(case.images, "--manage-cgroups=strict").ok()
        assert limit(groups) == "77"
        victim.finish()


@pytest.mark.parametrize("mode", ["none", "props"])
def test_modes_that_make_no_group(case: Case, mode: str) -> None:
    with groups_in("pids") as groups:
        dumped_in(case, groups)
        groups.directory("a").rmdir()
        option = f"--manage-cgroups={mode}"
        case.ckpt.restore(case.images, option).failed(RESTORE, "no such cgroup", "soft")
        assert not groups.directory("a").exists()


def test_a_failed_restore_takes_everything_back(case: Case) -> None:
    """It fails at its last step: groups are gone, values are what they were."""
    with groups_in("pids") as groups:
        victim = dumped_in(case, groups)
        pidfile = case.folder / "pidfile"
        pidfile.touch()
        options = ("--pidfile", str(pidfile))
        groups.directory("a").rmdir()
        case.ckpt.restore(case.images, *options).failed(RESTORE, "pidfile")
        processes.reap_orphans()
        assert not groups.directory("a").exists()
        groups.make("a")
        set_limit(groups, "55")
        case.ckpt.restore(case.images, *options, "--manage-cgroups=full").failed(RESTORE)
        assert limit(groups) == "55"
        processes.reap_orphans()
        case.ckpt.restore(case.images).ok()
        victim.finish()


def test_another_root(case: Case) -> None:
    with groups_in("pids") as groups:
        victim = dumped_in(case, groups, "--cgroup-root", f"pids:{groups.top}")
        groups.remove()
        new = f"{groups.top}/new"
        groups.make()
        for who in ("root", "thread", "child"):
            expect(victim, who, line(groups, "new/a"))
        case.ckpt.restore(case.images, "--cgroup-root", f"pids:{new}").ok()
        assert (groups.directory("new/a") / "pids.max").read_text() == "77\n"
        victim.finish()


@pytest.mark.parametrize("verb", ["dump", "restore"])
def test_ignored(case: Case, verb: str) -> None:
    """On either side: the tree joins the group of ckpt restore."""
    with groups_in("pids") as groups:
        victim = dumped_in(case, groups, *["--manage-cgroups=ignore"][: verb == "dump"])
        for who in ("root", "thread", "child"):
            expect(victim, who, line_of("pids", "self"))
        case.ckpt.restore(case.images, *["--manage-cgroups=ignore"][: verb == "restore"]).ok()
        assert own("pids") == line_of("pids", victim.pid).split(":", 2)[2]
        victim.finish()


def test_yard(case: Case) -> None:
    """A folder in place of the mounts; what it lacks is named before the target is touched."""
    with groups_in("pids") as groups:
        groups.make("a")
        victim = started_in(case, groups)
        yard = case.folder / "yard"
        yard.mkdir()
        options = ("--cgroup-yard", str(yard))
        refused = case.ckpt.dump(victim.pid, case.images, *options)
        refused.failed(REFUSED, f"cgroup pids:{groups.top}/a", "--manage-cgroups=ignore")
        (yard / "pids").symlink_to(groups.mount)
        pids = victim.tree
        case.ckpt.dump(victim.pid, case.images, *options).ok()
        victim.await_gone(pids)
        case.ckpt.restore(case.images, *options).ok()
        victim.finish()


def test_what_is_recorded(case: Case) -> None:
    """Debian's crit reads it: sets by hierarchy, what was asked for of the properties, no other
    controller."""
    require(shutil.which("crit"), "crit is not installed")
    props = '"pids":\n - "strategy": "replace"\n - "properties": ["pids.peak"]\n'
    with groups_in("pids") as pids, groups_in("cpu") as cpu:
        cpu.make("a")
        pids.make("a")
        victim = started_in(case, pids)
        join(cpu.directory("a"), victim.pid)
        options = ("--cgroup-props", props, "--cgroup-dump-controller", "pids", "-R")
        case.ckpt.dump(victim.pid, case.images, *options).ok()
        command = ["crit", "decode", "-i", str(case.images / "cgroup.img")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        (entry,) = json.loads(done.stdout)["entries"]
        (group,) = entry["sets"]
        assert group["ctls"] == [{"name": "pids", "path": f"{pids.top}/a"}]
        (controller,) = entry["controllers"]
        assert controller["cnames"] == ["pids"]
        (top,) = controller["dirs"]
        assert top["dir_name"] == f"{pids.top}/a".lstrip("/")
        names = [prop["name"] for prop in top["properties"]]
        assert names[0] == "pids.peak" and "pids.max" not in names and "tasks" in names
        victim.finish()
