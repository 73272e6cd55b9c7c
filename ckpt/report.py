"""How an orchestrator speaks to whoever started it. This class says nothing; the command line's
subclass (ckpt.cli.log) writes CRIU's log lines and draws a bar, a test's subclass keeps a list.

Every call may come from inside the frozen window: an implementation must neither block for long
nor import anything in the calling thread. Not guaranteed: that what is reported is ever seen.
"""

from __future__ import annotations


class Report:
    """The silent report, and the interface that others override."""

    @property
    def output_lfd(self) -> int:
        """Our descriptor for what a program says that works for us: standard error, or the log."""
        return 2

    def error(self, text: str) -> None:
        """Something failed and the work ends, or harm was done that can't be put right."""

    def warn(self, text: str) -> None:
        """The work goes on, but something is worse than asked for."""

    def info(self, text: str) -> None:
        """A step that an operator would want to see in a log."""

    def debug(self, text: str) -> None:
        """A detail that helps to find a defect."""

    def stage(self, name: str) -> None:
        """A new stage begins: one or two words, such as "freeze" or "memory"."""

    def result(self, text: str) -> None:
        """What one of several rounds has come to: for whoever watches."""

    def progress(self, done_bytes: int, total_bytes: int) -> None:
        """`done_bytes` of `total_bytes` of this stage are moved. Cheap: call it as often as a
        C loop returns. `total_bytes` 0 means that the size is not known."""
