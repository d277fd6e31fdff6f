"""Starts the first sensor run when a stack starts."""

from __future__ import annotations


def start_sensor(deployment: str, api_url: str) -> None:
    """Start a sensor run now; the deployment's schedule starts the following ones.

    Args:
        deployment: Name of the deployment, such as `sensor/sensor-local`.
        api_url: Address of the Prefect server's API; its key or password is in the environment.
    """
    from prefect import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
        client.create_flow_run_from_deployment(client.read_deployment_by_name(deployment).id)
