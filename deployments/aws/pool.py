"""The work pool on ECS: how Prefect's worker runs a flow run as an ECS task of the stack."""

from __future__ import annotations

from typing import Any

from tasks.errors import StackError
from tasks.settings import Settings

WORK_POOL = "swath-ecs"
CONTAINER = "prefect"  # the name that Prefect's ECS observer expects
_IN_DEFINITION = "of the task definition"  # any text: the worker then leaves it out of a run's env

_VARIABLES: dict[str, dict[str, Any]] = {
    "task": {
        "title": "Task definition",
        "description": "Suffix of the task definition's family, which decides the run's IAM role.",
        "type": "string",
        "enum": ["sensor", "image", "region", "region-gpu"],
    },
    "cpu": {
        "title": "CPU",
        "description": "Units of 1/1024 vCPU; Fargate supports certain pairs with memory.",
        "type": "integer",
        "default": 1024,
    },
    "memory": {
        "title": "Memory",
        "description": "Memory of the task in MiB.",
        "type": "integer",
        "default": 2048,
    },
    "command": {
        "title": "Command",
        "description": "Command of the flow run. `prefect flow-run execute` runs its hooks when it "
        "is cancelled or killed, and takes some seconds more to start.",
        "type": "string",
        "default": "python -m prefect.engine",
    },
    "launch_type": {
        "title": "Launch type",
        "description": "FARGATE_SPOT costs less, and stops tasks with two minutes' notice. Empty "
        "for the cluster's default, the machines with a GPU.",
        "type": "string",
        "enum": ["FARGATE", "FARGATE_SPOT", ""],
        "default": "FARGATE",
    },
    "public_ip": {
        "title": "Public IP address",
        "description": "Whether the task has one, which only tasks on Fargate can have.",
        "type": "string",
        "enum": ["ENABLED", "DISABLED"],
    },
    "env": {
        "title": "Environment",
        "description": "Variables that override those of the task definition.",
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


def job_template(
    settings: Settings, *, with_key: bool = False, with_password: bool = False
) -> dict[str, Any]:
    """The base job template of the work pool, of type `ecs`.

    The task definitions, with the image, the roles and the settings, belong to the CloudFormation
    stack; the worker does not register any. So a new image takes effect with the stack's update,
    and a run always has the role of its task definition.

    Args:
        settings: Settings with the stack's cluster and network.
        with_key: Whether the Prefect API requires a key. The task definitions have it as a secret.
            If this is False, the worker writes its own key into the environment of each run, where
            others can read it.
        with_password: The same for the password of a Prefect server.

    Raises:
        StackError: The settings lack the cluster or the subnets.
    """
    if settings.ecs_cluster is None or not settings.ecs_subnets:
        raise StackError(
            "SWATH_ECS_CLUSTER and SWATH_ECS_SUBNETS: one is not set; give the cluster's ARN and a "
            'JSON list of subnets, such as ["subnet-0abc"].'
        )
    network = {
        "subnets": settings.ecs_subnets,
        "securityGroups": settings.ecs_security_groups,
        "assignPublicIp": "{{ public_ip }}",
    }
    default_ip = {"default": "ENABLED" if settings.ecs_public_ip else "DISABLED"}
    variables = _VARIABLES | {"public_ip": _VARIABLES["public_ip"] | default_ip}
    return {
        "variables": {"type": "object", "properties": variables, "required": ["task"]},
        "job_configuration": {
            "command": "{{ command }}",
            "env": "{{ env }}",
            "labels": "{{ labels }}",
            "cluster": settings.ecs_cluster,
            "container_name": CONTAINER,
            "prefect_api_key_secret_arn": _IN_DEFINITION if with_key else None,
            "prefect_api_auth_string_secret_arn": _IN_DEFINITION if with_password else None,
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
