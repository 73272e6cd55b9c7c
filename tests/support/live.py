"""What tests of live dumps share: a copy restored beside its original, and nothing left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.fault.injection import eventually
from tests.support.case import Case
from tests.support.victim import SUCCESS, Victim

_FRESH = ("unshare", "--pid", "--fork", "--mount-proc", "--net", "--ipc", "--mount")


def check_beside(case: Case, victim: Victim, images: Path) -> None:
    """Restore in fresh PID, network, IPC and mount namespaces, with a folder of its own in the
    place of the victim's, while the original runs on; the copy must end with success."""
    copy = images.with_name(f"{images.name}-copy")
    copy.mkdir(mode=0o777)
    copy.chmod(0o777)
    for entry in victim.folder.iterdir():
        if entry.is_fifo():
            os.mkfifo(copy / entry.name)
            (copy / entry.name).chmod(0o666)
        else:
            (copy / entry.name).write_bytes(entry.read_bytes())
    go = os.open(copy / "go", os.O_RDWR | os.O_CLOEXEC)
    try:
        command = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
        restore = case.ckpt.argv("restore", "-D", str(images), "--exit-status")
        done = subprocess.run(
            [*_FRESH, "sh", "-c", command, "sh", str(copy), str(victim.folder), *restore],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        os.close(go)
    out = (copy / "out").read_text()
    assert done.returncode == 0, f"{done.stderr}\n{out}"
    assert out.rstrip().endswith(SUCCESS), out


LOOKS = [
    ("dump", "--leave-running"),
    ("dump", "--live=wp"),
    ("dump", "--live=wp", "--live-catch=always"),
    ("dump", "--live=fork"),
    ("pre-dump", "--track-mode=async"),
    ("pre-dump", "--track-mode=sync"),
]
"""Commands that look at a tree which runs on."""


def killed_after(argv: list[str], delay_s: float) -> None:
    """Kill a command so long after its start; it may have ended by then."""
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        with suppress(subprocess.TimeoutExpired):
            process.wait(delay_s)
        process.kill()


def killed_at(argv: list[str], stage: str, delay_s: float) -> None:
    """Kill a dump `delay_s` after it says that it is at `stage`; it may have ended by then."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writer
    ) as process:
        os.close(writer)
        said = b""
        while stage.encode() not in said:
            more = os.read(reader, 4096)
            if not more:
                break
            said += more
        # Not to wait for something to happen, but to be anywhere in what follows.
        select.select([], [], [], delay_s)
        os.kill(process.pid, signal.SIGKILL)
    os.close(reader)


def _status(task: Path) -> str:
    try:
        return (task / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return ""


def traces(pid: int) -> dict[str, object]:
    """What a snapshot could leave in a task: a userfaultfd, a registration, a tracer."""
    smaps = Path(f"/proc/{pid}/smaps").read_text()
    marked = [line for line in smaps.splitlines() if line.startswith("VmFlags:") and " u" in line]
    tracers = {
        line
        for task in Path(f"/proc/{pid}/task").iterdir()
        for line in _status(task).splitlines()
        if line.startswith("TracerPid:") and not line.endswith("\t0")
    }
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # a target that runs closes descriptors
            links.append(str(entry.readlink()))
    return {
        "marked": marked,
        "tracers": tracers,
        "userfaultfds": [link for link in links if "userfaultfd" in link],
    }


def await_no_traces(*pids: int) -> None:
    """After a dump that was killed: what it has left inside goes home by itself."""

    def clean() -> bool:
        return all(traces(pid) == NOTHING for pid in pids)

    assert eventually(clean), [traces(pid) for pid in pids]


NOTHING: dict[str, object] = {"marked": [], "tracers": set(), "userfaultfds": []}
