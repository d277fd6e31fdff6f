"""Slots of a concurrency limit, leased from Prefect; after a crash they are free in a minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.exceptions import PrefectHTTPStatusError

DURATION = 60.0  # seconds of a lease, the shortest that Prefect grants
_RENEWAL = 20.0  # seconds after which a lease is renewed
_MAX_LEASES = 4  # at a time, because each is renewed by a request of its own


@dataclass
class _Lease:
    id: UUID
    slots: int
    renewed: float


class Leases:
    """The slots that a region holds of one limit.

    The methods raise `httpx.HTTPError` if Prefect does not answer.
    """

    def __init__(self, client: SyncPrefectClient, limit: str, region: UUID) -> None:
        """Hold no slot yet."""
        self._client, self._limit = client, limit
        self._holder = ConcurrencyLeaseHolder(type="flow_run", id=region)
        self._leases: list[_Lease] = []

    @property
    def held(self) -> int:
        """Slots that are leased."""
        return sum(lease.slots for lease in self._leases)

    @property
    def unexpired(self) -> int:
        """Slots whose lease cannot have expired yet, so that no other region can hold them."""
        now = time.monotonic()
        return sum(lease.slots for lease in self._leases if now - lease.renewed < DURATION)

    def change(self, slots: int, free: int) -> None:
        """Lease or release slots to hold a number of them, or as many as are free.

        Args:
            slots: Number to hold.
            free: Slots of the limit that no region holds.
        """
        full = slots > self.held and len(self._leases) == _MAX_LEASES
        while self.held > slots or (full and len(self._leases) == _MAX_LEASES):
            free += self._leases[-1].slots
            self._release(self._leases[-1])
        missing = min(slots - self.held, free)
        if missing > 0:
            self._lease(missing)

    def renew(self) -> None:
        """Renew the leases; one that Prefect no longer knows is dropped."""
        for lease in list(self._leases):
            if time.monotonic() - lease.renewed >= _RENEWAL:
                self._renew(lease)

    def release(self) -> None:
        """Release all slots."""
        while self._leases:
            self._release(self._leases[-1])

    def _lease(self, slots: int) -> None:
        now = time.monotonic()
        response = self._ask(
            self._client.increment_concurrency_slots_with_lease,
            [self._limit],
            slots,
            "concurrency",
            DURATION,
            self._holder,
        )
        if response is not None:
            self._leases.append(_Lease(UUID(response.json()["lease_id"]), slots, now))

    def _release(self, lease: _Lease) -> None:
        if self._renew(lease):  # Prefect reports no error for the release of an unknown lease
            self._client.release_concurrency_slots_with_lease(lease.id)
            self._leases.remove(lease)

    def _renew(self, lease: _Lease) -> bool:
        """Renew a lease; returns whether Prefect still knows it."""
        now = time.monotonic()
        if self._ask(self._client.renew_concurrency_lease, lease.id, DURATION) is not None:
            lease.renewed = now
            return True
        self._leases.remove(lease)
        if now - lease.renewed < DURATION:
            # too early to have expired: a server that restarts forgets leases, but not slots
            self._client.release_concurrency_slots([self._limit], lease.slots, 1.0)
        return False

    @staticmethod
    def _ask(call: Callable[..., httpx.Response], *arguments: Any) -> httpx.Response | None:  # noqa: ANN401
        """The response; None if no slots are free any more, or the lease has expired."""
        try:
            return call(*arguments)
        except PrefectHTTPStatusError as error:
            refused = {
                httpx.codes.LOCKED,
                httpx.codes.UNPROCESSABLE_ENTITY,
                httpx.codes.NOT_FOUND,
                httpx.codes.GONE,
            }
            if error.response.status_code in refused:
                return None
            raise
