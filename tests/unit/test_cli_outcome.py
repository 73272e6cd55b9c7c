"""One exit code for each kind of end, with orchestrators that end in that way."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ckpt import errors
from ckpt.cli.__main__ import main
from ckpt.dump.options import DumpOptions
from ckpt.record import field, record
from ckpt.report import Report
from ckpt.restore.options import InheritFd, RestoreOptions


@record
class FakeStats:
    frozen_us: int = 1500
    pages_written: int = 7
    rate: float = 1.5
    nested: dict[str, int] = field(default_factory=lambda: {"a": 1})


@record
class FakeResult:
    pid: int = 0
    stats: FakeStats = field(default_factory=FakeStats)
    plan: tuple[str, ...] = ("open file 1", "clone 5")


@record
class Orchestrators:
    """Takes the place of ckpt.dump.run and ckpt.restore.run."""

    options: Any = None
    error: BaseException | None = None
    stats: FakeStats = field(default_factory=FakeStats)
    result: FakeResult = field(default_factory=FakeResult)

    def dump(self, options: DumpOptions, report: Report) -> FakeStats:
        self._called(options, report)
        return self.stats

    def restore(self, options: RestoreOptions, report: Report, _: object = None) -> FakeResult:
        self._called(options, report)
        return self.result

    def _called(self, options: object, report: Report) -> None:
        self.options = options
        report.info("at work")
        if self.error is not None:
            raise self.error


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Orchestrators:
    fake = Orchestrators()
    for verb in ("dump", "restore"):
        module = ModuleType(f"ckpt.{verb}.run")
        setattr(module, verb, getattr(fake, verb))
        monkeypatch.setitem(sys.modules, f"ckpt.{verb}.run", module)
        monkeypatch.setattr(f"ckpt.{verb}.run", module, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CKPT_CONFIG_FILE", raising=False)
    return fake


DUMP = ["dump", "-t", "1"]
RESTORE = ["restore", "-d"]

KINDS = [
    (errors.CkptError("it broke"), 1),
    (errors.UsageError("is wrong"), 2),
    (errors.TargetError("is gone", pid=5), 4),
    (errors.ImageError("is rotten", resource="core-5.img"), 5),
    (errors.PeerError("has gone", resource="page server"), 10),
    (errors.RestoreError("is taken", pid=5), 6),
    (errors.KernelError("lacks it"), 7),
    (errors.DeadlineError("took too long"), 8),
    (errors.HarmError("is not as it was", pid=5), 9),
    (errors.ActionError("has failed"), 11),
    (errors.NotOneInstant("x"), 12),
]


@pytest.mark.parametrize("words", [DUMP, RESTORE], ids=["dump", "restore"])
@pytest.mark.parametrize(("error", "code"), KINDS, ids=[type(e).__name__ for e, _ in KINDS])
def test_exit_code_of_each_kind(
    error: errors.CkptError,
    code: int,
    words: list[str],
    fake: Orchestrators,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake.error = error
    assert main(words) == code
    assert error.exit_code == code
    err = capsys.readouterr().err
    assert err.startswith("Error (")
    assert str(error) in err


def test_every_kind_has_its_own_code() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and hasattr(k, "exit_code")]
    codes = [kind.exit_code for kind in kinds]
    assert len(codes) == len(set(codes))
    tested = {type(error) for error, _ in KINDS} | {errors.RefusedError}
    assert tested == set(kinds)


def test_each_refusal_is_a_line(
    fake: Orchestrators, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fake.error = errors.RefusedError(
        [errors.Refusal(5, "fd 3", "a socket", "close it"), errors.Refusal(6, "fd 4", "a timer")]
    )
    assert main([*DUMP, "-o", "log"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("): ")[2] for line in lines] == [
        "can't be dumped: pid 5: fd 3: a socket (close it)",
        "can't be dumped: pid 6: fd 4: a timer",
    ]
    assert (tmp_path / "log").read_text().count("can't be dumped") == 2


def test_a_defect_is_1_and_leaves_its_traceback_in_the_log(
    fake: Orchestrators, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fake.error = ZeroDivisionError("oops")
    assert main([*DUMP, "-o", "log", "-v4"]) == 1
    assert "ZeroDivisionError: oops" in capsys.readouterr().err
    assert "Traceback" in (tmp_path / "log").read_text()


def test_an_error_of_the_kernel_that_nobody_foresaw(
    fake: Orchestrators, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.error = PermissionError(13, "Permission denied", "/x")
    assert main(DUMP) == 1
    assert "Permission denied: '/x'" in capsys.readouterr().err


NO_MORE = [
    (MemoryError(), "memory (raise its limit (ulimit -v"),
    (ImportError("libx.so: failed to map segment from shared object"), "memory (raise its limit"),
    (RuntimeError("can't start new thread"), "threads (raise its limit (ulimit -u"),
]


@pytest.mark.parametrize(("error", "text"), NO_MORE, ids=["memory", "loader", "threads"])
def test_no_memory_or_threads_for_ckpt_itself_is_no_defect(
    error: Exception, text: str, fake: Orchestrators, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.error = error
    assert main(DUMP) == errors.KernelError.exit_code
    assert f"ckpt itself gets no more {text}" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "text"), NO_MORE, ids=["memory", "loader", "threads"])
def test_what_could_not_go_on_is_told_too(error: Exception, text: str) -> None:
    with pytest.raises(errors.KernelError) as found, errors.refused_by_kernel("it can't go on"):
        raise error
    assert f"it can't go on: ckpt itself gets no more {text}" in str(found.value)


@pytest.mark.parametrize("error", [RuntimeError("other"), ImportError("no module")], ids=repr)
def test_a_defect_stays_one(error: Exception) -> None:
    with pytest.raises(type(error)), errors.refused_by_kernel("it can't go on"):
        raise error


def test_interrupt(fake: Orchestrators, capsys: pytest.CaptureFixture[str]) -> None:
    fake.error = KeyboardInterrupt()
    assert main(DUMP) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("fake")
def test_a_signal_leads_through_every_scope(
    signum: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[str] = []
    # Whoever runs the tests may have it ignored (nohup), and then it is for ckpt.
    usual = signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL
    inherited = signal.signal(signum, usual)

    def dump(_options: DumpOptions, _report: Report) -> FakeStats:
        try:
            signal.raise_signal(signum)
        finally:
            # A second signal must not end the clean-up.
            signal.raise_signal(signum)
            left.append("cured")
        return FakeStats()

    monkeypatch.setattr("ckpt.dump.run.dump", dump)
    try:
        assert main(DUMP) == 128 + signum
        assert left == ["cured"]
        assert signal.getsignal(signum) == usual
    finally:
        signal.signal(signum, inherited)


@pytest.mark.parametrize(
    "words",
    [[], ["bogus"], ["dump"], ["migrate", "-t", "1"], [*DUMP, "x"], [*DUMP, "--bogus"]],
    ids=" ".join,
)
def test_wrong_calls_are_2(
    words: list[str], fake: Orchestrators, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("Error (ckpt/cli/")
    assert fake.options is None


def test_verbs_to_come_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["swrk"]) == 2
    assert "swrk: not yet" in capsys.readouterr().err


@pytest.mark.usefixtures("fake")
def test_folders_that_are_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DUMP, "-D", "gone"]) == 5
    assert "--images-dir gone" in capsys.readouterr().err
    assert main([*DUMP, "-W", "gone"]) == 2
    assert "(mkdir -p gone)" in capsys.readouterr().err


def test_options_reach_the_dump(fake: Orchestrators, tmp_path: Path) -> None:
    (tmp_path / "i").mkdir()
    (tmp_path / "w").mkdir()
    words = "-Di -W w -j -l -R --timeout 2.5 --external file[1:2] --no-checksums --cpu-cap=none"
    assert main([*DUMP, *words.split()]) == 0
    assert fake.options == DumpOptions(
        tree=1,
        images_dir=Path("i"),
        work_dir=Path("w"),
        leave_running=True,
        shell_job=True,
        file_locks=True,
        external=("file[1:2]",),
        timeout_s=2.5,
        cpu_cap=frozenset(),
        checksums=False,
    )
    assert main([*DUMP, "-s"]) == 0
    assert fake.options == DumpOptions(
        tree=1, images_dir=Path(), work_dir=Path(), leave_stopped=True
    )


def test_options_reach_the_restore(fake: Orchestrators, tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    words = "-S -s -j -l -Ww --pidfile p --inherit-fd fd[0]:pipe:[7] --external tty[1:2]"
    words += " --skip-file-rwx-check"
    assert main([*RESTORE, *words.split(), "--cpu-cap", "--no-checksums", "--dry-run"]) == 0
    assert fake.options == RestoreOptions(
        images_dir=Path("w").parent,
        work_dir=Path("w"),
        restore_detached=True,
        restore_sibling=True,
        leave_stopped=True,
        shell_job=True,
        pidfile=Path("w/p"),
        inherit_fd=(InheritFd(0, "pipe:[7]"),),
        external=("tty[1:2]",),
        file_locks=True,
        skip_file_rwx_check=True,
        cpu_cap=frozenset({"fpu", "ins", "cpu"}),
        checksums=False,
        dry_run=True,
    )


@pytest.mark.parametrize(
    "words",
    [["-S"], ["--exec-cmd"], ["-d", "--exec-cmd", "--", "true"], ["x"]],
    ids=" ".join,
)
def test_options_that_don_t_go_together(words: list[str], fake: Orchestrators) -> None:
    assert main(["restore", *words]) == 2
    assert fake.options is None


def test_without_detaching_it_waits_and_returns_0_as_criu_does(fake: Orchestrators) -> None:
    fake.result.pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], {})
    assert main(["restore"]) == 0
    with pytest.raises(ChildProcessError):
        os.waitpid(fake.result.pid, 0)


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -9 $$", 137)])
def test_exit_status_on_request(script: str, code: int, fake: Orchestrators) -> None:
    fake.result.pid = os.posix_spawn("/bin/sh", ["sh", "-c", script], {})
    assert main(["restore", "--exit-status"]) == code


@pytest.mark.usefixtures("fake")
def test_a_command_that_cannot_be_executed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["restore", "--exec-cmd", "--", "/no/such"]) == 6
    assert "the tree is restored and runs" in capsys.readouterr().err


@pytest.mark.usefixtures("fake")
def test_statistics(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(DUMP) == 0
    assert capsys.readouterr().out == ""
    assert main([*DUMP, "--display-stats"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Displaying dump stats:",
        "Frozen time: 1500 us",
        "Pages written: 7",
        "Rate: 1.5",
    ]
    assert main([*DUMP, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nested"] == {"a": 1}
    assert main([*RESTORE, "--display-stats"]) == 0
    assert "Pages written: 7" in capsys.readouterr().out.splitlines()
    assert main([*RESTORE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stats"]["frozen_us"] == 1500


@pytest.mark.usefixtures("fake")
def test_the_plan_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["restore", "--dry-run"]) == 0
    assert capsys.readouterr().out == "open file 1\nclone 5\n"


@pytest.mark.usefixtures("fake")
def test_the_log_is_in_the_work_folder(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    assert main([*DUMP, "-W", "w", "-o", "log", "-v3", "--allow-uprobes"]) == 0
    text = (tmp_path / "w/log").read_text()
    assert "--allow-uprobes has no effect" in text
    assert "at work" in text


@pytest.mark.usefixtures("fake")
def test_close() -> None:
    reader, writer = os.pipe()
    assert main([*DUMP, f"--close={writer}"]) == 0
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert main([*DUMP, f"--close={writer}"]) == 2
