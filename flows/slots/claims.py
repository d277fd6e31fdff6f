"""What every region at work asks of an endpoint, shown to all of them, and to people, in Prefect.

Each keeps a table artifact on its own flow run, under a key that is the endpoint's.
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
from flows.slots.limit import Claim

_REFRESHED = 10.0  # seconds after which a claim is shown again, though nothing changed
_FORGOTTEN = timedelta(seconds=35)  # without that, its region is dead


class Claims:
    """The claims on one limit, one of them this region's own.

    The methods raise `httpx.HTTPError` where Prefect cannot be asked.
    """

    def __init__(self, client: SyncPrefectClient, limit: str, region: UUID, image: UUID) -> None:
        """Claim nothing yet."""
        self._client, self._limit = client, limit
        self._region, self._image = region, image
        self._key = re.sub("[^a-z0-9]+", "-", f"slots-{limit}".lower()).strip("-")
        self._artifact: UUID | None = None
        self._shown: tuple[int, int] | None = None
        self._when = 0.0

    def show(self, wanted: int, held: int) -> None:
        """Tell all what this region wants and holds."""
        now, shown = time.monotonic(), (wanted, held)
        if shown == self._shown and now - self._when < _REFRESHED:
            return
        row: dict[str, str | int] = {
            "limit": self._limit,
            "image": str(self._image),
            "region": str(self._region),
            "wanted": wanted,
            "held": held,
        }
        table = json.dumps([row])
        if self._artifact is None:
            created = self._client.create_artifact(
                ArtifactCreate(
                    key=self._key,
                    type="table",
                    description=f"Calls to {self._limit}: wanted, and held of its limit",
                    data=table,
                    flow_run_id=self._region,
                )
            )
            self._artifact = created.id
        else:
            self._client.update_artifact(self._artifact, ArtifactUpdate(data=table))
        self._shown, self._when = shown, now

    def read(self) -> list[Claim]:
        """Those of all regions at work, first come first."""
        shown = self._read()
        newest = max((row.updated for row in shown if row.updated), default=None)
        alive = [
            row for row in shown if newest and row.updated and row.updated > newest - _FORGOTTEN
        ]
        alive.sort(key=lambda row: (row.created or newest, str(row.id)))
        return [
            Claim(UUID(data["region"]), UUID(data["image"]), data["wanted"])
            for data in map(_row, alive)
            if data["limit"] == self._limit
        ]

    def withdraw(self) -> None:
        """Claim nothing any more."""
        if self._artifact is not None:
            self._client.delete_artifact(self._artifact)
            self._artifact = None

    def _read(self) -> list[Artifact]:
        """The newest first, of regions whose runs are Running."""
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
