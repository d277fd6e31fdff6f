"""The work pool on Kubernetes: how Prefect's worker runs a flow run as a job of the cluster."""

from __future__ import annotations

from typing import Any

from tasks.errors import StackError
from tasks.settings import Settings

WORK_POOL = "swath-kubernetes"
KIND = "kubernetes"
SHARED = "swath"
"""Name of the ConfigMap, and of the Secret, whose entries are variables of every run."""

REQUIRED_IN_POD = {"parallelism": 1, "completions": 1}
"""Fields of a job that Prefect's worker requires in its pod too, where Kubernetes ignores them."""

_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}, "default": {}}
_VARIABLES: dict[str, dict[str, Any]] = {
    "name": {
        "title": "Name",
        "description": "Beginning of the job's name; empty for the name of the run.",
        "type": "string",
    },
    "service_account": {
        "title": "Service account",
        "description": "Decides what the run may do outside the cluster, as a role of AWS.",
        "type": "string",
        "enum": ["swath-sensor", "swath-image", "swath-region"],
    },
    "cpu": {
        "title": "CPU",
        "description": "CPUs that are reserved for the run, such as 2 or 500m; it may use more.",
        "type": "string",
        "default": "1",
    },
    "memory": {
        "title": "Memory",
        "description": "Memory of the run, such as 4Gi; a run that needs more is killed.",
        "type": "string",
        "default": "2Gi",
    },
    "gpus": {
        "title": "GPUs",
        "description": "Number of NVIDIA GPUs.",
        "type": "integer",
    },
    "image": {
        "title": "Image",
        "description": "Container image of the run.",
        "type": "string",
    },
    "command": {
        "title": "Command",
        "description": "Command of the flow run. `prefect flow-run execute` runs its hooks when it "
        "is cancelled or killed, and takes some seconds more to start.",
        "type": "string",
        "default": "python -m prefect.engine",
    },
    "env": {
        "title": "Environment",
        "description": "Variables that override those of the ConfigMap.",
        **_TEXTS,
    },
    "labels": {"title": "Labels", "description": "Labels of the job and its pod.", **_TEXTS},
    "node_selector": {
        "title": "Node selector",
        "description": "Labels of the nodes that may run the pod.",
        **_TEXTS,
    },
    "tolerations": {
        "title": "Tolerations",
        "description": "Taints of nodes that the pod tolerates.",
        "type": "array",
        "items": {"type": "object"},
        "default": [],
    },
    "finished_job_ttl": {
        "title": "Kept for",
        "description": "Seconds for which an ended job, with the log of its pod, is kept.",
        "type": "integer",
        "default": 3600,
    },
}


def job_template(settings: Settings) -> dict[str, Any]:
    """The base job template of the work pool, of type `kubernetes`.

    A job runs once: its replacement is a new run, as Prefect and Swath count attempts. It has no
    token of the cluster, and writes to /tmp only.

    Args:
        settings: Settings with the images and the namespace.

    Raises:
        StackError: The settings lack the image.
    """
    if settings.kubernetes_image is None:
        raise StackError("SWATH_KUBERNETES_IMAGE is not set; give the container image of the runs.")
    image = _VARIABLES["image"] | {"default": settings.kubernetes_image}
    resources = {"memory": "{{ memory }}", "nvidia.com/gpu": "{{ gpus }}"}
    container = {
        "name": "prefect-job",  # as Prefect's worker requires
        "image": "{{ image }}",
        "args": "{{ command }}",
        "env": "{{ env }}",
        "envFrom": [
            {"configMapRef": {"name": SHARED}},
            {"secretRef": {"name": SHARED, "optional": True}},
        ],
        "resources": {"requests": resources | {"cpu": "{{ cpu }}"}, "limits": resources},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - the image's volume
    }
    pod = {
        "serviceAccountName": "{{ service_account }}",
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        **REQUIRED_IN_POD,
        "terminationGracePeriodSeconds": 60,
        "nodeSelector": "{{ node_selector }}",
        "tolerations": "{{ tolerations }}",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    namespace = settings.kubernetes_namespace
    return {
        "variables": {
            "type": "object",
            "properties": _VARIABLES | {"image": image},
            "required": ["service_account"],
        },
        "job_configuration": {
            "command": "{{ command }}",
            "env": "{{ env }}",
            "labels": "{{ labels }}",
            "name": "{{ name }}",
            "namespace": namespace,
            "job_manifest": {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {
                    "generateName": "{{ name }}-",
                    "namespace": namespace,
                    "labels": "{{ labels }}",
                },
                "spec": {
                    "backoffLimit": 0,
                    "parallelism": 1,
                    "completions": 1,
                    "ttlSecondsAfterFinished": "{{ finished_job_ttl }}",
                    "template": {"spec": pod},
                },
            },
        },
    }
