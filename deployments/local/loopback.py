"""Ports of this machine's loopback address, where the whole local stack listens."""

from __future__ import annotations

import socket
from http.client import HTTPConnection, HTTPException

HOST = "127.0.0.1"


def free_port(preferred: int = 0) -> int:
    """A port that nothing listens on: the preferred one if it is free, else any.

    Args:
        preferred: Port to try first; 0 for any.
    """
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError(f"No free port on {HOST}.")


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
