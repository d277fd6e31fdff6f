"""`prefect.yaml`: its flows exist, and Prefect accepts it, repeatedly."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments import run_deployment
from prefect.flows import Flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.utilities.callables import parameter_schema
from prefect_aws.workers.ecs_worker import ECSJobConfiguration

from deployments.aws.pool import WORK_POOL, job_template
from deployments.kubernetes import pool as kubernetes
from deployments.local.pool import WORK_POOL as LOCAL_POOL
from deployments.local.prefect_server import client_environment, temporary_server
from deployments.local.process import inherited_environment
from tasks.errors import StackError
from tasks.request import Request
from tasks.settings import Settings

PROJECT = Path(__file__).parents[2]
DECLARED: list[dict[str, Any]] = yaml.safe_load((PROJECT / "prefect.yaml").read_text())[
    "deployments"
]
FLOWS = ("sensor", "image", "region")
POOLS = {"local": LOCAL_POOL, "ecs": WORK_POOL, "kubernetes": kubernetes.WORK_POOL}
NAMES = [f"{flow}/{flow}-{place}" for place in POOLS for flow in FLOWS]
WITH_GPUS = ["region/region-ecs-gpu", "region/region-kubernetes-gpu"]
STACK = Settings(ecs_cluster="arn:aws:ecs:us-east-1:1:cluster/swath", ecs_subnets=["subnet-1"])
CLUSTER = Settings(kubernetes_image="registry.example.org/swath:1")
GPU_IMAGE = "registry.example.org/swath:1-gpu"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """All deployments, after the first and after the second `prefect deploy`."""
    home = tmp_path_factory.mktemp("home")
    with temporary_server() as server:
        server.wait()
        with temporary_settings({PREFECT_API_URL: server.api_url}):
            with get_client(sync_client=True) as client:
                client.create_work_pool(WorkPoolCreate(name=LOCAL_POOL, type="process"))
                for name, kind, template in (
                    (WORK_POOL, "ecs", job_template(STACK)),
                    (kubernetes.WORK_POOL, kubernetes.KIND, kubernetes.job_template(CLUSTER)),
                ):
                    client.create_work_pool(
                        WorkPoolCreate(name=name, type=kind, base_job_template=template)
                    )
            variables = {"SWATH_KUBERNETES_GPU_IMAGE": GPU_IMAGE}
            seen = []
            for _ in range(2):
                done = subprocess.run(
                    [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
                    cwd=PROJECT,
                    env=inherited_environment() | client_environment(home, server.port) | variables,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, done.stdout + done.stderr
                seen.append({name: plain(name) for name in [*NAMES, *WITH_GPUS]})
            yield seen


def read(name: str) -> DeploymentResponse:
    with get_client(sync_client=True) as client:
        return client.read_deployment_by_name(name)


def plain(name: str) -> dict[str, Any]:
    """A deployment without its times of change."""
    found = read(name).model_dump(mode="json", exclude={"updated", "version_id", "version_info"})
    for each in [*found["schedules"], found["global_concurrency_limit"] or {}]:
        each.pop("updated", None)
    return found


@pytest.mark.parametrize(
    "entry", DECLARED, ids=lambda entry: f"{entry['entrypoint']}-{entry['name']}"
)
def test_every_entrypoint_is_a_flow_with_the_given_parameters(entry: dict[str, Any]) -> None:
    module, _, name = entry["entrypoint"].rpartition(".")
    flow = getattr(import_module(module), name)
    assert isinstance(flow, Flow)
    assert flow.name == name
    flow.validate_parameters(entry.get("parameters", {}) | dummies(flow, entry))
    assert entry["enforce_parameter_schema"] is (name != "region")  # given by an image's run
    assert {"swath", name} <= set(entry["tags"])
    assert entry["description"].endswith(".")


def dummies(flow: Flow[..., Any], entry: dict[str, Any]) -> dict[str, Any]:
    """Values of the parameters that a deployment does not set."""
    request = {
        "jobId": "a",
        "imageUrls": ["s3://images/c.tif"],
        "outputs": [{"type": "S3", "bucket": "results", "prefix": "p"}],
        "imageProcessor": {"name": "m"},
    }
    region = dict.fromkeys(["x", "y", "index", "row_start", "column_start"], 0)
    region |= dict.fromkeys(["of", "width", "height", "row_stop", "column_stop"], 1)
    known = {
        "request": request,
        "region": region,
        "image_url": "s3://images/c.tif",
        "etag": "1",
        "work_uri": "s3://work/w",
    }
    required = parameter_schema(flow).required
    return {name: known[name] for name in required if name not in entry.get("parameters", {})}


def test_all_are_deployed(deployed: list[dict[str, Any]]) -> None:
    assert set(deployed[0]) == {*NAMES, *WITH_GPUS}
    assert len(DECLARED) == len(deployed[0])
    for name, found in deployed[0].items():
        flow = name.partition("/")[0]
        assert found["work_pool_name"] == POOLS[name.removesuffix("-gpu").rpartition("-")[2]]
        assert found["enforce_parameter_schema"] is (flow != "region")
        properties = found["parameter_openapi_schema"]["properties"]
        assert all(told.get("description") for told in properties.values()), name
        assert found["description"]
        assert {"swath", flow} <= set(found["tags"])


def test_deploying_again_changes_nothing(deployed: list[dict[str, Any]]) -> None:
    first, second = deployed
    assert first == second


@pytest.mark.usefixtures("deployed")
def test_a_sensor_starts_every_hour() -> None:
    for name in ("sensor/sensor-local", "sensor/sensor-ecs", "sensor/sensor-kubernetes"):
        (schedule,) = read(name).schedules
        assert schedule.active
        assert schedule.schedule.model_dump()["interval"] == timedelta(hours=1)


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize("flow", ["sensor", "image", "region"])
def test_every_ecs_deployment_has_a_task_definition_and_a_size(flow: str) -> None:
    given = read(f"{flow}/{flow}-ecs").job_variables
    assert given["task"] == flow
    assert given["cpu"] >= 256
    assert given["memory"] >= 1024


@pytest.mark.usefixtures("deployed")
def test_a_region_with_a_gpu_has_a_queue_and_an_image_of_its_own() -> None:
    on_ecs, on_kubernetes = map(read, WITH_GPUS)
    assert {on_ecs.work_queue_name, on_kubernetes.work_queue_name} == {"gpu-regions"}
    assert on_ecs.job_variables["launch_type"] == ""
    assert on_kubernetes.job_variables["image"] == GPU_IMAGE


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize("place", POOLS)
def test_the_form_of_a_job_is_filled_in_with_a_valid_example(place: str) -> None:
    found = read(f"image/image-{place}")
    Request.model_validate(found.parameters["request"])
    required = found.parameter_openapi_schema["properties"]["request"]["required"]  # type: ignore[index]
    assert set(required) <= set(found.parameters["request"])
    with get_client(sync_client=True) as client:
        as_it_is = client.create_flow_run_from_deployment(found.id)
        form = {"request": as_form(found.parameters["request"]), "image_url": None}
        submitted = client.create_flow_run_from_deployment(found.id, parameters=form)
    assert as_it_is.parameters["request"] == found.parameters["request"]
    asked = Request.model_validate(submitted.parameters["request"])
    assert asked == Request.model_validate(found.parameters["request"])


def as_form(request: dict[str, Any]) -> dict[str, Any]:
    """A request as the page sends it: null for what is left empty, and JSON fields as text."""
    as_json = {
        name: [{"__prefect_kind": "json", "value": json.dumps(each)} for each in request[name]]
        for name in ("outputs", "postProcessing")
    }
    return request | as_json | {"jobName": None, "imageNodata": None}


@pytest.mark.usefixtures("deployed")
def test_prefect_refuses_a_run_with_an_invalid_parameter() -> None:
    with pytest.raises(Exception, match="until"):
        run_deployment("sensor/sensor-ecs", parameters={"until": 5}, timeout=0)


@pytest.mark.parametrize(
    ("option", "field", "variable"),
    [
        ("with_key", "prefect_api_key_secret_arn", "PREFECT_API_KEY"),
        ("with_password", "prefect_api_auth_string_secret_arn", "PREFECT_API_AUTH_STRING"),
    ],
)
def test_tasks_get_key_and_password_only_as_secrets(option: str, field: str, variable: str) -> None:
    """The task definitions have them; the worker removes them from the variables of a run."""
    assert job_template(STACK)["job_configuration"][field] is None
    template = job_template(STACK, **{option: True})["job_configuration"]
    given = {name: value for name, value in template.items() if "{{" not in str(value)}
    job = ECSJobConfiguration(
        **given, task_run_request={"taskDefinition": "a"}, env={variable: "pnu_1"}
    )
    run = FlowRun(flow_id=uuid4(), name="a")
    job.prepare_for_flow_run(run)
    assert variable not in job.env


def test_the_job_template_needs_cluster_and_subnets() -> None:
    with pytest.raises(StackError, match=r"SWATH_ECS_CLUSTER and SWATH_ECS_SUBNETS.*give"):
        job_template(Settings(ecs_subnets=["subnet-1"]))
