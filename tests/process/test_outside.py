"""What is outside the tree: pipes, files, terminals of others, and the controller's own state."""

from __future__ import annotations

import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.requirements import require
from tests.support import processes, visible
from tests.support.case import Case
from tests.support.ckptcmd import CKPT
from tests.support.programs import capabilities, program
from tests.support.victim import SUCCESS, Victim
from tests.support.waiting import wait_until


def start_reading(case: Case, source: int) -> Victim:
    """The victim that reads words from `source`, which becomes its standard input."""
    binary = program("outside/standard_input").build(case.built)
    victim = case.start_command(str(binary), stdin=source)
    victim.wait_ready()
    return victim


def test_pipe_from_outside(case: Case) -> None:
    """The dump warns, a restore without `--inherit-fd fd[N]:pipe:[INODE]` is an error."""
    reader, writer = os.pipe()
    os.write(writer, b"one ")
    victim = start_reading(case, reader)
    inode = os.fstat(reader).st_ino
    pids = victim.tree
    said = case.ckpt.dump(victim.pid, case.images).ok().log
    assert "Warn" in said and f"pipe:[{inode}]" in said, said
    victim.await_gone(pids)
    os.close(reader)
    os.close(writer)
    case.ckpt.restore(case.images).failed(6, f"pipe:[{inode}]", "--inherit-fd")
    assert not any(processes.state(pid) for pid in pids)
    other_reader, other_writer = os.pipe()
    inherit = f"fd[{other_reader}]:pipe:[{inode}]"
    case.ckpt.restore(case.images, "--inherit-fd", inherit, pass_fds=(other_reader,)).ok()
    os.close(other_reader)
    os.write(other_writer, b"two")
    os.close(other_writer)
    victim.finish()


def test_file_from_outside(case: Case) -> None:
    """`--external file[MNT_ID:INODE]`: another file stands in, at the same offset."""
    source = case.folder / "source"
    source.write_text("one two")
    lfd = os.open(source, os.O_RDONLY)
    victim = start_reading(case, lfd)
    facts = dict(
        line.split(":\t") for line in Path(f"/proc/self/fdinfo/{lfd}").read_text().splitlines()
    )
    name = f"file[{int(facts['mnt_id']):x}:{os.fstat(lfd).st_ino:x}]"
    os.close(lfd)
    pids = victim.tree
    options = ("--external", name, "--external", "file[fff:1]")
    said = case.ckpt.dump(victim.pid, case.images, *options).ok().log
    assert "--external file[fff:1]: the tree has no such thing" in said
    assert f"--external {name}:" not in said
    victim.await_gone(pids)
    source.unlink()
    (case.folder / "other").write_text("ONE two")
    other = os.open(case.folder / "other", os.O_RDONLY)
    case.ckpt.restore(case.images, "--inherit-fd", f"fd[{other}]:{name}", pass_fds=(other,)).ok()
    os.close(other)
    victim.finish()


# Leads a session on the terminal that it gets as standard input, as a login shell does: starts its
# argument there, and on each line of its control FIFO runs that line's words as a command.
SHELL = """
import fcntl, os, signal, subprocess, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
control, answer = os.environ["CONTROL"], os.environ["ANSWER"]
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = subprocess.Popen(sys.argv[1:], process_group=0)
os.tcsetpgrp(0, job.pid)
with open(answer, "w") as out:
    print(job.pid, file=out)
with open(control) as commands:
    for line in commands:
        job.wait()
        code = subprocess.run(line.split()).returncode
        os.tcsetpgrp(0, job.pid)
        with open(answer, "w") as out:
            print(code, file=out)
"""


def test_job_of_a_shell(case: Case) -> None:
    """`--shell-job`: session and terminal are the shell's, who restores is a shell there too."""
    master, slave = pty.openpty()
    control, answer = case.folder / "control", case.folder / "answer"
    os.mkfifo(control)
    os.mkfifo(answer)
    binary = str(program("outside/terminal").build(case.built))
    shell = case.start_command(
        sys.executable,
        "-c",
        SHELL,
        binary,
        stdin=slave,
        output=slave,
        CONTROL=str(control),
        ANSWER=str(answer),
    )
    os.close(slave)
    pid = int(answer.read_text())
    shell.wait_ready()
    before = visible.look(pid)
    case.ckpt.dump(pid, case.images).failed(3, "shell-job")
    case.ckpt.dump(pid, case.images, "--shell-job").ok()
    with control.open("w") as commands:
        log = case.folder / "restore.log"
        print(CKPT, "restore -D", case.images, "-d -j -v4 -o", log, file=commands, flush=True)
        assert int(answer.read_text()) == 0, log.read_text()
        visible.assert_same(before, visible.look(pid), ["*/PPid"])
        end_on(master, shell, pid)
    os.close(master)


