"""Ports of the loopback address, on which the local stack listens."""

from __future__ import annotations

import fcntl
import os
import socket
from functools import cache
from http.client import HTTPConnection, HTTPException
from random import SystemRandom

from deployments.local.folders import cache_folder

HOST = "127.0.0.1"
_PORTS = range(10_000, 32_000)
"""Below the ports that Linux gives to outgoing connections, and to whoever asks for any port:
such a one may be taken before the program that it was chosen for listens on it."""
_ATTEMPTS = 20


def free_port(preferred: int = 0) -> int:
    """A free port: the preferred one if possible, otherwise any other.

    The port is reserved until this process ends: no other process of the user gets it from this
    function, even before something listens on it.

    Args:
        preferred: Port to try first; 0 for any.

    Raises:
        OSError: No port is free.
    """
    others = SystemRandom().sample(_PORTS, _ATTEMPTS)
    for port in (preferred, *others) if preferred else others:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        if _reserve(port):
            return port
    raise OSError(f"No free port on {HOST}.")


def _reserve(port: int) -> bool:
    """Reserve a port for this process; False if another process has reserved it."""
    try:
        fcntl.lockf(_reservations(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except (BlockingIOError, PermissionError):  # POSIX allows either
        return False
    return True


@cache
def _reservations() -> int:
    """The file in which a process locks one byte for each port; the kernel releases the locks."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    return os.open(cache_folder() / "ports.lock", os.O_RDWR | os.O_CREAT, 0o600)


def answers(port: int, path: str, timeout: float = 2.0) -> bool:
    """Whether a server on a port answers GET with 200; no proxy is used.

    Args:
        port: Port on loopback.
        path: Path of the request.
        timeout: Seconds to wait.
    """
    connection = HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
