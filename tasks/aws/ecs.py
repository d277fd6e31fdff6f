"""Tasks of Amazon ECS, by the name that Prefect's worker gives them: `cluster::task ARN`."""

from __future__ import annotations

from typing import TypeGuard

from botocore.exceptions import BotoCoreError, ClientError

from tasks.aws.clients import client
from tasks.errors import StopError


def is_task(infrastructure: str | None) -> TypeGuard[str]:
    """Whether what a run is on is an ECS task."""
    return infrastructure is not None and "::arn:" in infrastructure


def stop(task: str, reason: str) -> None:
    """Stop a task: its process gets SIGTERM, then SIGKILL, and no more is paid for it.

    One that has stopped already, or that ECS has forgotten, is no error.

    Args:
        task: `cluster::task ARN`.
        reason: What ECS shows people.

    Raises:
        StopError: It may still be at work.
    """
    cluster, _, arn = task.partition("::")
    try:
        client("ecs").stop_task(cluster=cluster, task=arn, reason=reason)
    except (BotoCoreError, ClientError) as error:
        answer = getattr(error, "response", {})  # of ECS, if there was one
        if answer.get("Error", {}).get("Code") == "InvalidParameterException":  # no such task
            return
        raise StopError(
            f"ECS task {arn} in {cluster} could not be stopped and may still be paid for: {error}. "
            "Stop it by hand, and grant this process ecs:StopTask on the cluster's tasks."
        ) from error


def stopped(task: str) -> str:
    """Why a task is no longer there; empty while it is, or where ECS does not say."""
    cluster, _, arn = task.partition("::")
    try:
        told = client("ecs").describe_tasks(cluster=cluster, tasks=[arn])
    except (BotoCoreError, ClientError):
        return ""
    if not told["tasks"]:
        missing = any(failure.get("reason") == "MISSING" for failure in told["failures"])
        return "ECS knows it no more" if missing else ""
    (found,) = told["tasks"]
    if found["lastStatus"] != "STOPPED":
        return ""
    return str(found.get("stoppedReason") or "ECS gives no reason")
