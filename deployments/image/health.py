"""Whether what serves in this container still answers: the image's HEALTHCHECK, in every role.

A Prefect server listens at 4200, and at 8080 a worker that was started `--with-healthcheck`, which
says 503 when it has stopped asking for work. A flow run listens nowhere, and is well for as long as
it runs. Only sockets are imported: this is run twice a minute beside the work.
"""

from __future__ import annotations

import socket
import sys

SERVED = {4200: "/api/health", 8080: "/health"}
_PATIENCE = 5.0  # seconds for an answer


def well(port: int, path: str) -> bool:
    """Whether nothing listens at a port of this container, or what does has no error to tell."""
    try:
        with socket.create_connection(("127.0.0.1", port), _PATIENCE) as server:
            server.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            status = server.recv(64).split()[1:2]
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return bool(status) and status[0] < b"500"


if __name__ == "__main__":
    sys.exit(not all(well(port, path) for port, path in SERVED.items()))
