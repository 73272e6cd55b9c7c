"""An authority of the test's own, with certificates of every kind, made by openssl(1)."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckpt.images.pageserver.tls import TlsOptions
from tests.requirements import require

if TYPE_CHECKING:
    from pathlib import Path

_CONFIG = """
[ca]
default_ca = one
[one]
database = {folder}/index
new_certs_dir = {folder}
serial = {folder}/serial
crlnumber = {folder}/crlnumber
certificate = {folder}/ca.pem
private_key = {folder}/ca.key
default_md = sha256
default_days = 2
default_crl_days = 2
policy = policy
unique_subject = no
copy_extensions = copy
[policy]
commonName = supplied
"""
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Authority:
    """Everything is in `folder`, which must exist and be empty."""

    folder: Path

    def __post_init__(self) -> None:
        require(shutil.which("openssl"), "openssl is not installed")
        (self.folder / "config").write_text(_CONFIG.format(folder=self.folder))
        (self.folder / "index").touch()
        (self.folder / "serial").write_text("01\n")
        (self.folder / "crlnumber").write_text("01\n")
        name = f"/CN=authority {self.folder.name}"
        files = ("-keyout", "ca.key", "-out", "ca.pem")
        self._openssl("req", "-x509", *_KEY, *files, "-days", "2", "-subj", name)

    @property
    def cacert(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def crl(self) -> Path:
        return self.folder / "crl.pem"

    def issue(self, name: str, *, alternative: str = "", expired: bool = False) -> TlsOptions:
        """A certificate for the common name `name`, and for `alternative` ("IP:127.0.0.1")."""
        file = name.replace(".", "-")
        extension = ("-addext", f"subjectAltName={alternative}") if alternative else ()
        request = ("-keyout", f"{file}.key", "-out", f"{file}.csr", "-subj", f"/CN={name}")
        self._openssl("req", *_KEY, *request, *extension)
        dates = ("-startdate", "20200101000000Z", "-enddate", "20210101000000Z") if expired else ()
        made = ("-in", f"{file}.csr", "-out", f"{file}.pem", "-notext")
        self._openssl("ca", "-batch", "-config", "config", *dates, *made)
        return TlsOptions(
            cacert=str(self.cacert),
            cert=str(self.folder / f"{file}.pem"),
            key=str(self.folder / f"{file}.key"),
        )

    def revoke(self, *who: TlsOptions) -> None:
        """Write the list `crl`, with the certificates of `who`."""
        for one in who:
            self._openssl("ca", "-config", "config", "-revoke", one.cert)
        self._openssl("ca", "-config", "config", "-gencrl", "-out", "crl.pem")

    def _openssl(self, *words: str) -> None:
        done = subprocess.run(
            ["openssl", *words], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Certificates:
    """Ours and another authority; what a server and who speaks to it have of ours."""

    ours: Authority
    other: Authority
    server: TlsOptions
    client: TlsOptions


def two_authorities(folder: Path) -> Certificates:
    """They are in `folder`, which must exist; the server is that of this machine."""
    for name in ("ours", "other"):
        (folder / name).mkdir()
    ours, other = Authority(folder / "ours"), Authority(folder / "other")
    server = ours.issue("server.test", alternative="IP:127.0.0.1,DNS:localhost")
    return Certificates(ours, other, server, ours.issue("client.test"))


def words(tls: TlsOptions) -> list[str]:
    """What a command is told of these files."""
    found = ["--tls", "--tls-cacert", tls.cacert, "--tls-cert", tls.cert, "--tls-key", tls.key]
    return [*found, "--tls-cacrl", tls.cacrl] if tls.cacrl else found
