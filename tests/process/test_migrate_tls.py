"""A tree moves over TLS, or stays where it is: who is not trusted gets nothing of it."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import pytest

from ckpt.migrate import hello, wire
from ckpt.record import replace
from tests.support.certificates import Certificates, two_authorities, words
from tests.support.moved import DATA, Mover, migrate, mover, moves_over_two_connections, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ckpt.images.pageserver.tls import TlsOptions
    from tests.support.worlds import World


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return two_authorities(tmp_path_factory.mktemp("authorities"))


@pytest.fixture
def tree(here: World, built: Path, tmp_path: Path) -> Iterator[Mover]:
    tmp_path.chmod(0o755)
    with mover(here, built, tmp_path / "victim") as started:
        yield started


def test_it_moves(
    tree: Mover, here: World, there: World, tmp_path: Path, certificates: Certificates
) -> None:
    """In rounds, and then page by page."""
    images = tmp_path / "images"
    with serving(there, images, "--once", *words(certificates.server)) as server:
        trusted = words(certificates.client)
        done = migrate(here, tree.pid, server.port, "--mode", "hybrid", *trusted)
        assert done.returncode == 0, done.stderr
        assert server.process.wait(60) == 0
    assert here.processes(tree.binary) == []
    tree.finish()


@pytest.mark.stress
def test_a_connection_is_lost_while_memory_comes(
    tree: Mover, there: World, tmp_path: Path, certificates: Certificates
) -> None:
    """Another one is made, of those who trust each other."""
    theirs, mine = words(certificates.server), words(certificates.client)
    images = tmp_path / "images"
    moves_over_two_connections(
        tree, there, images, lambda way: way.cut(DATA), theirs=theirs, mine=mine
    )
    tree.finish()


def test_who_is_not_trusted(
    tree: Mover, here: World, there: World, tmp_path: Path, certificates: Certificates
) -> None:
    """On either side; the tree runs on where it is, and nothing of it is left anywhere else."""
    ours, server, source = certificates.ours, certificates.server, certificates.client
    else_named = ours.issue("else.test", alternative="DNS:else.test")
    gone = ours.issue("gone")
    ours.revoke(gone)
    strangers = certificates.other.issue("source")
    stranger = replace(strangers, cacert=str(ours.cacert))
    cases: list[tuple[str, TlsOptions | None, TlsOptions | None]] = [
        ("another name", else_named, source),
        ("another authority", server, stranger),
        ("revoked", replace(server, cacrl=str(ours.crl)), gone),
        ("a source in plain", server, None),
        ("a server in plain", None, source),
    ]
    images = tmp_path / "images"
    for what, theirs, mine in cases:
        with serving(there, images, *(words(theirs) if theirs else ())) as listening:
            done = migrate(here, tree.pid, listening.port, *(words(mine) if mine else ()))
        assert done.returncode == 10, (what, done.stderr)
        assert "Traceback" not in done.stderr, what
        assert len(here.processes(tree.binary)) == 2, what
        assert there.processes(tree.binary) == [], what
        assert list(images.iterdir()) == [], what
    tree.finish()


def test_who_has_no_certificate(there: World, tmp_path: Path, certificates: Certificates) -> None:
    context = ssl.create_default_context(cafile=str(certificates.ours.cacert))
    with (
        serving(there, tmp_path / "images", *words(certificates.server)) as server,
        socket.create_connection((server.address, server.port)) as plain,
        pytest.raises(ssl.SSLError),
        context.wrap_socket(plain, server_hostname=server.address) as secure,
    ):
        secure.sendall(wire.encode(hello.OUTCOME, id="0" * 32))
        secure.recv(4)
