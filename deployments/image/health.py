"""The image's HEALTHCHECK, for a container of any role.

A Prefect server listens on port 4200, a worker started with `--with-healthcheck` on port 8080; the
worker answers 503 when it has stopped polling for runs. A flow run listens on no port, and is
healthy as long as it runs. Only `socket` is imported, as this runs twice a minute during the work.
"""

from __future__ import annotations

import socket
import sys

SERVED = {4200: "/api/health", 8080: "/health"}
_TIMEOUT = 5.0  # seconds


def healthy(port: int, path: str) -> bool:
    """Whether a port of this container is healthy.

    True if no server listens there, or if the server answers with a status below 500.
    """
    try:
        with socket.create_connection(("127.0.0.1", port), _TIMEOUT) as server:
            server.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            status = server.recv(64).split()[1:2]
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return bool(status) and status[0] < b"500"


if __name__ == "__main__":
    sys.exit(not all(healthy(port, path) for port, path in SERVED.items()))
