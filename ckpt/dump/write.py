"""After the frozen window: judge what was found, encode it, make it durable, make it whole."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from ckpt.dump import describe
from ckpt.dump.facts import group_obstacles, obstacles, surroundings_of
from ckpt.dump.preflight import birth_obstacles, refuse, tree_model
from ckpt.kerndat import cpu
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.stat import parse_stat
from ckpt.procfs.status import parse_status
from ckpt.procfs.timens import TimensOffsets
from ckpt.pstree.sharing import FILES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckpt.dump.work import Frozen, Work
    from ckpt.errors import Refusal
    from ckpt.pstree.model import Tree


def write(work: Work) -> None:
    """Raises RefusedError for a state that a restore could not bring back, and that came up after
    the preflight; ImageError."""
    _judge(work)
    before = time.monotonic_ns()
    work.report.stage("write")
    frozen, writer = work.frozen, work.writer
    root = frozen.snapshots[0]
    offsets = root.facts.timens if "timens_offsets" in root.facts.raw else TimensOffsets()
    for runs in work.pages.runs():
        work.stats.count(runs)
    filters, chains = describe.filters(frozen.snapshots)
    images: list[tuple[str, Sequence[Any]]] = [
        filters,
        *describe.tree_images(_model(work.options.tree, frozen)),
        describe.clocks(
            frozen.monotonic_ns + offsets.monotonic_ns, frozen.boottime_ns + offsets.boottime_ns
        ),
        *(describe.zombie(parse_stat(a), parse_status(b)) for a, b in frozen.zombies.values()),
    ]
    for taken in frozen.snapshots:
        shared = frozen.sharing.ids(taken.pid)
        ids = describe.object_ids(shared)
        images += describe.task_images(taken, ids, taken.vmas(), chains, work.groups)
        if frozen.sharing.first(FILES, taken.pid) == taken.pid:
            images.append((f"fdinfo-{shared[FILES]}", work.files.fdinfo(taken.pid)))
    images.append(("cgroup", [work.groups.image()]))
    if segments := frozen.segments.image():
        images.append((f"ipcns-shm-{describe.IPC_NS_ID}", segments))
    images += frozen.objects.images(describe.IPC_NS_ID)
    images += work.shared.images()
    for name, messages in (*images, *work.pages.images(), *work.files.images().items()):
        writer.write(name, messages)
    if work.options.cpu_cap:
        writer.write("cpuinfo", [cpu.to_message(cpu.this_cpu())])
    writer.write("inventory", [describe.inventory(work.run_id, work.uptime_us)])
    with work.files.links() as links:
        writer.sync()
        work.pages.commit()
        writer.commit()
        links.keep()
    work.stats.memwrite_us = (time.monotonic_ns() - before) // 1000


def _model(root: int, frozen: Frozen) -> Tree:
    dead = {}
    for pid, (raw, _) in frozen.zombies.items():
        stat = parse_stat(raw)
        dead[pid] = (stat.ppid, stat.pgrp, stat.session)
    alive = {s.pid: (s.facts, bool(s.task.stopped)) for s in frozen.snapshots}
    return tree_model(root, alive, dead)


def _judge(work: Work) -> None:
    """Refuse what turned up between the preflight and the freeze."""
    with ProcDir(os.getpid()) as own:
        ours = surroundings_of(own)
    found: list[Refusal] = []
    for taken in work.frozen.snapshots:
        assert taken.inside is not None
        tracked, risk = taken.pid in work.tracked, work.options.risk_seccomp
        found.extend(obstacles(taken.facts, ours, tracked=tracked, risk_seccomp=risk))
        found.extend(describe.unknown_state(taken))
        found.extend(group_obstacles(taken.facts, work.groups))
    refusals, notes = work.frozen.objects.judge()
    found.extend(refusals)
    for note in notes:
        work.report.warn(note)
    tree = _model(work.options.tree, work.frozen)
    found.extend(birth_obstacles(tree, work.frozen.sharing, work.options))
    refuse(found)
