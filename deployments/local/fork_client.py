"""The command of a flow run on the local stack's work pool: its engine, forked by the fork server.

Run as `python -I -S fork_client.py SOCKET`. It hands its environment, its working directory and its
standard streams to the fork server (see `fork_server.py`), passes on the signals that it gets, and
ends as the engine ends. If it is killed, the server kills the engine. Without a server, it becomes
the engine itself, in a process that imports everything first.

It imports only the standard library, to start within milliseconds.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that the engine gets too."""

STATUS = struct.Struct("!i")
"""What the server answers: the exit status of the engine, or minus the signal that ended it."""

SIZE = struct.Struct("!I")
"""What comes before a request: its bytes."""

ENGINE = ("-m", "prefect.engine")
"""The arguments of Python that start an engine."""


def _connect(path: str) -> socket.socket | None:
    """Connect to the fork server; None if there is none.

    Args:
        path: Its socket.
    """
    directory = Path.cwd()
    connection = socket.socket(socket.AF_UNIX)
    try:
        os.chdir(Path(path).parent)  # the address of a socket is a short text
        connection.connect(Path(path).name)
    except OSError:
        connection.close()
        return None
    finally:
        os.chdir(directory)
    return connection


def _request(connection: socket.socket) -> None:
    """Ask for an engine with the environment, the directory and the streams of this process."""
    request = {"environment": dict(os.environ), "directory": str(Path.cwd())}
    body = json.dumps(request).encode()
    socket.send_fds(connection, [SIZE.pack(len(body))], [0, 1, 2])
    connection.sendall(body)


def main(path: str) -> int:
    """Have the fork server start the engine, and wait for its end; returns the exit status.

    Args:
        path: The server's socket.
    """
    connection = _connect(path)
    if connection is None:
        os.execv(sys.executable, [sys.executable, *ENGINE])  # noqa: S606 - no shell is wanted
    for number in FORWARDED:
        signal.signal(number, lambda number, _: connection.sendall(bytes([number])))
    try:
        _request(connection)
        answer = connection.recv(STATUS.size)
    except OSError:
        answer = b""
    status: int = STATUS.unpack(answer)[0] if answer else -signal.SIGKILL  # ended with its server
    if status < 0:
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
