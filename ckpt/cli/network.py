"""The options of connections: those of a page server, and TLS. A part of ckpt.cli.options.

Source of spellings and arguments: criu(8) of CRIU 4.2.
"""

from __future__ import annotations

from ckpt.cli import values
from ckpt.cli.option import Option

SERVER = ("page-server",)
ENDS = ("page-server", "dump", "pre-dump")
LAZY = ("lazy-pages",)
SECURED = (*ENDS, *LAZY, "migrate", "serve")

NETWORK = (
    Option(
        "page-server",
        "send pages to a page server, not into the folder of images; lazy-pages: ask one for them",
        verbs=("dump", "pre-dump", *LAZY),
        negatable=True,
    ),
    Option(
        "address",
        "address to listen on, or of the server (default: 127.0.0.1); a server without --tls takes "
        "one of this machine only",
        arg="ADDR",
        verbs=(*ENDS, *LAZY, "serve"),
    ),
    Option(
        "port",
        "port to listen on (default: one that is free, which is printed), or of the server",
        arg="PORT",
        verbs=(*ENDS, *LAZY, "serve"),
        parse=values.port,
    ),
    Option(
        "ps-socket",
        "use this connected socket",
        arg="FD",
        verbs=(*ENDS, *LAZY),
        parse=values.lfd,
    ),
    Option(
        "status-fd",
        "write a zero byte to FD once a sender, or a restore, can connect",
        arg="FD",
        verbs=(*SERVER, *LAZY, "serve", "dump"),
        parse=values.lfd,
    ),
    Option(
        "daemon",
        "return once the server listens, and serve in the background",
        verbs=SERVER,
        negatable=True,
    ),
    Option(
        "insecure",
        "listen on any address without --tls: whoever reaches it can write or read the images",
        verbs=(*SERVER, "serve", "dump"),
        criu=False,
    ),
    Option(
        "tls",
        "encrypt; both sides must show a certificate of --tls-cacert",
        verbs=SECURED,
        negatable=True,
    ),
    Option(
        "tls-cacert",
        "the authority that is trusted, and no other (default: /etc/pki/CA/cacert.pem)",
        arg="FILE",
        verbs=SECURED,
    ),
    Option(
        "tls-cacrl",
        "its list of revoked certificates (default: /etc/pki/CA/cacrl.pem if it is there)",
        arg="FILE",
        verbs=SECURED,
    ),
    Option(
        "tls-cert",
        "our certificate (default: /etc/pki/criu/cert.pem)",
        arg="FILE",
        verbs=SECURED,
    ),
    Option(
        "tls-key",
        "its key (default: /etc/pki/criu/private/key.pem)",
        arg="FILE",
        verbs=SECURED,
    ),
    Option(
        "tls-no-cn-verify",
        "don't compare the server's name",
        verbs=("dump", "pre-dump", *LAZY, "migrate"),
    ),
)
