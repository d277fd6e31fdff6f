"""The whole system on an emulated ECS: each run is a task. What happens when tasks fail.

AWS is emulated, and an agent runs the tasks as processes; Prefect's server and its ECS worker, the
deployments of `prefect.yaml`, the model server and every flow are the real ones.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from affine import Affine
from prefect import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling

from deployments.local.aws import start_aws, wait_for_aws
from deployments.local.loopback import free_port
from deployments.local.prefect_server import start_server
from deployments.local.process import inherited_environment
from deployments.local.processes import Processes
from flows.image import image
from flows.sensor_runs import STANDBY_DELAYS, STANDBY_TAG
from tasks.aws import clients
from tasks.queue.sqs import send
from tasks.request import Request
from tasks.settings import settings
from tasks.storage import objects
from tests.chain_jobs import runs_of
from tests.ecs_agent import EcsAgent, Task
from tests.model_server import model_server
from tests.onnx_models import bright_box, describe, write_json
from tests.polling import until
from tests.stacks import GPU_IMAGE, Stack, make_network, make_stack

MANY, FEW = 4, 2  # numbers of regions of the images
GPUS = 4  # machines with a GPU, by default
START = 90.0  # seconds for the start of a task on two busy cores


@dataclass
class Cloud:
    """The emulated cloud that the tests use."""

    agent: EcsAgent
    stack: Stack
    status_queue_url: str
    models_url: str
    told: dict[str, list[str]] = field(default_factory=dict)

    def request(self, job_id: str, name: str, **fields: Any) -> dict[str, Any]:
        return {
            "jobId": job_id,
            "imageUrls": [f"s3://{self.stack.outputs['ImageBucket']}/{name}"],
            "outputs": [self.output(job_id)],
            "imageProcessor": {
                "name": f"{self.models_url}/bright-targets/invocations",
                "type": "HTTP_ENDPOINT",
            },
            "imageProcessorTileSize": 256,
            "imageProcessorTileOverlap": 64,
            "imageProcessorTileFormat": "GTIFF",
        } | fields

    def output(self, prefix: str) -> dict[str, str]:
        return {"type": "S3", "bucket": self.stack.outputs["ResultsBucket"], "prefix": prefix}

    def slow(self, job_id: str, *, seconds: float) -> dict[str, Any]:
        """A request whose model is slow for every tile."""
        return self.request(
            job_id,
            "blue.tif",
            imageProcessor={
                "name": f"{self.models_url}/failure/invocations",
                "type": "HTTP_ENDPOINT",
            },
            imageProcessorParameters={"seconds": seconds},
        )

    def send(self, request: dict[str, Any]) -> None:
        send(self.stack.outputs["QueueUrl"], json.dumps(request))

    def regions(self, job_id: str) -> list[Task]:
        """The tasks of a job's regions."""
        runs = {str(run.id) for run in runs_of(job_id) if "region" in run.parameters}
        tasks = self.agent.of("-region")
        return [task for task in tasks if task.environment["PREFECT__FLOW_RUN_ID"] in runs]


def image_run(job_id: str) -> FlowRun:
    (run,) = [run for run in runs_of(job_id) if "region" not in run.parameters]
    return run


def at_work(cloud: Cloud, job_id: str, number: int) -> list[Task]:
    """The tasks of a job's regions, when `number` of them are running."""

    def running() -> bool:
        regions = [run for run in runs_of(job_id) if "region" in run.parameters]
        return sum(run.state_name == "Running" for run in regions) >= number

    until(running)
    return cloud.regions(job_id)


