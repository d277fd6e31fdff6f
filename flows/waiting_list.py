"""The list of images that wait, in the order in which they will begin: an artifact in Prefect.

It tells users of Prefect's pages, and of `swath jobs` and `swath status`, why an image waits.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from prefect.runtime import flow_run

WAITING = "Waiting"
"""Name of the state of a run that waits for its turn."""

KEY = "waiting-images"
"""Key of the artifact."""

_INTERVAL = 10.0  # seconds between two changes of the artifact

Row = dict[str, str | int]


class WaitingList:
    """The artifact of the current run, a sensor."""

    def __init__(self) -> None:
        self._artifact: UUID | None = None
        self._shown: list[Row] = []
        self._when = -_INTERVAL  # seconds of the monotonic clock

    def show(self, client: SyncPrefectClient, rows: Sequence[Row]) -> None:
        """Show who waits and why, if that has changed and was not shown just now."""
        now = time.monotonic()
        if [*rows] == self._shown or now < self._when + _INTERVAL:
            return
        table = json.dumps([*rows])
        if self._artifact is None:
            created = client.create_artifact(
                ArtifactCreate(
                    key=KEY,
                    type="table",
                    description="Images that wait, in the order in which they will begin",
                    data=table,
                    flow_run_id=UUID(flow_run.id),
                )
            )
            self._artifact = created.id
        else:
            client.update_artifact(self._artifact, ArtifactUpdate(data=table))
        self._shown, self._when = [*rows], now


def reasons(client: SyncPrefectClient) -> dict[UUID, str]:
    """Why images wait, by their runs, as a sensor has shown last."""
    found = client.read_artifacts(
        artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[KEY])),
        sort=ArtifactSort.UPDATED_DESC,
        limit=1,
    )
    rows = json.loads(str(found[0].data)) if found else []
    return {UUID(row["run"]): row["waits"] for row in rows}
