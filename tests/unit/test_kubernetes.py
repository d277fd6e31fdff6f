"""The manifests for Kubernetes and the jobs of its work pool are valid, and confine each pod."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from cfnlint.decode import decode
from prefect.client.schemas.objects import FlowRun
from prefect.utilities.templating import apply_values
from prefect_kubernetes.worker import KubernetesWorker, KubernetesWorkerJobConfiguration

from deployments.kubernetes.pool import SHARED, job_template
from deployments.kubernetes.worker import main
from tasks.errors import StackError
from tasks.settings import Settings, settings
from tests.kubernetes_manifests import FOLDER, check, kustomization, objects
from tests.stacks import TEMPLATE

IMAGE = "registry.example.org/swath:1"
DECLARED: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[2] / "prefect.yaml").read_text()
)["deployments"]
DEPLOYMENTS = {each["name"]: each for each in DECLARED if "-kubernetes" in each["name"]}
OBJECTS = objects()


def job(name: str) -> dict[str, Any]:
    """The manifest that Prefect's worker makes of a run of a deployment."""
    template = job_template(Settings(kubernetes_image=IMAGE))
    given = DEPLOYMENTS[name]["work_pool"]["job_variables"]
    properties = template["variables"]["properties"]
    defaults = {key: each["default"] for key, each in properties.items() if "default" in each}
    assert given.keys() <= properties.keys()
    rendered = apply_values(template["job_configuration"], defaults | given)
    configuration = KubernetesWorkerJobConfiguration.model_validate(rendered)
    run = FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), name="harbour.tif region 3 of 12")
    configuration.prepare_for_flow_run(run)
    manifest: dict[str, Any] = configuration.job_manifest
    return manifest


def pods() -> dict[str, dict[str, Any]]:
    """The pods of all workloads and deployments, by their names."""
    kept = {
        name: each["spec"]["template"]["spec"]
        for (kind, name), each in OBJECTS.items()
        if kind in {"Deployment", "StatefulSet"}
    }
    return kept | {name: job(name)["spec"]["template"]["spec"] for name in DEPLOYMENTS}


PODS = pods()


@pytest.mark.parametrize("document", OBJECTS.values(), ids=map("/".join, OBJECTS))
def test_a_manifest_is_valid(document: dict[str, Any]) -> None:
    check(document)


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_job_that_the_worker_makes_is_valid(name: str) -> None:
    made = job(name)
    check(made)
    assert made["metadata"]["generateName"].startswith("harbour-tif-region-3-of-12-")
    (container,) = made["spec"]["template"]["spec"]["containers"]
    command = (
        "python -m prefect.engine" if name.startswith("sensor") else "prefect flow-run execute"
    )
    assert container["args"] == command.split()
    sources = [next(iter(each.values()))["name"] for each in container["envFrom"]]
    assert sources == [SHARED, SHARED]
    assert ("ConfigMap", SHARED) in OBJECTS
    assert made["spec"]["backoffLimit"] == 0
    limits, requests = container["resources"]["limits"], container["resources"]["requests"]
    assert limits["memory"] == requests["memory"]
    assert limits.get("nvidia.com/gpu") == (1 if name.endswith("gpu") else None)


@pytest.mark.parametrize("name", PODS)
def test_a_pod_can_write_to_volumes_only_and_has_no_privileges(name: str) -> None:
    pod = PODS[name]  # as the policy "restricted" of the namespace requires
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        volumes = {volume["name"] for volume in pod["volumes"]} | {"data"}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
    if name != "swath-worker":  # the only one with rights in the cluster
        assert pod["automountServiceAccountToken"] is False


def test_the_accounts_of_runs_exist_and_have_no_rights() -> None:
    used = {PODS[name]["serviceAccountName"] for name in DEPLOYMENTS}
    assert used == {"swath-sensor", "swath-image", "swath-region"}
    for name in used:
        assert OBJECTS["ServiceAccount", name]["automountServiceAccountToken"] is False
    (binding,) = [each for (kind, _), each in OBJECTS.items() if kind == "RoleBinding"]
    assert [subject["name"] for subject in binding["subjects"]] == ["swath-worker"]
    assert not [kind for kind, _ in OBJECTS if kind.startswith("ClusterRole")]
    for rule in OBJECTS["Role", "swath-worker"]["rules"]:
        assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]


def test_every_swath_variable_is_a_setting() -> None:
    data = OBJECTS["ConfigMap", SHARED]["data"]
    ours = {f"SWATH_{name.upper()}" for name in Settings.model_fields}
    (worker,) = PODS["swath-worker"]["containers"]
    given = {*data, *(each["name"] for each in worker["env"])}
    assert {name for name in given if name.startswith("SWATH_")} <= ours
    named = {data["SWATH_IMAGE_DEPLOYMENT"], data["SWATH_REGION_DEPLOYMENT"]}
    assert named == {"image/image-kubernetes", "region/region-kubernetes"}


def test_the_server_has_the_settings_of_that_on_aws() -> None:
    (container,) = PODS["swath-server"]["containers"]
    here = {each["name"]: each.get("value") for each in container["env"]}
    template = decode(str(TEMPLATE))[0]["Resources"]
    (there,) = template["ServerTask"]["Properties"]["ContainerDefinitions"]
    kinds = ("SERVICES", "CONCURRENCY", "DEPLOYMENTS", "EVENTS")
    same = tuple(f"PREFECT_SERVER_{kind}" for kind in kinds)
    expected = {
        each["Name"]: each["Value"]
        for each in there["Environment"]
        if each["Name"].startswith(same) and isinstance(each["Value"], str)
    }
    assert len(expected) > 8
    assert expected.items() <= here.items()


def test_kustomize_renders_valid_objects_with_one_image() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    rendered = subprocess.run([kubectl, "kustomize", FOLDER], capture_output=True, check=True)
    documents = list(yaml.safe_load_all(rendered.stdout))
    assert len(documents) == len(OBJECTS)
    for each in documents:
        check(each)
        own = each["metadata"]
        assert own.get("namespace", own["name"]) == kustomization()["namespace"]
    (worker,) = [each for each in documents if each["metadata"]["name"] == "swath-worker"
                 and each["kind"] == "Deployment"]  # fmt: skip
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert variables["SWATH_KUBERNETES_IMAGE"] == container["image"] == IMAGE


def test_the_variables_of_the_pool_are_among_those_of_prefect_or_described() -> None:
    properties = job_template(Settings(kubernetes_image=IMAGE))["variables"]["properties"]
    assert all(each["title"] and each["description"] for each in properties.values())
    known = KubernetesWorker.get_default_base_job_template()["job_configuration"]
    ours = job_template(Settings(kubernetes_image=IMAGE))["job_configuration"]
    assert ours.keys() <= known.keys()


def test_the_job_template_needs_an_image() -> None:
    with pytest.raises(StackError, match=r"SWATH_KUBERNETES_IMAGE is not set; give"):
        job_template(Settings())


def test_without_its_package_the_worker_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deployments.kubernetes.worker.find_spec", lambda _: None)
    with pytest.raises(StackError, match=r"pip install 'swath\[kubernetes\]'"):
        main()


def test_gpus_need_an_image_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("wait_for_server", "create_pool", "deploy"):
        monkeypatch.setattr(f"deployments.kubernetes.worker.{name}", lambda *_: "")
    with (
        settings.override(kubernetes_image=IMAGE, kubernetes_gpus=2),
        pytest.raises(StackError, match=r"SWATH_KUBERNETES_GPUS: 2.*SWATH_KUBERNETES_GPU_IMAGE"),
    ):
        main()
