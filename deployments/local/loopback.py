"""Ports of this machine's loopback address, where the whole local stack listens."""

from __future__ import annotations

import fcntl
import os
import socket
from functools import cache
from http.client import HTTPConnection, HTTPException

from deployments.local.folders import cache_folder

HOST = "127.0.0.1"
_TRIES = 20


def free_port(preferred: int = 0) -> int:
    """A port that nothing listens on: the preferred one if it is free, else any.

    It stays ours while this process lasts: no other process of the user's is given it here, though
    nothing listens there yet.

    Args:
        preferred: Port to try first; 0 for any.
    """
    for port in (preferred, *[0] * _TRIES):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            if _reserve(free := int(probe.getsockname()[1])):
                return free
    raise OSError(f"No free port on {HOST}.")


def _reserve(port: int) -> bool:
    """Make a port ours; False where it is another process's."""
    try:
        fcntl.lockf(_reservations(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except (BlockingIOError, PermissionError):  # POSIX leaves it open which
        return False
    return True


@cache
def _reservations() -> int:
    """The file of which each process locks a byte for each port; the kernel frees them."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    return os.open(cache_folder() / "ports.lock", os.O_RDWR | os.O_CREAT, 0o600)


def answers(port: int, path: str, timeout: float = 2.0) -> bool:
    """Whether a server on a port answers GET with 200; never through a proxy.

    Args:
        port: Port on loopback.
        path: Path to ask for.
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
