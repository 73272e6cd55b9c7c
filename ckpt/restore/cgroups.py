"""Which control groups the tasks of an image set go back to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.errors import ImageError
from ckpt.ns.cgroup_image import GroupsImage, read_groups
from ckpt.ns.cgroup_restore import GroupsRestore
from ckpt.ns.cgroups import IGNORE

if TYPE_CHECKING:
    from ckpt.ns.cgroups import GroupsAsked
    from ckpt.report import Report
    from ckpt.restore.load import Loaded


def cgroups_of(asked: GroupsAsked, loaded: Loaded, report: Report) -> GroupsRestore:
    """What a restore does about groups; nothing is looked at on this machine yet. Raises
    ImageError."""
    image = GroupsImage()
    wanted: dict[int, int] = {}
    if asked.mode != IGNORE:
        image = read_groups(loaded.chain.layers[0]).moved(asked.roots)
        for found in loaded.tasks.values():
            of_task = found.core.tc.cg_set
            for tid, core in found.threads.items():
                # CRIU before 3.18 has it for the whole task only.
                number = core.thread_core.cg_set or of_task
                if number not in (0, image.own):
                    wanted[tid] = number
    for tid, number in wanted.items():
        if number not in image.sets:
            raise ImageError(
                "makes no sense", resource=f"core-{tid}.img", why=f"no cgroup set {number}"
            )
    return GroupsRestore(image, wanted, asked.mode, asked.yard, report)
