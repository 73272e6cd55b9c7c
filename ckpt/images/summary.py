"""What a set holds, for people: the tree of tasks, their memory and their descriptors.

Works with what there is: a set of a pre-dump has no cores, an old one no files.img. Numbers are
taken from the images as they are, not from the size of the host's files, but for `size`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ckpt.errors import ImageError
from ckpt.images.directory import read_link
from ckpt.images.pagemap import PE_LAZY, PE_PARENT, PE_PRESENT
from ckpt.images.text import get_text
from ckpt.images.types import PARENT_LINK, parse_file_name
from ckpt.record import field, record
from ckpt.units import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckpt.images.reader import ImageSet

_STATES = {1: "running", 2: "zombie", 3: "stopped"}


@record(frozen=True)
class Descriptor:
    """One descriptor of a task. `text`: the path, or what else tells it from others."""

    fd: int
    kind: str
    text: str


@record
class Memory:
    """Bytes: mapped; in pages-N.img of this set; in a parent set; left at the origin."""

    mappings: int = 0
    mapped: int = 0
    present: int = 0
    in_parent: int = 0
    lazy: int = 0


@record
class Task:
    """One task. `depth` is 0 for a root, which has no parent in the set."""

    pid: int
    ppid: int
    pgid: int
    sid: int
    threads: list[int]
    depth: int = 0
    comm: str = ""
    state: str = ""
    exe: str = ""
    cwd: str = ""
    memory: Memory = field(default_factory=Memory)
    descriptors: list[Descriptor] = field(default_factory=list)


@record
class Summary:
    """The whole set. `size` is in bytes, `tasks` are in the order of the tree, depth first."""

    directory: str
    run_id: str
    parent: str
    verified: bool
    files: int
    size: int
    shared_memory: int
    tasks: list[Task]


def summarise(images: ImageSet) -> Summary:
    """Read a set. Raises ImageError if an image is damaged or the tasks form no tree."""
    kinds = _Files(images)
    tasks = [_task(images, entry, kinds) for entry in _entries(images, "pstree")]
    names = [file for file in os.listdir(images.dir_lfd) if parse_file_name(file)]
    shared = sum(
        images.pagemap(f"pagemap-shmem-{number}").nr_present
        for number in images.names("pagemap-shmem")
    )
    return Summary(
        directory=images.directory,
        run_id=images.inventory.dump_criu_run_id,
        parent=read_link(images.dir_lfd, PARENT_LINK, f"{images.directory}/{PARENT_LINK}"),
        verified=images.has_sums,
        files=len(names),
        size=sum(os.stat(name, dir_fd=images.dir_lfd).st_size for name in names),
        shared_memory=shared * PAGE,
        tasks=list(_in_order(tasks)),
    )


def _task(images: ImageSet, entry: Any, kinds: _Files) -> Task:
    pid = entry.pid
    task = Task(pid, entry.ppid, entry.pgid, entry.sid, list(entry.threads))
    for core in _entries(images, f"core-{pid}"):
        task.comm = get_text(core.tc, "comm")
        task.state = _STATES.get(core.tc.task_state, f"state {core.tc.task_state}")
    for mm in _entries(images, f"mm-{pid}"):
        task.exe = kinds.path(mm.exe_file_id)
        task.memory.mappings = len(mm.vmas)
        task.memory.mapped = sum(vma.end - vma.start for vma in mm.vmas)
    for fs in _entries(images, f"fs-{pid}"):
        task.cwd = kinds.path(fs.cwd_id)
    for ids in _entries(images, f"ids-{pid}"):
        task.descriptors = [
            Descriptor(fd.fd, *kinds.describe(fd.id, fd.type))
            for fd in sorted(_entries(images, f"fdinfo-{ids.files_id}"), key=lambda fd: int(fd.fd))
        ]
    if images.exists(f"pagemap-{pid}"):
        _count_pages(task.memory, images, f"pagemap-{pid}")
    return task


def _count_pages(memory: Memory, images: ImageSet, name: str) -> None:
    for run in images.pagemap(name).runs:
        size = run.nr_pages * PAGE
        if run.flags & PE_PRESENT:
            memory.present += size
        elif run.flags & PE_PARENT:
            memory.in_parent += size
        elif run.flags & PE_LAZY:
            memory.lazy += size


class _Files:
    """files.img by id, and how each kind is shown."""

    def __init__(self, images: ImageSet) -> None:
        self._by_id = {file.id: file for file in _entries(images, "files")}

    def path(self, ident: int) -> str:
        file = self._by_id.get(ident)
        return get_text(file.reg, "name") if file and file.HasField("reg") else ""

    def describe(self, ident: int, number: int) -> tuple[str, str]:
        """Kind and text of a description."""
        from ckpt.images.pb.fdinfo_pb2 import fd_types

        kind = fd_types.Name(number).lower()
        file = self._by_id.get(ident)
        show = _SHOWN.get(kind)
        return kind, show(file) if file and show else f"#{ident}"


_SHOWN: dict[str, Callable[[Any], str]] = {
    "reg": lambda file: get_text(file.reg, "name"),
    "pipe": lambda file: f"{file.pipe.pipe_id} {'write' if file.pipe.flags & 3 else 'read'}",
    "fifo": lambda file: str(file.fifo.pipe_id),
    "tty": lambda file: str(file.tty.tty_info_id),
    "memfd": lambda file: str(file.memfd.inode_id),
    "eventfd": lambda file: f"counter {file.efd.counter}",
    "inetsk": lambda file: f"port {file.isk.src_port}, peer {file.isk.dst_port}",
    "unixsk": lambda file: os.fsdecode(file.usk.name),
}


def _in_order(tasks: list[Task]) -> Iterator[Task]:
    by_pid = {task.pid: task for task in tasks}
    kids: dict[int, list[Task]] = {}
    for task in tasks:
        kids.setdefault(task.ppid, []).append(task)
    todo = [task for task in reversed(tasks) if task.ppid not in by_pid]
    seen = 0
    while todo:
        task = todo.pop()
        seen += 1
        yield task
        for kid in reversed(kids.get(task.pid, [])):
            kid.depth = task.depth + 1
            todo.append(kid)
    if seen != len(tasks) or len(by_pid) != len(tasks):
        raise ImageError("the tasks form no tree", resource="pstree.img")


def _entries(images: ImageSet, name: str) -> list[Any]:
    return images.read(name) if images.exists(name) else []