def ended(job_id: str) -> bool:
    runs = [run for run in runs_of(job_id) if "region" not in run.parameters]
    return bool(runs) and all(run.state and run.state.is_final() for run in runs)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("ecs")
    with Processes() as processes, pytest.MonkeyPatch.context() as patch:
        server = start_server(processes, folder)
        aws = start_aws(processes, folder)
        wait_for_aws(aws, timeout=60)
        for name, value in aws.environment.items():
            patch.setenv(name, value)
        forget()
        stack = make_stack(
            aws.endpoint_url, make_network(), PrefectApiUrl=server.api_url, GpuImage=GPU_IMAGE
        )
        server.wait()
        variables = aws.environment | {
            "SWATH_REGION_SIZE": "400",
            "SWATH_START_TIMEOUT": f"{START:g}",
        }
        command, environment = container(stack, "worker")
        environment["PREFECT_WORKER_WEBSERVER_PORT"] = str(free_port())
        processes.start(
            "the worker",
            [sys.executable, *command[1:]],
            env=inherited_environment() | server.environment | variables | environment,
            log=folder / "logs" / "worker.log",
        )
        agent = EcsAgent(
            clients.client("ecs"),
            clients.client("sqs"),
            cluster=stack.outputs["ClusterName"],
            queue_url=stack.outputs["ObserverQueueUrl"],
            folder=folder / "tasks",
            variables=variables,
        )
        with (
            agent,
            model_server() as models_url,
            temporary_settings({PREFECT_API_URL: server.api_url}),
        ):
            until(lambda: agent.running("-sensor"))
            yield Cloud(agent, stack, listen(stack.outputs["StatusTopicArn"]), models_url)
    forget()


