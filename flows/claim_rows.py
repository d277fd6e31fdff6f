"""What runs want of something that they share, as artifacts in Prefect that all of them read.

Each run keeps a table artifact of one row, under a key that they have in common. So every one of
them, and users of Prefect's UI, can read all rows.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import httpx
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

_REFRESH = 10.0  # seconds after which an unchanged row is written again
_EXPIRY = timedelta(seconds=35)  # age of a row from which its run counts as dead

Row = dict[str, str | int | float]


class ClaimRows:
    """The rows under one key, that of a run among them.

    The methods raise `httpx.HTTPError` if Prefect does not answer, and `withdraw` raises
    `ObjectNotFound` if somebody deleted the row.
    """

    def __init__(self, name: str, description: str, run: UUID) -> None:
        """Write no row yet.

        Args:
            name: Of what is shared; the key is made of it.
            description: Of the rows, for users.
            run: Whose row is written.
        """
        self._key = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
        self._description, self._run = description, run
        self._artifact: UUID | None = None
        self._written: Row = {}
        self._when = 0.0

    def write(self, client: SyncPrefectClient, row: Row) -> None:
        """Write this run's row, if it has changed or was not written for a while."""
        now = time.monotonic()
        if self._artifact and row == self._written and now - self._when < _REFRESH:
            return
        table = json.dumps([row])
        if self._artifact is None or not self._update(client, self._artifact, table):
            created = client.create_artifact(
                ArtifactCreate(
                    key=self._key,
                    type="table",
                    description=self._description,
                    data=table,
                    flow_run_id=self._run,
                )
            )
            self._artifact = created.id
        self._written, self._when = row, now

    def read(self, client: SyncPrefectClient) -> list[Mapping[str, Any]]:
        """The rows of all runs that are Running, the earliest first."""
        rows = self._read(client)
        newest = max((row.updated for row in rows if row.updated), default=None)
        alive = [row for row in rows if newest and row.updated and row.updated > newest - _EXPIRY]
        alive.sort(key=lambda row: (row.created or newest, str(row.id)))
        return [dict(json.loads(str(row.data))[0]) for row in alive]

    def withdraw(self, client: SyncPrefectClient) -> None:
        """Delete this run's row."""
        if self._artifact is not None:
            client.delete_artifact(self._artifact)
            self._artifact = None

    @staticmethod
    def _update(client: SyncPrefectClient, artifact: UUID, table: str) -> bool:
        """Write a row again; returns False if somebody deleted it."""
        try:
            client.update_artifact(artifact, ArtifactUpdate(data=table))
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                return False
            raise
        return True

    def _read(self, client: SyncPrefectClient) -> list[Artifact]:
        running = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
        return read_all(
            partial(
                client.read_artifacts,
                artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[self._key])),
                flow_run_filter=FlowRunFilter(state=running),
                sort=ArtifactSort.ID_DESC,
            )
        )
