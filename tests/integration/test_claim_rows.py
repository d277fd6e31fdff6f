"""What runs want of something that they share, as rows in a real Prefect server."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.runtime import flow_run

from flows.claim_rows import ClaimRows

pytestmark = pytest.mark.usefixtures("prefect_api")


def test_a_row_that_somebody_deleted_is_written_anew_at_once() -> None:
    name = f"places-{uuid4().hex[:8]}"

    @flow
    def claiming() -> list[Any]:
        rows = ClaimRows(name, "Who wants a place", UUID(flow_run.id))
        key = ArtifactFilter(key=ArtifactFilterKey(any_=[name]))
        with get_client(sync_client=True) as client:
            rows.write(client, {"held": 1})
            for artifact in client.read_artifacts(artifact_filter=key):
                client.delete_artifact(artifact.id)
            rows.write(client, {"held": 2})
            found = rows.read(client)
            rows.withdraw(client)
            return [found, rows.read(client)]

    assert claiming() == [[{"held": 2}], []]
