"""Tasks of Amazon ECS, named as Prefect's ECS worker names them: `cluster::task ARN`."""

from __future__ import annotations

from typing import TypeGuard

from botocore.exceptions import BotoCoreError, ClientError

from tasks.aws.clients import client
from tasks.errors import StopError


def is_task(infrastructure: str | None) -> TypeGuard[str]:
    """Whether the infrastructure of a flow run is an ECS task."""
    return infrastructure is not None and "::arn:" in infrastructure


def stop(task: str, reason: str) -> None:
    """Stop a task: its process gets SIGTERM, and SIGKILL if it does not end.

    A task that has already stopped, or that ECS no longer knows, is not an error.

    Args:
        task: `cluster::task ARN`.
        reason: Shown by ECS as the reason for the stop.

    Raises:
        StopError: The task may still be running.
    """
    cluster, _, arn = task.partition("::")
    try:
        client("ecs").stop_task(cluster=cluster, task=arn, reason=reason)
    except (BotoCoreError, ClientError) as error:
        response = getattr(error, "response", {})  # only a ClientError has one
        if response.get("Error", {}).get("Code") == "InvalidParameterException":  # no such task
            return
        raise StopError(
            f"ECS task {arn} in {cluster} could not be stopped and may still cost money: {error}. "
            "Stop it by hand, and grant this process ecs:StopTask on the cluster's tasks."
        ) from error


def stopped(task: str) -> str:
    """Why a task has stopped; empty while it has not, or if ECS does not answer.

    Args:
        task: `cluster::task ARN`.
    """
    cluster, _, arn = task.partition("::")
    try:
        answer = client("ecs").describe_tasks(cluster=cluster, tasks=[arn])
    except (BotoCoreError, ClientError):
        return ""
    if not answer["tasks"]:
        missing = any(failure.get("reason") == "MISSING" for failure in answer["failures"])
        return "ECS no longer knows it" if missing else ""
    (found,) = answer["tasks"]
    if found["lastStatus"] != "STOPPED":
        return ""
    return str(found.get("stoppedReason") or "ECS gives no reason")
