"""The work pool on ECS: how Prefect's worker turns a flow run into a task of the stack's."""

from __future__ import annotations

from typing import Any

from tasks.errors import StackError
from tasks.settings import Settings

WORK_POOL = "swath-ecs"
CONTAINER = "prefect"  # the name that Prefect's observer of ECS looks for

_VARIABLES: dict[str, dict[str, Any]] = {
    "task": {
        "title": "Task definition",
        "description": "What the stack's family is continued with, so who the run may act as.",
        "type": "string",
        "enum": ["sensor", "image", "region"],
    },
    "cpu": {
        "title": "CPU",
        "description": "Units of 1/1024 processor; Fargate has certain pairs with memory.",
        "type": "integer",
        "default": 1024,
    },
    "memory": {
        "title": "Memory",
        "description": "MiB of the task.",
        "type": "integer",
        "default": 2048,
    },
    "command": {
        "title": "Command",
        "description": "Starts the flow run. `prefect flow-run execute` has hooks run when it is "
        "cancelled or killed, and takes some seconds more.",
        "type": "string",
        "default": "python -m prefect.engine",
    },
    "launch_type": {
        "title": "Launch type",
        "description": "FARGATE_SPOT costs less, and takes machines back at two minutes' notice.",
        "type": "string",
        "enum": ["FARGATE", "FARGATE_SPOT"],
        "default": "FARGATE",
    },
    "env": {
        "title": "Environment",
        "description": "Variables over those of the task definition.",
        "type": "object",
        "additionalProperties": {"type": "string"},
        "default": {},
    },
    "labels": {
        "title": "Tags",
        "description": "Tags of the ECS task.",
        "type": "object",
        "additionalProperties": {"type": "string"},
        "default": {},
    },
}


def job_template(settings: Settings, *, with_key: bool = False) -> dict[str, Any]:
    """What a work pool of type `ecs` has for a base job template.

    The task definitions, with the image, the roles and the settings, are the stack's: the worker
    registers none, so a new image takes hold with the stack's update, and a run can act as nothing
    but its role.

    Args:
        settings: Where the stack is.
        with_key: Whether Prefect asks for a key. The task definitions have it as a secret; without
            this, the worker would write it into each run's environment, for all to read.

    Raises:
        StackError: That is not told.
    """
    if settings.ecs_cluster is None or not settings.ecs_subnets:
        raise StackError(
            "SWATH_ECS_CLUSTER and SWATH_ECS_SUBNETS: one is not set; give the cluster's ARN and a "
            'JSON list of subnets, such as ["subnet-0abc"].'
        )
    network = {
        "subnets": settings.ecs_subnets,
        "securityGroups": settings.ecs_security_groups,
        "assignPublicIp": "ENABLED" if settings.ecs_public_ip else "DISABLED",
    }
    return {
        "variables": {"type": "object", "properties": _VARIABLES, "required": ["task"]},
        "job_configuration": {
            "command": "{{ command }}",
            "env": "{{ env }}",
            "labels": "{{ labels }}",
            "cluster": settings.ecs_cluster,
            "container_name": CONTAINER,
            "prefect_api_key_secret_arn": "of the task definition" if with_key else None,
            "task_definition": {},
            "task_run_request": {
                "launchType": "{{ launch_type }}",
                "cluster": settings.ecs_cluster,
                "taskDefinition": f"{settings.ecs_family}-{{{{ task }}}}",
                "networkConfiguration": {"awsvpcConfiguration": network},
                "overrides": {
                    "cpu": "{{ cpu }}",
                    "memory": "{{ memory }}",
                    "containerOverrides": [
                        {
                            "name": CONTAINER,
                            "command": "{{ command }}",
                            "environment": "{{ env }}",
                        }
                    ],
                },
                "tags": "{{ labels }}",
            },
        },
    }