def on_terminal(case: Case) -> tuple[Victim, int, int]:
    """A leader of a session on a new terminal: it, our master, our slave."""
    master, slave = pty.openpty()
    binary = str(program("outside/terminal_leader").build(case.built))
    leader = case.start_command(binary, stdin=slave, output=slave)
    leader.wait_ready()
    return leader, master, slave


def end_on(master: int, victim: Victim, pid: int) -> None:
    """Its process `pid` reads a line of its terminal, and says there that all is well."""
    os.write(master, b"word\n")
    victim.go()
    said = b""
    while SUCCESS.encode() not in said:
        said += os.read(master, 4096)
        assert b"FAIL" not in said, said
    processes.wait_end(pid)


def test_a_leader_gets_the_terminal_that_is_given(case: Case) -> None:
    """`--external tty[]`: session, foreground and /dev/tty are those of the new terminal, unless
    that is another session's."""
    leader, master, slave = on_terminal(case)
    node = os.fstat(slave)
    name = f"tty[{node.st_rdev:x}:{node.st_dev:x}]"
    case.ckpt.dump(leader.pid, case.images, "--shell-job").failed(3, "session", "--external")
    tree = leader.tree
    case.ckpt.dump(leader.pid, case.images, "--external", name).ok()
    leader.await_gone(tree)
    other, others_master, others_slave = on_terminal(case)
    case.ckpt.restore(case.images).failed(6, name, "--inherit-fd")
    given = ("--inherit-fd", f"fd[{others_slave}]:{name}")
    taken = case.ckpt.restore(case.images, *given, pass_fds=(others_slave,))
    taken.failed(6, "can't have the terminal", "controls no session yet")
    end_on(others_master, other, other.pid)
    new_master, new_slave = pty.openpty()
    given = ("--inherit-fd", f"fd[{new_slave}]:{name}")
    case.ckpt.restore(case.images, *given, pass_fds=(new_slave,)).ok()
    end_on(new_master, leader, leader.pid)
    for lfd in (master, slave, others_master, others_slave, new_master, new_slave):
        os.close(lfd)


def test_owner_that_is_the_group_of_a_job(case: Case) -> None:
    """The job joins the group of the `ckpt restore` that waits for it, and so does the owner of its
    descriptors."""
    victim = case.start_command(str(program("outside/group_owner").build(case.built)), job=True)
    victim.wait_ready()
    case.ckpt.dump(victim.pid, case.images, "--shell-job").ok()
    victim.await_gone([victim.pid])
    restore = subprocess.Popen(
        case.ckpt.argv("restore", "-D", case.images, "-j"),
        stdin=subprocess.DEVNULL,
        process_group=0,
    )
    victim.go()
    assert restore.wait(60) == 0
    assert victim.out.endswith(f"group changed\n{SUCCESS}\n"), victim.out


_FROM_OUTSIDE = """
set -e
victim=$1 folder=$2 images=$3 ckpt=$4
"$victim" < /dev/null > "$folder/out" 2> /dev/null &
cat "$folder/ready"
test "$(cut -d' ' -f5,6 /proc/$!/stat)" = "0 0"
"$ckpt" dump -t $! -D "$images" --shell-job
"$ckpt" restore -D "$images" && exit 1
exec 3<> "$folder/go"
"$ckpt" restore -D "$images" --shell-job --exit-status
"""


