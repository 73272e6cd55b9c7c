"""`ckpt restore`: from options to a call of the orchestrator, and then what CRIU does: with
`--restore-detached` it returns, with `--exec-cmd` it becomes the command, else it waits for the end
of the root and returns 0 whatever the root's status was. `--exit-status` returns that status."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import TYPE_CHECKING

from ckpt.cli.cgroups import restore_cgroups
from ckpt.cli.output import printable, show
from ckpt.cli.stats import as_json, as_lines
from ckpt.errors import RestoreError, UsageError
from ckpt.kerndat.cpufeature import DEFAULT_CPU_CAP
from ckpt.record import replace
from ckpt.restore.options import Lazily, RestoreOptions

if TYPE_CHECKING:
    from pathlib import Path

    from ckpt.cli.parser import Args
    from ckpt.mem.missing.client import Holder
    from ckpt.report import Report
    from ckpt.restore.run import RestoreResult

_HOLDER_S = 60


def run(args: Args) -> int:
    """0, the root's status with `--exit-status`, or what the restore raises."""
    options = options_of(args)
    if args.at is None:
        result = _restore(args, options)
    else:
        from ckpt.store.generations import pick, steady

        # Thinning leaves the store as it is until all of it is loaded.
        with steady(args.images_dir):
            chosen = pick(args.images_dir, args.at)
            args.report.info(f"generation {chosen.number} of {chosen.instant:%Y-%m-%d %H:%M:%S}")
            result = _restore(args, replace(options, images_dir=chosen.path))
    if args.json:
        show(as_json(result))
    elif args.dry_run:
        show(*map(printable, result.plan))
    elif args.display_stats:
        show("Displaying restore stats:", *as_lines(result.stats))
    if options.dry_run or options.restore_detached:
        return 0
    if args.exec_cmd:
        return become(args.operands)
    if args.shell_job:
        # What is typed is meant for the tree, which is of our group: we wait for its end.
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
    status = wait_for(result.pid, args.report)
    return status if args.exit_status else 0


def _restore(args: Args, options: RestoreOptions) -> RestoreResult:
    lazily = _lazily(args, options.images_dir)
    # Only now: what the orchestrator imports takes longer than everything up to here.
    from ckpt.restore.run import restore

    return restore(options, args.report, lazily)


def options_of(args: Args) -> RestoreOptions:
    """Raises UsageError for what no single option can know."""
    if args.restore_sibling and not args.restore_detached:
        raise UsageError("makes sense only with --restore-detached", resource="--restore-sibling")
    if args.exec_cmd and args.restore_detached:
        raise UsageError("can't go with --restore-detached", resource="--exec-cmd")
    if args.exec_cmd and not args.operands:
        raise UsageError("the command is missing", resource="--exec-cmd", hint="-- COMMAND ...")
    if args.lazy and args.lazy_pages:
        raise UsageError("can't go with --lazy-pages", resource="--lazy", why="it does both parts")
    return RestoreOptions(
        images_dir=args.images_dir,
        work_dir=args.work_dir,
        restore_detached=args.restore_detached,
        restore_sibling=args.restore_sibling,
        leave_stopped=args.leave_stopped,
        shell_job=args.shell_job,
        pidfile=None if args.pidfile is None else args.work_dir / args.pidfile,
        inherit_fd=args.inherit_fd,
        external=args.external,
        file_locks=args.file_locks,
        skip_file_rwx_check=args.skip_file_rwx_check,
        ext_unix_sk=args.ext_unix_sk,
        tcp_established=args.tcp_established,
        tcp_close=args.tcp_close,
        network_lock=args.network_lock or "nftables",
        file_validation=args.file_validation or "filesize",
        cpu_cap=DEFAULT_CPU_CAP if args.cpu_cap is None else args.cpu_cap,
        cgroups=restore_cgroups(args),
        checksums=args.checksums,
        dry_run=args.dry_run,
        join_ns=args.join_ns,
        action_script=args.action_script,
    )


def _lazily(args: Args, images_dir: Path) -> Lazily | None:
    """How the pages come late, if they shall."""
    if not (args.lazy or args.lazy_pages):
        if args.track_mem:
            args.report.warn("--track-mem has no effect on a restore without --lazy")
        return None
    if args.dry_run:
        return None
    if args.lazy_pages:
        return Lazily(partial(_other_holder, args), gives_pages=False, tracks=args.track_mem)
    from ckpt.lazy.start import numbers_of, start_holder

    # Now: before this process has a second thread.
    avoid = numbers_of(images_dir)
    holder = start_holder(args.work_dir, args.report, need_name=False, avoid=avoid)
    return Lazily(lambda: holder, gives_pages=True, tracks=args.track_mem)


def _other_holder(args: Args) -> Holder:
    """Of `ckpt lazy-pages`, which may be started after us."""
    from ckpt.mem.missing.client import SOCKET, Holder

    holder = Holder.find(args.work_dir)
    if holder is None:
        args.report.warn(f"waiting for ckpt lazy-pages at {args.work_dir / SOCKET}")
        holder = Holder.find(args.work_dir, wait_s=_HOLDER_S)
    if holder is None:
        raise RestoreError(
            "nobody listens",
            resource=str(args.work_dir / SOCKET),
            why=f"no ckpt lazy-pages within {_HOLDER_S} s",
            hint="start it with the same --work-dir, or restore with --lazy",
        )
    return holder


def wait_for(pid: int, report: Report) -> int:
    """The exit code of our child `pid` as a shell gives it; 128 and the signal for a killed one."""
    report.info(f"Waiting for pid {pid}")
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = code if code >= 0 else 128 - code
    report.info(f"pid {pid} ended with status {status}")
    return status


def become(command: tuple[str, ...]) -> int:
    """Never returns; raises RestoreError when the command can't be executed. The tree, which is
    our child, then runs on."""
    try:
        os.execvp(command[0], command)
    except OSError as e:
        raise RestoreError(
            "can't be executed",
            resource=command[0],
            why=f"{e.strerror}",
            hint="the tree is restored and runs",
        ) from e
