"""The request of a fork server's client, as the server reads it."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from deployments.local.fork_client import FORWARDED, _request
from deployments.local.fork_server import _read


@pytest.mark.parametrize("length", [1, 5_000, 100_000])
def test_signals_that_follow_a_request_are_left_for_the_engine(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONG", "x" * length)
    server, client = socket.socketpair()
    with server, client:
        _request(client)
        client.sendall(bytes(FORWARDED))
        request = _read(server)
        assert server.recv(16) == bytes([signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    assert request.environment == dict(os.environ)
    for stream in request.streams:
        os.close(stream)


def test_a_request_that_ends_before_its_last_byte_is_refused() -> None:
    server, client = socket.socketpair()
    with server:
        with client:
            socket.send_fds(client, [(100).to_bytes(4, "big")], [0, 1, 2])
            client.sendall(b'{"environment": {}')
        with pytest.raises(ValueError, match="Expecting"):
            _read(server)


def test_a_request_without_all_its_streams_is_refused() -> None:
    server, client = socket.socketpair()
    with server, client:
        socket.send_fds(client, [(2).to_bytes(4, "big")], [0, 1])
        client.sendall(b"{}")
        with pytest.raises(ValueError, match="2 streams came for 3"):
            _read(server)
