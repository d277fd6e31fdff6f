"""The manifests of `deployments/kubernetes`, and what Kubernetes' schemas say of an object."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from deployments.kubernetes.pool import REQUIRED_IN_POD

FOLDER = Path(__file__).parents[1] / "deployments" / "kubernetes" / "manifests"
VERSIONS = ("1.28", "1.32", "1.37")  # of Kubernetes, from the oldest that is checked to the newest


def kustomization() -> dict[str, Any]:
    """What `kubectl apply --kustomize` reads."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    return found


def objects() -> dict[tuple[str, str], dict[str, Any]]:
    """All objects, by kind and name."""
    files = [FOLDER / name for name in kustomization()["resources"]]
    documents = [each for file in files for each in yaml.safe_load_all(file.read_text())]
    return {(each["kind"], each["metadata"]["name"]): each for each in documents}


def check(document: dict[str, Any]) -> None:
    """Check an object against the schemas of several versions, without unknown fields.

    Raises:
        kubernetes_validate.ValidationError: The object is not valid.
    """
    known = deepcopy(document)
    if known["kind"] == "Job":
        pod = known["spec"]["template"]["spec"]
        for name in REQUIRED_IN_POD:  # which Kubernetes ignores
            del pod[name]
    for version in VERSIONS:
        kubernetes_validate.validate(known, version, strict=True)
