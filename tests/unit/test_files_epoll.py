"""Which descriptions an epoll instance watches, where numbers do not tell."""

from __future__ import annotations

import os

from ckpt.files import FileOptions
from ckpt.files.descriptor import look_at_all
from ckpt.files.dumping import DumpView
from ckpt.files.epoll import EpollDump
from ckpt.procfs.reader import ProcDir
from tests.support import descriptors as ds


def test_targets_are_found_under_other_numbers() -> None:
    """Sockets by their inodes, of all else kcmp(2) tells."""
    code = (
        "import select\np = select.epoll()\ns, t = socket.socketpair()\n"
        "e, f = os.eventfd(0), os.eventfd(0)\n"
        "for g in (s.fileno(), t.fileno(), e, f): p.register(g)\n"
        "a, b = fcntl.fcntl(s, fcntl.F_DUPFD, 100), fcntl.fcntl(e, fcntl.F_DUPFD, 101)\n"
        "c, d = s.detach(), e\nos.close(c)\nos.dup2(f, d)\n"
        "stand(p.fileno(), a, b, c, d, t.fileno(), f)"
    )
    with ds.Stander(code) as child:
        pid, p, a, b, c, d, *_ = child.said[0]
        view = DumpView(FileOptions())
        view.pidfds[pid] = os.pidfd_open(pid)
        with ProcDir(pid) as proc:
            table = {seen.fd: seen for seen in look_at_all(proc, None)}
        view.described += [(seen, 1000 + fd) for fd, seen in table.items()]
        kind = EpollDump(view)
        kind.hold(table[p], 1000 + p)
        assert list(kind.settle()) == []
        view.close()
        os.close(view.pidfds[pid])
    found = {(m.tfd, m.file_id) for m in kind.images()["ckpt-epoll"]}
    assert found == {(c, 1000 + a), (d, 1000 + b)}