def container(stack: Stack, task: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a task definition of the stack."""
    told = clients.client("ecs").describe_task_definition(taskDefinition=f"{stack.name}-{task}")
    (only,) = told["taskDefinition"]["containerDefinitions"]
    return only["command"], {each["name"]: each["value"] for each in only["environment"]}


def listen(topic_arn: str) -> str:
    """Create a queue that receives the messages of a topic."""
    sqs = clients.client("sqs")
    url: str = sqs.create_queue(QueueName="heard")["QueueUrl"]
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    clients.client("sns").subscribe(
        TopicArn=topic_arn,
        Protocol="sqs",
        Endpoint=told["Attributes"]["QueueArn"],
        Attributes={"RawMessageDelivery": "true"},
    )
    return url


def forget() -> None:
    settings.cache_clear()
    clients.renew_credentials()


def paint(path: Path, height: int, *, blue: bool = False) -> Path:
    """Write an image with bright objects in bands of 400 rows, or all blue for a slow model."""
    random = np.random.default_rng(5)
    pixels = random.integers(40, 60, (3, height, 900), dtype=np.uint8)
    for x, y in random.integers(40, (850, height - 50), (60, 2)):
        pixels[:, y : y + 8, x : x + 20] = 230
    if blue:
        pixels[:2], pixels[2] = 0, 255
    profile = {"width": 900, "height": height, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    transform = Affine(0.5, 0, 500_000, 0, -0.5, 5_400_000)
    with rasterio.open(path, "w", driver="GTiff", transform=transform, **profile) as sink:
        sink.write(pixels)
    return path


@pytest.fixture(scope="module", autouse=True)
def images(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("images")
    for name, height in (("harbour", 400 * MANY), ("blue", 400 * FEW)):
        file = paint(folder / f"{name}.tif", height, blue=name == "blue")
        objects.put(f"s3://{cloud.stack.outputs['ImageBucket']}/{name}.tif", file)


@pytest.fixture
def in_one_process(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[str, Any]], list[Any]]:
    """The results of a request that is run in this process."""
    monkeypatch.setenv("SWATH_WORK_URI", f"s3://{cloud.stack.outputs['ResultsBucket']}/work")
    settings.cache_clear()

    def work(request: dict[str, Any]) -> list[Any]:
        here = f"{request['jobId']}-here"
        outputs = {"outputs": [cloud.output(here)]}
        end = image(Request.model_validate(request | outputs), return_state=True)
        assert end.name == "Completed"
        return published(cloud, request, here)

    return work


def published(cloud: Cloud, request: dict[str, Any], prefix: str) -> list[Any]:
    """The features and the lines of the ledger, without times."""
    name = request["imageUrls"][0].rpartition("/")[2]
    uri = f"s3://{cloud.stack.outputs['ResultsBucket']}/{prefix}/{name}"
    features = re.sub(rb'"inferenceDT":"[^"]*"', b'"inferenceDT":""', objects.get(f"{uri}.geojson"))
    ledger = pq.read_table(io.BytesIO(objects.get(f"{uri}.coverage.parquet")))
    return [json.loads(features)["features"], ledger.to_pylist()]


def statuses(cloud: Cloud, job_id: str) -> list[str]:
    """The statuses of a job on the topic so far."""
    sqs, url = clients.client("sqs"), cloud.status_queue_url
    ask = {"QueueUrl": url, "MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"]}
    while found := sqs.receive_message(**ask).get("Messages", []):
        for each in found:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])
            told = {k: v["StringValue"] for k, v in each["MessageAttributes"].items()}
            cloud.told.setdefault(told["job_id"], []).append(told["status"])
    return cloud.told.get(job_id, [])


def test_concurrent_tasks_give_the_same_results_as_one_process(
    cloud: Cloud, in_one_process: Callable[[dict[str, Any]], list[Any]]
) -> None:
    tags = {"owner": "maritime", "costCentre": "4711 a"}
    request = cloud.request("chain", "harbour.tif", tags=tags)
    regions = partial(cloud.agent.of, "-region")
    cloud.agent.has_room = lambda family: "region" not in family or len(regions()) >= MANY
    cloud.send(request)
    until(lambda: ended("chain"))
    assert image_run("chain").state_name == "Completed"
    assert len(regions()) == MANY
    until(lambda: all(task.exit_code is not None for task in regions()))
    assert max(task.started for task in regions()) < min(task.ended for task in regions())
    assert {(task.cpu, task.memory) for task in regions()} == {(2048, 4096)}
    billed = {"swath:job": "chain", "swath:image": "harbour.tif"}
    billed |= {"owner": "maritime", "costCentre": "4711-a"}
    for task in (*regions(), *cloud.agent.of("-image")):
        assert billed.items() <= task.tags.items()
    assert published(cloud, request, "chain") == in_one_process(request)
    until(lambda: len(statuses(cloud, "chain")) >= 3)  # the last is published after the end
    assert statuses(cloud, "chain") == ["STARTED", "IN_PROGRESS", "SUCCESS"]


def test_regions_of_an_onnx_model_run_on_machines_with_a_gpu(
    cloud: Cloud, tmp_path: Path, in_one_process: Callable[[dict[str, Any]], list[Any]]
) -> None:
    shape = (1, 3, 256, 256)
    model = bright_box(tmp_path / "m.onnx", shape=shape)
    description = describe({"type": "torchvision"}, shape=shape)
    folder = f"s3://{cloud.stack.outputs['ImageBucket']}"
    for file in (model, write_json(tmp_path / "m.json", description)):
        objects.put(f"{folder}/{file.name}", file)
    processor = {"name": f"{folder}/m.onnx", "type": "ONNX"}
    request = cloud.request("gpu", "harbour.tif", imageProcessor=processor)
    cloud.send(request)
    until(lambda: ended("gpu"))
    assert image_run("gpu").state_name == "Completed"
    tasks = cloud.agent.of("-region-gpu")
    assert len(tasks) == MANY
    assert {(task.cpu, task.memory) for task in tasks} == {(4096, 12288)}
    described = clients.client("ecs").describe_tasks(
        cluster=cloud.stack.outputs["ClusterName"], tasks=[task.arn for task in tasks]
    )["tasks"]
    assert {each["capacityProviderName"] for each in described} == {f"{cloud.stack.name}-gpu"}
    with get_client(sync_client=True) as prefect:
        deployment = prefect.read_deployment_by_name("region/region-ecs-gpu")
    assert deployment.global_concurrency_limit
    assert deployment.global_concurrency_limit.limit == GPUS
    assert published(cloud, request, "gpu") == in_one_process(request)


def standby() -> list[FlowRun]:
    """The runs that stand by for the sensor, as long as they are scheduled."""
    with get_client(sync_client=True) as prefect:
        runs = prefect.read_flow_runs()
    return [
        run
        for run in runs
        if STANDBY_TAG in run.tags and run.state is not None and run.state.is_scheduled()
    ]


def test_a_killed_sensor_is_replaced_by_a_run_that_stands_by(cloud: Cloud) -> None:
    until(lambda: len(standby()) == len(STANDBY_DELAYS))
    (sensor,) = cloud.agent.running("-sensor")
    sensor.kill()
    until(lambda: sensor.exit_code is not None)
    cloud.send(cloud.request("without-a-sensor", "nowhere.tif"))
    until(lambda: "FAILED" in statuses(cloud, "without-a-sensor"))
    assert statuses(cloud, "without-a-sensor") == ["STARTED", "FAILED"]
    until(lambda: len(standby()) == len(STANDBY_DELAYS))  # for the sensor that stood by


def test_a_killed_region_is_detected_and_runs_again(
    cloud: Cloud, in_one_process: Callable[[dict[str, Any]], list[Any]]
) -> None:
    request = cloud.slow("killed", seconds=2)
    cloud.send(request)
    victim = at_work(cloud, "killed", 1)[0]
    victim.kill()
    until(lambda: ended("killed"))
    until(lambda: victim.exit_code is not None)
    assert victim.exit_code == 128 + 9
    assert image_run("killed").state_name == "Completed"
    assert len(cloud.regions("killed")) == FEW + 1
    assert published(cloud, request, "killed") == in_one_process(cloud.slow("killed", seconds=0))


def test_tasks_that_never_start_are_stopped_and_their_runs_started_again(
    cloud: Cloud,
) -> None:
    full = {"-region"}
    cloud.agent.has_room = lambda family: family[family.rindex("-") :] not in full
    cloud.send(cloud.request("waiting", "blue.tif"))
    until(lambda: cloud.regions("waiting"))
    full.add("-image")
    cloud.send(cloud.request("nowhere", "blue.tif"))
    until(lambda: any(task.stopped_by for task in cloud.regions("waiting")))
    full.remove("-region")
    until(lambda: ended("waiting"))
    assert image_run("waiting").state_name == "Completed"
    never = [task for task in cloud.regions("waiting") if task.guard is None]
    assert never
    assert all(f"did not start within {START:g} s" in task.stopped_by for task in never)
    runs = {str(run.id): run for run in runs_of("waiting")}
    lost = [runs[task.environment["PREFECT__FLOW_RUN_ID"]] for task in never]
    assert {run.state_name for run in lost} == {"Cancelled"}
    assert all(run.state and "SWATH_START_TIMEOUT" in str(run.state.message) for run in lost)

    def tasks() -> list[Task]:
        run = str(image_run("nowhere").id)
        found = cloud.agent.of("-image")
        return [task for task in found if task.environment["PREFECT__FLOW_RUN_ID"] == run]

    until(lambda: any(task.stopped_by for task in tasks()))
    full.clear()
    until(lambda: "SUCCESS" in statuses(cloud, "nowhere"))
    assert tasks()[0].guard is None
    assert f"did not start within {START:g} s" in tasks()[0].stopped_by
    assert statuses(cloud, "nowhere") == ["STARTED", "IN_PROGRESS", "SUCCESS"]


def test_cancelling_an_image_stops_the_tasks_of_its_regions(cloud: Cloud) -> None:
    cloud.send(cloud.slow("cancelled", seconds=600))
    regions = at_work(cloud, "cancelled", FEW)
    with get_client(sync_client=True) as prefect:
        prefect.set_flow_run_state(image_run("cancelled").id, Cancelling())
    until(lambda: all(task.exit_code is not None for task in regions))
    assert [task.stopped_by for task in regions] == ["Swath: its image's run ended"] * FEW
    until(lambda: ended("cancelled"))
    assert image_run("cancelled").state_name == "Cancelled"
    until(lambda: all(run.state and run.state.is_final() for run in runs_of("cancelled")))
    until(lambda: "FAILED" in statuses(cloud, "cancelled"))
    assert cloud.regions("cancelled") == regions


def test_a_killed_image_is_started_again_when_its_regions_are_stopped(cloud: Cloud) -> None:
    cloud.send(cloud.slow("shot", seconds=10))
    regions = at_work(cloud, "shot", FEW)
    (task,) = [
        task
        for task in cloud.agent.running("-image")
        if task.environment["PREFECT__FLOW_RUN_ID"] == str(image_run("shot").id)
    ]
    cloud.agent.heard = False  # the event is lost, so the sensor must find out from ECS
    task.kill()
    until(lambda: all(task.exit_code is not None for task in regions))
    assert all(task.stopped_by for task in regions)
    cloud.agent.heard = True
    until(lambda: "SUCCESS" in statuses(cloud, "shot"))
    assert statuses(cloud, "shot") == [*["STARTED", "IN_PROGRESS"] * 2, "SUCCESS"]
    with get_client(sync_client=True) as prefect:
        states = prefect.read_flow_run_states(image_run("shot").id)
    (again,) = [state for state in states if state.name == "AwaitingRetry"]
    assert "Essential container in task exited" in str(again.message)
