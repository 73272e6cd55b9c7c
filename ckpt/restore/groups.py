"""Process groups, and the end of those who were only needed to make them.

1. leaders of groups found them; helpers take the numbers of dead leaders;
2. everybody else joins;
3. helpers end and are reaped; zombies end and are not.
"""

from __future__ import annotations

import os
import signal
import struct
import time
from typing import TYPE_CHECKING

from ckpt.errors import DeadlineError, TargetError
from ckpt.images.text import get_text
from ckpt.infect.batch import Batch
from ckpt.task import thread

if TYPE_CHECKING:
    from ckpt.pstree.model import Task
    from ckpt.restore.build import Built, Site

_SIG_SETMASK = 2
_RLIMIT_CORE = 4
_END_TIMEOUT_S = 10.0


def join_groups(site: Site) -> None:
    """Steps 1 and 2."""
    tree = site.plan.tree
    for helper in site.plan.births.group_helpers:
        _set_group(site.clone(helper.member, helper.pgid), helper.pgid)
    for task in tree:
        if task.leads_group and not task.leads_session:
            _set_group(site.tasks[task.pid], task.pid)
    for task in tree:
        outer = task.pgid not in tree and task.pgid not in site.plan.births.helpers()
        if not task.leads_group and not task.leads_session and not outer:
            _set_group(site.tasks[task.pid], task.pgid)


def _set_group(built: Built, pgid: int) -> None:
    batch = Batch()
    batch.call("setpgid", 0, pgid, note=f"group {pgid}")
    built.session.run(batch)


def end_the_dead(site: Site) -> None:
    """Step 3."""
    tree = site.plan.tree
    for pid, parent in site.plan.births.helpers().items():
        batch = Batch()
        batch.call("exit_group", 0)
        _end(site.tasks.pop(pid), batch)
        reap = Batch()
        reap.call("wait4", pid, 0, 0, 0, want=pid, note=f"helper {pid}")
        site.tasks[parent].session.run(reap)
    for task in reversed(list(tree)):
        if task.dead:
            _end(site.tasks.pop(task.pid), _last_words(site, task))


def _last_words(site: Site, task: Task) -> Batch:
    """The batch by which a zombie-to-be ends as its original did."""
    tc = site.loaded.dead[task.pid].tc
    batch = Batch()
    thread.restore_name(batch, get_text(tc, "comm"))
    killer = tc.exit_code & 0x7F
    mask = batch.put(struct.pack("<Q", tc.blk_sigset & ~(1 << killer >> 1)))
    if killer:
        # No core dump may come of it, whatever the limits here are.
        batch.call("setrlimit", _RLIMIT_CORE, batch.put(bytes(16)))
        batch.call("rt_sigaction", killer, batch.put(bytes(32)), 0, 8, any_result=True)
        batch.call("rt_sigprocmask", _SIG_SETMASK, mask, 0, 8)
        batch.call("kill", task.pid, killer)
    batch.call("rt_sigprocmask", _SIG_SETMASK, mask, 0, 8)
    batch.call("exit_group", tc.exit_code >> 8 & 0xFF)
    return batch


def _end(built: Built, batch: Batch) -> None:
    """Run a batch that does not come back, and wait until the task has ended."""
    raw = built.session.start(batch)
    try:
        answered = _ended_or_answered(built)
        if answered is False:
            return
        signal.pidfd_send_signal(built.pidfd, signal.SIGKILL)
        if answered:
            built.session.finish(batch, len(raw))
        raise DeadlineError("it does not end", pid=built.pid)
    except ProcessLookupError as error:
        raise TargetError("it is gone", pid=built.pid) from error
    finally:
        built.session.close()
        os.close(built.pidfd)


def _ended_or_answered(built: Built) -> bool | None:
    """False: the task has ended. True: it answers instead, so the batch has failed. None: neither
    came in time."""
    import select

    poll = select.poll()
    poll.register(built.pidfd, select.POLLIN)
    poll.register(built.session, select.POLLIN)
    until = time.monotonic() + _END_TIMEOUT_S
    while (left_s := until - time.monotonic()) > 0:
        events = dict(poll.poll(left_s * 1000))
        if built.pidfd in events:
            return False
        if events and events[built.session.fileno()] == select.POLLIN:
            return True
        if events:
            poll.unregister(built.session)  # closed: its end is near
    return None
