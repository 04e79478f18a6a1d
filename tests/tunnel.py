"""A way to a server on loopback that keeps what passes, in clear or behind TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path


@dataclass
class Tunnel:
    """What is open.

    :param url: where clients go.
    :param heard: everything that clients sent, after TLS.
    """

    url: str
    heard: bytearray = field(default_factory=bytearray)


@contextmanager
def tunnel(port: int, tls: ssl.SSLContext | None = None) -> Iterator[Tunnel]:
    """Open a tunnel to a port of 127.0.0.1.

    :param tls: speak TLS with clients.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    opened = Tunnel(f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}")
    threads: list[threading.Thread] = []
    sockets: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                raw, _ = listener.accept()
                with suppress(ssl.SSLError, OSError):  # a client that does not trust the certificate hangs up
                    near = tls.wrap_socket(raw, server_side=True) if tls else raw
                    far = socket.create_connection(("127.0.0.1", port))
                    sockets.extend((near, far))
                    for source, target, keep in ((near, far, opened.heard), (far, near, None)):
                        thread = threading.Thread(target=pump, args=(source, target, keep))
                        threads.append(thread)
                        thread.start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield opened
    finally:
        for one in (listener, *sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in (acceptor, *threads):
            thread.join(10)


def pump(source: socket.socket, target: socket.socket, keep: bytearray | None) -> None:
    """Pass on what one side says until it ends."""
    with suppress(OSError):
        while data := source.recv(65536):
            if keep is not None:
                keep.extend(data)
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def certificate(folder: Path, *hosts: str) -> tuple[ssl.SSLContext, Path]:
    """A certificate of 127.0.0.1, and of more hosts, that only its own file vouches for; a server's context, and the
    file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    names: list[x509.GeneralName] = [x509.IPAddress(ip_address("127.0.0.1")), *(x509.DNSName(host) for host in hosts)]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    both = folder / "both.pem"
    both.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, path
