"""TLS for a page server and its senders: both show a certificate, both must be trusted.

Trusted is what the given authority signed, and nobody else: unlike CRIU, the system's authorities
are not, since whoever has a certificate of any of them could then read or write memory images.
Files that are not named are looked for where CRIU does. A sender compares the server's name with
the address that it connects to. With a list of revoked certificates every certificate of a chain
must be covered by it.

Python's ssl (OpenSSL); TLS 1.2 and later. Facts on names and places of files: criu(8).
"""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.errors import UsageError
from ckpt.images.pageserver.stream import Stream, broken
from ckpt.record import record

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

HANDSHAKE_S = 30
_CACERT = "/etc/pki/CA/cacert.pem"
_CACRL = "/etc/pki/CA/cacrl.pem"
_CERT = "/etc/pki/criu/cert.pem"
_KEY = "/etc/pki/criu/private/key.pem"


@record(frozen=True)
class TlsOptions:
    """Files in PEM, empty for CRIU's places. `check_name`: the server's, by a sender."""

    cacert: str = ""
    cacrl: str = ""
    cert: str = ""
    key: str = ""
    check_name: bool = True


def context(options: TlsOptions, *, server: bool) -> ssl.SSLContext:
    """Raises UsageError if a file is missing or is none of its kind."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = options.check_name and not server
    made.verify_mode = ssl.CERT_REQUIRED
    cacert, cert, key = options.cacert or _CACERT, options.cert or _CERT, options.key or _KEY
    with _named("--tls-cacert", cacert):
        made.load_verify_locations(cacert)
    with _named("--tls-cert and --tls-key", f"{cert}, {key}"):
        # An encrypted key would have OpenSSL ask for its password on the terminal.
        made.load_cert_chain(cert, key, password="")
    crl = options.cacrl or (_CACRL if Path(_CACRL).exists() else "")
    if crl:
        with _named("--tls-cacrl", crl):
            made.load_verify_locations(crl)
        made.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
    return made


def secured(sock: socket.socket, tls: ssl.SSLContext, peer: str, name: str = "") -> Stream:
    """The handshake on `sock`, which becomes the stream's. `name`: of the server, as a sender knows
    it; a server has none to give. Raises PeerError."""
    sock.settimeout(HANDSHAKE_S)
    server = tls.protocol is ssl.PROTOCOL_TLS_SERVER
    try:
        done = tls.wrap_socket(sock, server_side=server, server_hostname=name or None)
    except OSError as error:
        sock.close()
        raise broken(peer, error) from error
    done.settimeout(None)
    return Stream(done, peer)


@contextmanager
def _named(option: str, file: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = getattr(error, "reason", None) or error.strerror or str(error)
        raise UsageError(
            "can't be used",
            resource=f"{option} {file}",
            why=str(why).lower().replace("_", " "),
        ) from error