def test_job_of_a_session_from_outside_of_the_pid_namespace(case: Case) -> None:
    """As those are whom nobody has made a session: its number is 0, and so is that of its group."""
    folder = case.folder / "victim"
    folder.mkdir()
    case.images.mkdir()
    for name in ("ready", "go"):
        os.mkfifo(folder / name)
    binary = program("tree/children").build(case.built)
    words = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", _FROM_OUTSIDE, "sh"]
    done = subprocess.run(
        [*words, binary, folder, case.images, CKPT],
        env={**os.environ, "VICTIM_FOLDER": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--shell-job restores a root into the session" in done.stderr
    assert (folder / "out").read_text().endswith(f"{SUCCESS}\n"), done.stderr


def is_stopped(pid: int) -> bool:
    return processes.state(pid) == "T"


def test_leave_stopped(case: Case) -> None:
    """The tree stands after the dump, its images are whole, and SIGCONT lets it go on."""
    victim = case.start(program("tree/children"))
    case.ckpt.dump(victim.pid, case.images, "--leave-stopped").ok()
    pids = victim.tree
    for pid in pids:
        wait_until(pid, partial(is_stopped, pid))
    assert (case.images / "inventory.img").exists()
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    victim.finish()


def test_pidfile_and_dry_run(case: Case) -> None:
    """A dry run prints and makes nothing; a restore writes the pid of the root."""
    victim = case.start(program("tree/children"))
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    said = case.ckpt.run("restore", "-D", case.images, "--dry-run").ok().stdout
    assert all(str(pid) in said for pid in pids), said
    assert not any(processes.state(pid) for pid in pids)
    pidfile = case.folder / "pid"
    case.ckpt.restore(case.images, "--pidfile", str(pidfile)).ok()
    assert int(pidfile.read_text()) == victim.pid
    victim.finish()


def test_waits_when_not_detached(case: Case) -> None:
    """Without -d the command stays until the restored root has ended, and tells how."""
    victim = case.start(program("tree/children"))
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    restore = subprocess.Popen(
        case.ckpt.argv("restore", "-D", case.images), stdin=subprocess.DEVNULL
    )
    wait_until(restore.pid, lambda: processes.tree(restore.pid)[1:].count(victim.pid) == 1)
    victim.go()
    assert restore.wait(60) == 0
    assert victim.out.endswith(f"{SUCCESS}\n")


def test_nothing_of_the_controller_leaks_in(case: Case) -> None:
    """umask, working directory, limits, niceness, ignored and blocked signals, environment."""

    def surroundings() -> None:
        os.umask(0o077)
        os.chdir("/")
        os.nice(7)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGRTMIN})
        for which, soft in ((resource.RLIMIT_STACK, 1 << 20), (resource.RLIMIT_NOFILE, 200)):
            resource.setrlimit(which, (soft, resource.getrlimit(which)[1]))
        os.sched_setaffinity(0, {0})

    victim = case.start(program("tree/many_cycles"))
    before = visible.look(victim.pid)
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    held = [os.dup(0) for _ in range(50)]
    result = subprocess.run(
        case.ckpt.argv("restore", "-D", case.images, "-d"),
        stdin=subprocess.DEVNULL,
        preexec_fn=surroundings,
        pass_fds=held,
        env={"ODD": "x"},
        check=False,
    )
    for lfd in held:
        os.close(lfd)
    assert result.returncode == 0
    visible.assert_same(before, visible.look(victim.pid))
    victim.finish()


def test_a_low_limit_of_descriptors_is_raised(case: Case) -> None:
    """The soft one, for the time of the dump: a script has what ckpt was started with."""
    victim = case.start(program("files/many"))
    case.images.mkdir()
    told, script = case.folder / "told", case.folder / "script"
    script.write_text(f"#!/bin/sh\nulimit -Sn >> {told}\n")
    script.chmod(0o755)
    dump = case.ckpt.argv(
        *("dump", "-t", victim.pid, "-D", case.images, "-R", "--action-script", script)
    )
    done = subprocess.run(["prlimit", "--nofile=40:", *dump], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(told.read_text().split()) == {"40"}
    victim.finish()


def test_controller_leaves_nothing_behind(case: Case) -> None:
    """After a dump and after a restore no process of ckpt is left, only the tree itself."""
    victim = case.start(program("tree/children"))
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images, "-R").ok()
    assert sorted(processes.children(os.getpid())) == [victim.pid]
    case.ckpt.dump(victim.pid, case.folder / "again").ok()
    victim.await_gone(pids)
    case.ckpt.restore(case.images).ok()
    assert sorted(processes.children(os.getpid())) == [victim.pid]
    assert victim.tree == pids
    victim.finish()


def test_pipe_to_a_process_that_left_the_tree(case: Case) -> None:
    """It is told of at the dump, and what is left running still has it."""
    victim = case.start(program("outside/half_a_pipe"))
    said = case.ckpt.dump(victim.pid, case.images, "--leave-running").ok().log
    assert "outside the tree" in said, said
    victim.finish()


@pytest.mark.stress
def test_dumpable_for_root_alone(case: Case) -> None:
    """fs.suid_dumpable is the whole machine's: not where other tests run. Where a restore finds
    another value there, nobody can have the core, which a warning says."""
    require({"cap_setuid", "cap_sys_admin"} <= capabilities(), "no leave to set fs.suid_dumpable")
    setting = Path("/proc/sys/fs/suid_dumpable")
    before = setting.read_text()
    for here, dumpable in (("2", 2), ("0", 0)):
        try:
            setting.write_text("2")
            victim = case.start(program("outside/root_only"))
            case.ckpt.dump(victim.pid, case.images).ok()
            victim.await_gone([victim.pid])
            setting.write_text(here)
            restored = case.ckpt.restore(case.images).ok()
        finally:
            setting.write_text(before)
        assert ("suid_dumpable" in restored.log) is (dumpable == 0)
        victim.go()
        victim.verdict()
        assert f"dumpable {dumpable}" in victim.out
        shutil.rmtree(case.images)
