"""HTTP clients that connect only to addresses that were checked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from threading import Lock
from urllib.parse import urlsplit

from pyreqwest.client import SyncClient, SyncClientBuilder

_LIFETIME = 30.0  # seconds after which the addresses of a host are looked up again


@dataclass(frozen=True)
class _Lookup:
    """The addresses of a host.

    Attributes:
        addresses: As they were looked up; none if the client looks them up itself.
        expires: When they are looked up again, by `time.monotonic`.
    """

    addresses: list[str]
    expires: float


class PinnedClients:
    """A client for each address of a host, for several threads at once.

    A name could lead to another address when the client looks it up than when it was checked. So a
    client gets the address that was checked, and TLS still verifies the name. Calls are spread
    over the addresses of a host.
    """

    def __init__(
        self, build: Callable[[], SyncClientBuilder], addresses_of: Callable[[str], list[str]]
    ) -> None:
        """Look up nothing yet.

        Args:
            build: Begins to build a client.
            addresses_of: Looks up and checks the addresses of a URL; where it returns none, the
                client looks them up itself.
        """
        self._build, self._addresses_of = build, addresses_of
        self._lookups: dict[str, _Lookup] = {}
        self._clients: dict[tuple[str, str], SyncClient] = {}
        self._turn = count()
        self._lock = Lock()

    def of(self, url: str) -> list[SyncClient]:
        """The clients for a URL, in the order in which to try them.

        Raises:
            SwathError: See `addresses_of`.
        """
        place = urlsplit(url).netloc
        lookup = self._lookups.get(place)
        if lookup is None or lookup.expires < time.monotonic():
            lookup = _Lookup(self._addresses_of(url), time.monotonic() + _LIFETIME)
            self._lookups[place] = lookup
        addresses = lookup.addresses or [""]
        first = next(self._turn) % len(addresses)
        with self._lock:
            return [self._client(url, each) for each in addresses[first:] + addresses[:first]]

    def forget(self, url: str, client: SyncClient) -> None:
        """Note that a client could not connect: its address is left out until the next look-up."""
        place = urlsplit(url).netloc
        with self._lock:
            lookup = self._lookups.pop(place, None)
            others = [
                each
                for each in (lookup.addresses if lookup else [])
                if self._clients.get((place, each)) is not client
            ]
            if lookup and others:
                self._lookups[place] = _Lookup(others, lookup.expires)

    def close(self) -> None:
        """Close the connections; calls in flight in other threads end at once."""
        with self._lock:
            for client in self._clients.values():
                client.close()

    def _client(self, url: str, address: str) -> SyncClient:
        parts = urlsplit(url)
        key = (parts.netloc, address)
        if key not in self._clients:
            builder = self._build()
            if address:
                port = parts.port or (443 if parts.scheme == "https" else 80)
                builder = builder.resolve(str(parts.hostname), address, port)
            self._clients[key] = builder.build()
        return self._clients[key]
