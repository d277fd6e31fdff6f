"""HTTP/2, which is spoken where a server offers it over TLS: with a real server of it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

from tasks.errors import UnreachableError
from tasks.inference.transport import Transport

LARGE = 3 * 512 * 512  # bytes: more than a stream's window


def certificate(folder: Path) -> Path:
    """A certificate for loopback, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    issued = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = folder / "certificate.pem"
    file.write_bytes(issued.public_bytes(serialization.Encoding.PEM) + secret)
    return file


def converse(connection: ssl.SSLSocket) -> None:
    """Answer each request of a connection with the number of bytes that came."""
    protocol = H2Connection(H2Configuration(client_side=False))
    protocol.initiate_connection()
    received: dict[int, int] = {}
    connection.sendall(protocol.data_to_send())
    while data := connection.recv(1 << 16):
        for event in protocol.receive_data(data):
            if isinstance(event, RequestReceived):
                received[event.stream_id] = 0
            elif isinstance(event, DataReceived):
                received[event.stream_id] += len(event.data)
                protocol.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                body = str(received[event.stream_id]).encode()
                protocol.send_headers(event.stream_id, [(":status", "200"), ("x-protocol", "h2")])
                protocol.send_data(event.stream_id, body, end_stream=True)
        connection.sendall(protocol.data_to_send())


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    file = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    context.set_alpn_protocols(["h2"])
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                with suppress(ssl.SSLError, ConnectionError):
                    plain, _ = listener.accept()
                    with context.wrap_socket(plain, server_side=True) as connection:
                        converse(connection)

        def serve_until_closed() -> None:
            with suppress(OSError):
                serve()

        Thread(target=serve_until_closed, daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/"


def test_http_2_is_used_if_the_server_offers_it(server: str) -> None:
    transport = Transport(10.0)
    for size in (1, LARGE, LARGE):
        reply = transport.post(server, {"content-type": "image/tiff"}, bytes(size))
        assert (reply.status, reply.headers["x-protocol"]) == (200, "h2")
        assert int(reply.body) == size
    transport.close()


def test_a_server_with_an_untrusted_certificate_is_refused(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    transport = Transport(10.0)
    with pytest.raises(UnreachableError, match="certificate"):
        transport.post(server, {}, b"tile")
    transport.close()
