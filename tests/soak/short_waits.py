"""Deploys the flows so that they notice within seconds what they otherwise notice in minutes."""

from __future__ import annotations

from prefect import get_client
from prefect.client.schemas.actions import DeploymentUpdate

SILENCE = 25.0
"""Seconds without a sign of life, after which a process of a soak counts as dead."""

_ENTRY = "tests.soak.entry"


def deploy() -> None:
    """Have the local deployments run the flows of `tests/soak/entry.py`."""
    with get_client(sync_client=True) as prefect:
        for flow in ("sensor", "image", "region"):
            deployment = prefect.read_deployment_by_name(f"{flow}/{flow}-local")
            entry = DeploymentUpdate(entrypoint=f"{_ENTRY}.{flow}")
            prefect.update_deployment(deployment.id, entry)
