"""The calls that every running region wants to make to an endpoint, as artifacts in Prefect.

Each region keeps a table artifact on its own flow run, under a key that the regions of an endpoint
share. So every region, and users of Prefect's UI, can read all claims.
"""

from __future__ import annotations

import json
import re
import time
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import Artifact, StateType
from prefect.client.schemas.sorting import ArtifactSort

from flows.run_records import read_all
from tasks.request import Request
from tasks.sharing.shares import Claim

_REFRESH = 10.0  # seconds after which an unchanged claim is written again
_EXPIRY = timedelta(seconds=35)  # age of a claim from which its region counts as dead


class Claims:
    """The claims on one limit, this region's own among them.

    The methods raise `httpx.HTTPError` if Prefect does not answer.
    """

    def __init__(
        self, client: SyncPrefectClient, limit: str, region: UUID, image: UUID, request: Request
    ) -> None:
        """Write no claim yet."""
        self._client, self._limit = client, limit
        self._owner, self._priority = request.owner, request.priority
        self._region, self._image = region, image
        self._key = re.sub("[^a-z0-9]+", "-", f"slots-{limit}".lower()).strip("-")
        self._artifact: UUID | None = None
        self._written: tuple[int, int] | None = None
        self._when = 0.0

    def write(self, wanted: int, held: int) -> None:
        """Write this region's claim, if it has changed or was not written for a while.

        Args:
            wanted: Calls that the region could have in flight at a time.
            held: Slots that it holds.
        """
        now, claim = time.monotonic(), (wanted, held)
        if claim == self._written and now - self._when < _REFRESH:
            return
        row: dict[str, str | int] = {
            "limit": self._limit,
            "image": str(self._image),
            "region": str(self._region),
            "owner": self._owner,
            "priority": self._priority,
            "wanted": wanted,
            "held": held,
        }
        table = json.dumps([row])
        if self._artifact is None:
            created = self._client.create_artifact(
                ArtifactCreate(
                    key=self._key,
                    type="table",
                    description=f"Calls to {self._limit} at a time: wanted, and slots held",
                    data=table,
                    flow_run_id=self._region,
                )
            )
            self._artifact = created.id
        else:
            self._client.update_artifact(self._artifact, ArtifactUpdate(data=table))
        self._written, self._when = claim, now

    def read(self) -> list[Claim]:
        """The claims of all running regions, the earliest first."""
        rows = self._read()
        newest = max((row.updated for row in rows if row.updated), default=None)
        alive = [row for row in rows if newest and row.updated and row.updated > newest - _EXPIRY]
        alive.sort(key=lambda row: (row.created or newest, str(row.id)))
        return [
            Claim(
                UUID(data["region"]),
                UUID(data["image"]),
                data["wanted"],
                data.get("owner", ""),  # of an earlier version without it
                data.get("priority", 0),
            )
            for data in map(_row, alive)
            if data["limit"] == self._limit
        ]

    def withdraw(self) -> None:
        """Delete this region's claim."""
        if self._artifact is not None:
            self._client.delete_artifact(self._artifact)
            self._artifact = None

    def _read(self) -> list[Artifact]:
        """The artifacts of regions whose runs are Running."""
        running = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
        return read_all(
            partial(
                self._client.read_artifacts,
                artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[self._key])),
                flow_run_filter=FlowRunFilter(state=running),
                sort=ArtifactSort.ID_DESC,
            )
        )


def _row(artifact: Artifact) -> dict[str, Any]:
    return dict(json.loads(str(artifact.data))[0])
