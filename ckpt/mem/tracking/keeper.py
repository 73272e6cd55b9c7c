"""The process that holds the engines of one tree: `python -m ckpt.mem.tracking.keeper ...`.

Started by ckpt.mem.tracking.client, which has made and bound the socket. It is nobody's child to be
waited for, has no terminal, no directory but the root, and no descriptor of its starter's.

The order at the end: engines are closed, so that no protection is left in any target; the socket's
name is removed while we still listen, so that nobody takes it for a stale one; the process ends,
which is the answer to `untrack`. After SIGKILL the kernel does the first, the next client the
second. An error that nobody expected ends it in the same order, and is told to syslog(3).
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def main(arguments: list[str]) -> int:
    """ROOT_PID START_TIME MODE LISTENING_FD FOLDER_FD NAME"""
    if os.fork():
        return 0
    root_pid, start_time, listening_fd, folder_fd = (int(arguments[i]) for i in (0, 1, 3, 4))
    name = arguments[5]
    os.set_inheritable(listening_fd, False)
    os.set_inheritable(folder_fd, False)
    try:
        _keep(root_pid, start_time, arguments[2], listening_fd)
    except Exception as error:
        import syslog

        syslog.syslog(syslog.LOG_ERR, f"ckpt: the keeper of pid {root_pid} ends: {error!r}")
        return 1
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder_fd)  # still listening: see above
    return 0


def _keep(root_pid: int, start_time: int, mode: str, listening_fd: int) -> None:
    """Until there is nothing more to keep. All engines are closed then, whatever happens."""
    import gc
    import resource
    import socket
    from pathlib import Path

    from ckpt.mem.tracking.choose import make_engine
    from ckpt.mem.tracking.engine import Mode
    from ckpt.mem.tracking.requests import Requests
    from ckpt.mem.tracking.serving import Server
    from ckpt.procfs.tree import look

    Path("/proc/self/comm").write_text("ckpt-keeper")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listening = socket.socket(fileno=listening_fd)
    try:
        root_pidfd = os.pidfd_open(root_pid)
    except ProcessLookupError:
        return
    task = look(root_pid)
    if task is None or task.starttime != start_time:
        return
    requests = Requests(root_pid, Mode(mode), make_engine)
    server = Server(listening, requests, root_pidfd)
    gc.collect()
    gc.freeze()
    try:
        server.run()
    finally:
        requests.close()
        listening.detach()  # the end of the process hangs up, after the name is gone


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
