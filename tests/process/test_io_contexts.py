"""Rings and AIO contexts are seen from outside, and their absence is."""

from __future__ import annotations

from ckpt.mem.tracking.contexts import has_io_contexts
from tests.support.case import Case
from tests.support.programs import program


def test_an_ordinary_program_has_none(case: Case) -> None:
    victim = case.start(program("files/many"))
    assert not has_io_contexts(victim.pid)
    victim.finish()


def test_aio(case: Case) -> None:
    victim = case.start(program("memory/aio"))
    assert has_io_contexts(victim.pid)
    victim.finish()


def test_contexts_of_aio_over_a_chain(case: Case) -> None:
    """Their rings are written whole by the last set."""
    victim = case.start(program("memory/aio"))
    pids = victim.tree
    for name in ("pre", "images"):
        (case.folder / name).mkdir()
    case.ckpt.run("pre-dump", "-t", victim.pid, "-D", case.folder / "pre").ok()
    done = case.ckpt.dump(victim.pid, case.images, "--prev-images-dir", "../pre").ok()
    assert "requests that are in flight can't be seen" in done.log
    victim.await_gone(pids)
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_io_uring(case: Case) -> None:
    victim = case.start(program("files/uring"))
    assert has_io_contexts(victim.pid)


def test_a_worker_goes_on_waiting(case: Case) -> None:
    """It makes a call for its process, which would fail if a tracer interrupted it."""
    victim = case.start(program("crossing/opening"))
    images = case.folder / "pre"
    images.mkdir()
    case.ckpt.run("pre-dump", "-t", victim.pid, "-D", images).ok()
    case.ckpt.run("untrack", victim.pid).ok()
    victim.finish()


def test_registered_buffers_without_a_ring_in_sight(case: Case) -> None:
    """Neither mapping nor descriptor is left: what is pinned tells."""
    victim = case.start(program("crossing/pinned"))
    assert has_io_contexts(victim.pid)
    victim.finish()
