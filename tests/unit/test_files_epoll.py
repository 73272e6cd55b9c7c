"""Which descriptions an epoll instance watches, where numbers do not tell."""

from __future__ import annotations

import os
import select
from pathlib import Path
from typing import Any

import pytest

from ckpt._native import lib
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


_CROWD = """
import select
p = select.epoll()
I, X, ONCE = select.EPOLLIN, select.EPOLLEXCLUSIVE, select.EPOLLONESHOT
ways = (I, I | select.EPOLLET, I | ONCE, I | X)
fds = []
for i in range(300):
    f = os.pipe()[0] if i % 3 == 0 else os.eventfd(i % 2)
    p.register(f, ways[i % 4])
    fds.append(f)
told = len(p.poll(0, 1000))
e, f, g = fds[0], fds[4], os.eventfd(0)
kept = fcntl.fcntl(f, fcntl.F_DUPFD, 900)
os.dup2(g, f)
def again():
    return len(p.poll(0, 1000))
"""


@pytest.mark.parametrize("kcmp", [True, False])
def test_many_are_asked_at_once(monkeypatch: pytest.MonkeyPatch, *, kcmp: bool) -> None:
    """Both ways find the same descriptions, and the instance stays as it was: what it has to tell,
    and how it is shown."""
    if kcmp:
        monkeypatch.setattr("ckpt.files.epoll._MANY", 10_000)
    asked: list[Any] = []
    real = lib.ckpt_epoll_watches

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(lib, name)

        def ckpt_epoll_watches(self, *args: Any) -> int:
            result: int = real(*args)
            asked.extend(slot.fd for slot in args[2] if slot.present)
            return result

    monkeypatch.setattr("ckpt.files.epoll.lib", Counting())
    with ds.Stander(_CROWD + "stand(p.fileno(), f, kept, again(), *fds)") as child:
        pid, p, replaced, kept, _, *fds = child.said[0]
        pidfd = os.pidfd_open(pid)
        own = _ours(pidfd, p)
        before = _shown(own)
        view = DumpView(FileOptions())
        view.pidfds[pid] = pidfd
        with ProcDir(pid) as proc:
            table = {seen.fd: seen for seen in look_at_all(proc, None)}
        view.described += [(seen, 1000 + fd) for fd, seen in table.items()]
        kind = EpollDump(view)
        kind.hold(table[p], 1000 + p)
        assert list(kind.settle()) == []
        found = {w.tfd: target for w, target in kind._watched[1000 + p]}
        assert found == {fd: 1000 + (kept if fd == replaced else fd) for fd in fds}
        assert _shown(own) == before
        with select.epoll.fromfd(own) as instance:
            told = {fd for fd, _ in instance.poll(0, 1000)}
        view.close()
        os.close(pidfd)
    # Only those that wait for a level are told of again; edges and one-shots were told already.
    assert told == {fd for i, fd in enumerate(fds) if i % 3 and i % 2 and i % 4 == 3}
    assert replaced not in asked
    # All that is neither one-shot nor an edge that has something to tell, but the replaced.
    wanted = {fd for i, fd in enumerate(fds) if i % 4 in (0, 3) or (i % 4 == 1 and i % 3 == 0)}
    assert set(asked) == (set() if kcmp else wanted - {replaced})


def _ours(pidfd: int, fd: int) -> int:
    lfd: int = lib.ckpt_pidfd_getfd(pidfd, fd)
    assert lfd >= 0
    return lfd


def _shown(lfd: int) -> str:
    return Path(f"/proc/self/fdinfo/{lfd}").read_text()
