"""A signal that ends ckpt in the moment in which a script begins: the script ends, too."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from ckpt.actions import Actions, Event
from ckpt.report import Report


class EndedError(Exception):
    pass


def test_a_signal_while_a_script_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\nsleep 1000\n")
    script.chmod(0o755)
    begun: list[subprocess.Popen[bytes]] = []
    spawn = Actions._spawn

    def spawn_and_end(self: Actions, name: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
        begun.append(spawn(self, name, env))
        signal.raise_signal(signal.SIGTERM)
        return begun[0]

    def end(*_: object) -> None:
        raise EndedError

    monkeypatch.setattr(Actions, "_spawn", spawn_and_end)
    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(EndedError):
            Actions([str(script)], tmp_path, Report()).run(Event.PRE_DUMP)
        assert signal.getsignal(signal.SIGTERM) is end
    finally:
        signal.signal(signal.SIGTERM, before)
    assert begun[0].returncode == -signal.SIGKILL
