"""The calls that every running region wants to make to an endpoint, as rows in Prefect."""

from __future__ import annotations

from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient

from flows.claim_rows import ClaimRows, Row
from tasks.request import Request
from tasks.sharing.shares import Claim


class Claims:
    """The claims on one limit, this region's own among them.

    The methods raise `httpx.HTTPError` if Prefect does not answer.
    """

    def __init__(
        self, client: SyncPrefectClient, limit: str, region: UUID, image: UUID, request: Request
    ) -> None:
        """Write no claim yet."""
        self._client, self._limit = client, limit
        description = f"Calls to {limit} at a time: wanted, and slots held"
        self._rows = ClaimRows(f"slots-{limit}", description, region)
        self._about: Row = {
            "limit": limit,
            "image": str(image),
            "region": str(region),
            "owner": request.owner,
            "priority": request.priority,
        }

    def write(self, wanted: int, held: int) -> None:
        """Write this region's claim, if it has changed or was not written for a while.

        Args:
            wanted: Calls that the region could have in flight at a time.
            held: Slots that it holds.
        """
        self._rows.write(self._client, {**self._about, "wanted": wanted, "held": held})

    def read(self) -> list[Claim]:
        """The claims of all running regions, the earliest first."""
        return [
            Claim(
                UUID(row["region"]),
                UUID(row["image"]),
                row["wanted"],
                row.get("owner", ""),  # of an earlier version without it
                row.get("priority", 0),
            )
            for row in self._rows.read(self._client)
            if row["limit"] == self._limit
        ]

    def withdraw(self) -> None:
        """Delete this region's claim."""
        self._rows.withdraw(self._client)
