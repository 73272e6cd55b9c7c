"""`ckpt page-server`: from options to a server, in the foreground or in the background.

With `--daemon` a child serves. It says through a pipe that it listens; until then its errors and
its exit code are ours, after that they are in its log. It leaves the terminal and the session, but
neither its folder nor the log.
"""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

from ckpt.actions import Actions, Event
from ckpt.cli.connection import tls_of
from ckpt.cli.output import show
from ckpt.cli.status import tell_where, write_status
from ckpt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckpt.cli.parser import Args
    from ckpt.images.pageserver.listen import ServerOptions

    Ready = Callable[[tuple[str, int] | None], None]


def run(args: Args) -> int:
    """0 when a sender's images were committed, or a client has all pages that it wants, or what
    `serve` and `answer_clients` raise; with `--daemon` 0 once the server listens."""
    options = options_of(args)
    if not args.daemon:
        return _serve(args, options, lambda: None)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.setsid()
        return _serve(args, options, lambda: _detach(writer))
    os.close(writer)
    return _wait_for(pid, reader)


def options_of(args: Args) -> ServerOptions:
    from ckpt.images.pageserver.listen import ServerOptions

    return ServerOptions(
        images_dir=args.images_dir,
        prev_images_dir=args.prev_images_dir or "",
        auto_dedup=args.auto_dedup,
        address=args.address or "127.0.0.1",
        port=args.port or 0,
        ps_socket=args.ps_socket,
        tls=tls_of(args),
        insecure=args.insecure,
        checksums=args.checksums,
    )


def _serve(args: Args, options: ServerOptions, listening: Callable[[], None]) -> int:
    actions = Actions(args.action_script, args.images_dir, args.report)

    def ready(where: tuple[str, int] | None) -> None:
        tell_where(args, where)
        actions.run(Event.STATUS_READY)
        if args.status_fd is not None:
            write_status(args.status_fd)
        listening()

    figures = _answer(args, options, ready) if args.lazy_pages else _receive(args, options, ready)
    if args.json:
        show(json.dumps(figures))
    return 0


def _receive(args: Args, options: ServerOptions, ready: Ready) -> dict[str, int]:
    from ckpt.images.pageserver.listen import serve
    from ckpt.mem.resolve import resolve

    result = serve(options, args.report, ready, resolve)
    return {"images": result.nr_images, "bytes": result.nr_bytes}


def _answer(args: Args, options: ServerOptions, ready: Ready) -> dict[str, int]:
    """Of `--lazy-pages`. All pages are verified before anybody can ask: one that was handed out
    can't be taken back."""
    from ckpt.images.chain import Chain
    from ckpt.images.pageserver.listener import Listener
    from ckpt.mem.answering import answer_clients, held_of_set
    from ckpt.mem.resolve import resolve

    if args.prev_images_dir or args.auto_dedup:
        why = "a set that is served knows its parent itself"
        raise UsageError("does not go with --prev-images-dir", resource="--lazy-pages", why=why)
    with (
        Chain(
            args.images_dir, verify=options.checksums, pages_only=True, resolver=resolve
        ) as chain,
        Listener(options) as listener,
    ):
        if options.checksums:
            chain.verify_pages().wait()
        held = held_of_set(chain)
        ready(listener.where)
        done = answer_clients(listener, held, args.report)
    return {"requests": done.nr_requests, "bytes": done.nr_bytes, "clients": done.nr_clients}


def _detach(writer: int) -> None:
    """Let the parent go, and the terminal."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for lfd in range(3):
        os.dup2(null, lfd)
    os.close(null)
    os.write(writer, b"\0")
    os.close(writer)


def _wait_for(pid: int, reader: int) -> int:
    """0 once the child listens; its exit code if it ends before that."""
    try:
        if os.read(reader, 1):
            return 0
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except BaseException:
        os.kill(pid, signal.SIGTERM)
        raise
    finally:
        os.close(reader)
    return code if code >= 0 else 128 - code
