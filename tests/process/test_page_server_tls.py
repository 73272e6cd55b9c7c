"""Who is let in, and who is not, when a page server speaks TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest

from ckpt.errors import PeerError, UsageError
from ckpt.images.pageserver.sender import PageSender, ServerAddress
from ckpt.images.pageserver.tls import TlsOptions
from ckpt.record import replace
from tests.support.certificates import Certificates, two_authorities, words
from tests.support.pageserver import PAGE, names, pages, present, send_image
from tests.support.serverprocess import page_server

if TYPE_CHECKING:
    from pathlib import Path

BASE = 0x7000_0000
NR_PAGES = 1000
DATA = pages(NR_PAGES)
RECEIVED = ["ckpt-checksums-pages.img", "pagemap-7.img", "pages-1.img"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return two_authorities(tmp_path_factory.mktemp("authorities"))


def send(where: ServerAddress, tls: TlsOptions | None) -> None:
    with PageSender(where, tls) as sender:
        send_image(sender, "pagemap-7", [present(BASE, NR_PAGES)], DATA)
        sender.close()


def test_both_are_trusted(tmp_path: Path, certificates: Certificates) -> None:
    with page_server(tmp_path, *words(certificates.server)) as server:
        send(server.where, certificates.client)
        server.ends(0)
    assert names(tmp_path) == RECEIVED
    assert (tmp_path / "pages-1.img").read_bytes() == DATA


def test_beyond_this_machine_with_tls(tmp_path: Path, certificates: Certificates) -> None:
    with page_server(tmp_path, "--address", "0.0.0.0", *words(certificates.server)) as server:
        send(ServerAddress(port=server.port), certificates.client)
        server.ends(0)


def test_nothing_is_sent_in_plain(tmp_path: Path, certificates: Certificates) -> None:
    """Somebody in the middle sees no page."""
    seen = bytearray()
    with (
        page_server(tmp_path, *words(certificates.server)) as server,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        there = socket.create_connection((server.address, server.port))

        def relay(here: socket.socket) -> None:
            def back() -> None:
                while data := there.recv(1 << 16):
                    here.sendall(data)

            thread = threading.Thread(target=back)
            thread.start()
            while data := here.recv(1 << 16):
                seen.extend(data)
                there.sendall(data)
            there.shutdown(socket.SHUT_WR)
            thread.join()
            here.close()

        thread = threading.Thread(target=lambda: relay(listener.accept()[0]))
        thread.start()
        send(ServerAddress(port=listener.getsockname()[1]), certificates.client)
        thread.join(60)
        there.close()
        server.ends(0)
    assert len(seen) > len(DATA)
    assert not any(DATA[at : at + 16] in seen for at in range(0, len(DATA), 50 * PAGE))


@pytest.mark.parametrize("who", ["wrong authority", "expired", "revoked", "none", "no TLS"])
def test_a_sender_that_is_not_trusted(tmp_path: Path, certificates: Certificates, who: str) -> None:
    served = certificates.server
    tls: TlsOptions | None = certificates.client
    if who == "wrong authority":
        tls = replace(certificates.other.issue("sender"), cacert=str(certificates.ours.cacert))
    elif who == "expired":
        tls = certificates.ours.issue("late", expired=True)
    elif who == "revoked":
        tls = certificates.ours.issue("gone")
        certificates.ours.revoke(tls)
        served = replace(served, cacrl=str(certificates.ours.crl))
    elif who == "no TLS":
        tls = None
    with page_server(tmp_path, *words(served)) as server:
        if who == "none":
            _without_certificate(server.where, certificates)
        else:
            with pytest.raises(PeerError):
                send(server.where, tls)
        server.ends(10, "the connection failed")
    assert names(tmp_path) == []


def _without_certificate(where: ServerAddress, certificates: Certificates) -> None:
    context = ssl.create_default_context(cafile=str(certificates.ours.cacert))
    with (
        socket.create_connection((where.host, where.port)) as sock,
        pytest.raises(ssl.SSLError),
        context.wrap_socket(sock, server_hostname=where.host) as secure,
    ):
        secure.sendall(bytes(24))
        secure.recv(4)


@pytest.mark.parametrize("who", ["wrong authority", "expired", "revoked", "wrong name", "no TLS"])
def test_a_server_that_is_not_trusted(tmp_path: Path, certificates: Certificates, who: str) -> None:
    served, tls = certificates.server, certificates.client
    alternative = "IP:127.0.0.1"
    if who == "wrong authority":
        issued = certificates.other.issue("server.test", alternative=alternative)
        served = replace(issued, cacert=str(certificates.ours.cacert))
    elif who == "expired":
        served = certificates.ours.issue("late.test", alternative=alternative, expired=True)
    elif who == "revoked":
        served = certificates.ours.issue("gone.test", alternative=alternative)
        certificates.ours.revoke(served)
        tls = replace(tls, cacrl=str(certificates.ours.crl))
    elif who == "wrong name":
        served = certificates.ours.issue("else.test", alternative="DNS:else.test")
    options = [] if who == "no TLS" else words(served)
    with page_server(tmp_path, *options) as server:
        with pytest.raises(PeerError):
            send(server.where, tls)
        server.ends(10)
    assert names(tmp_path) == []


def test_revocation_does_not_touch_the_others(tmp_path: Path, certificates: Certificates) -> None:
    certificates.ours.revoke(certificates.ours.issue("gone"))
    crl = str(certificates.ours.crl)
    with page_server(tmp_path, *words(replace(certificates.server, cacrl=crl))) as server:
        send(server.where, replace(certificates.client, cacrl=crl))
        server.ends(0)


def test_another_name_if_nobody_compares(tmp_path: Path, certificates: Certificates) -> None:
    served = certificates.ours.issue("else.test", alternative="DNS:else.test")
    with page_server(tmp_path, *words(served)) as server:
        send(server.where, replace(certificates.client, check_name=False))
        server.ends(0)


def test_a_common_name_will_do(tmp_path: Path, certificates: Certificates) -> None:
    """Certificates made for CRIU often have nothing else."""
    served = certificates.ours.issue("localhost")
    with page_server(tmp_path, *words(served)) as server:
        send(ServerAddress("localhost", server.port), certificates.client)
        server.ends(0)


@pytest.mark.parametrize("file", ["cacert", "cacrl", "cert", "key"])
def test_files_that_are_none(tmp_path: Path, certificates: Certificates, file: str) -> None:
    broken = tmp_path / "broken.pem"
    for content in (None, "not a certificate"):
        if content:
            broken.write_text(content)
        where: dict[str, Any] = {file: str(broken)}
        tls = replace(certificates.client, **where)
        with pytest.raises(UsageError, match=f"--tls-.*{file}.*broken.pem"):
            PageSender(ServerAddress(port=1), tls)
