"""The whole chain of a job as processes: queue, sensor, Prefect, worker, image and region runs.

Every call of the sensor, the worker and the runs to Prefect and to AWS goes through a proxy, which
fails on demand; and each process can be killed. The test's own calls go past the proxies.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.local import pool
from deployments.local.aws import EmbeddedAws, start_aws, wait_for_aws
from deployments.local.prefect_server import PrefectServer, start_server
from deployments.local.process import Process, inherited_environment
from deployments.local.processes import Processes
from deployments.local.resources import (
    IMAGE_BUCKET,
    RESULT_BUCKET,
    WORK_BUCKET,
    Resources,
    create_resources,
)
from tasks.aws import clients
from tasks.aws.clients import client
from tasks.queue.sqs import send
from tasks.settings import settings
from tasks.storage import objects
from tests.counting_model import CountingModel, CountingModels, counting_models
from tests.faulty_proxy import Call, FaultyProxy, faulty_proxy
from tests.inbox import received
from tests.polling import until

ENDS = {"SUCCESS", "PARTIAL", "FAILED"}
PROJECT = Path(__file__).parents[1]

_SENSOR = """
import os
import flows.sensor
import tasks.queue.sqs
flows.sensor.VISIBILITY = tasks.queue.sqs.VISIBILITY = int(os.environ["VISIBILITY"])
flows.sensor.sensor()
"""
"""A sensor whose messages come back after seconds rather than a minute if it dies."""


@dataclass
class Chain:
    """The running chain.

    Attributes:
        folder: For logs and local files.
        resources: Queues and topic.
        prefect: The proxy before Prefect's server.
        aws: The proxy before the emulated AWS.
        server: Prefect's server.
        models: The server of models.
        variables: The settings of every process.
    """

    folder: Path
    processes: Processes
    cloud: EmbeddedAws
    server: PrefectServer
    models: CountingModels
    aws: FaultyProxy
    prefect: FaultyProxy
    resources: Resources
    variables: dict[str, str]
    _statuses: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    _worker: Process | None = None

    # What is sent, and what is told

    def send(self, job: str, model: CountingModel, *images: str, **fields: Any) -> str:
        """Send a request for images of the image bucket; returns the message."""
        message = {
            "jobId": job,
            "imageUrls": [f"s3://{IMAGE_BUCKET}/{name}" for name in images],
            "outputs": [{"type": "S3", "bucket": RESULT_BUCKET, "prefix": job}],
            "imageProcessor": {"name": model.url, "type": "HTTP_ENDPOINT"},
            "imageProcessorTileSize": 128,
            "imageProcessorTileOverlap": 32,
            "imageProcessorTileFormat": "GTIFF",
        }
        body = json.dumps(message | fields)
        send(self.resources.queue_url, body)
        return body

    def resend(self, message: str) -> None:
        """Send a message again."""
        send(self.resources.queue_url, message)

    def upload(self, image: Path, name: str) -> str:
        """Put an image into the image bucket; returns its name."""
        objects.put(f"s3://{IMAGE_BUCKET}/{name}", image)
        return name

    def copy(self, image: str, name: str) -> str:
        """Put an image of the image bucket there under another name; returns that."""
        source = {"Bucket": IMAGE_BUCKET, "Key": image}
        client("s3").copy_object(CopySource=source, Bucket=IMAGE_BUCKET, Key=name)
        return name

    def statuses(self, job: str) -> list[str]:
        """The statuses of a job so far."""
        for each in received(self.resources.status_queue_url):
            self._statuses[each.get("job_id", "")].append(each)
        return [each["status"] for each in self._statuses[job]]

    def await_end(self, job: str, times: int = 1) -> str:
        """Wait for the terminal status that a job has for the n-th time; returns it."""
        until(lambda: self._ends(job)[times - 1 :], lambda: (job, self.statuses(job)), interval=0.3)
        return self._ends(job)[times - 1]

    def _ends(self, job: str) -> list[str]:
        return [status for status in self.statuses(job) if status in ENDS]

    def reason(self, job: str) -> str:
        """The text of a job's last status."""
        return str(self._statuses[job][-1]["body"])

    def dead_letters(self) -> list[dict[str, Any]]:
        """The messages on the dead-letter queue, which are deleted."""
        return received(self.resources.dead_letter_url)

    def queue_is_empty(self) -> bool:
        """Whether no message is on the queue, hidden ones included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = client("sqs").get_queue_attributes(
            QueueUrl=self.resources.queue_url, AttributeNames=names
        )
        return all(answer["Attributes"][name] == "0" for name in names)

    # What is published

    def published(self, job: str) -> list[str]:
        """The names of a job's published files."""
        prefix = f"{job}/"
        answer = client("s3").list_objects_v2(Bucket=RESULT_BUCKET, Prefix=prefix)
        return [each["Key"].removeprefix(prefix) for each in answer.get("Contents", [])]

    def features(self, job: str, image: str) -> list[dict[str, Any]]:
        """The published features of an image, as `places` has them."""
        body = objects.get(f"s3://{RESULT_BUCKET}/{job}/{Path(image).name}.geojson")
        return places(json.loads(body))

    def download(self, job: str, name: str) -> Path:
        """A copy of a published file."""
        path = self.folder / f"{job}-{name}"
        path.write_bytes(objects.get(f"s3://{RESULT_BUCKET}/{job}/{name}"))
        return path

    def stored_tiles(self, job: str) -> int:
        """Number of a job's tiles whose answers by the model are stored."""
        s3, tiles = client("s3"), set[int]()
        kept = s3.list_objects_v2(Bucket=WORK_BUCKET, Prefix=f"jobs/{job}/").get("Contents", [])
        for key in [each["Key"] for each in kept if "/answers/" in each["Key"]]:
            body = s3.get_object(Bucket=WORK_BUCKET, Key=key)["Body"].read()
            lines = pa.ipc.open_stream(body).read_all().to_pylist()
            tiles |= {line["tile"] for line in lines if line["state"] == "inferred"}
        return len(tiles)

    def writes_results(self, job: str) -> Callable[[Call], bool]:
        """Whether a call writes a file of a job's results."""
        return lambda call: (
            call.method in {"PUT", "POST"} and call.path.startswith(f"/{RESULT_BUCKET}/{job}/")
        )

    # What runs

    def image_runs(self, job: str) -> list[FlowRun]:
        """The runs of a job's images, the oldest first."""
        return [run for run in self._runs(job) if "region" not in run.parameters]

    def region_runs(self, job: str) -> list[FlowRun]:
        """The runs of a job's regions, the oldest first."""
        return [run for run in self._runs(job) if "region" in run.parameters]

    def _runs(self, job: str) -> list[FlowRun]:
        tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[f"job:{job}"]))
        with get_client(sync_client=True) as prefect:
            runs = prefect.read_flow_runs(flow_run_filter=tagged)
        return sorted(runs, key=lambda run: run.created)  # type: ignore[arg-type, return-value]

    def await_processes(self, job: str, *, of_regions: bool = False) -> list[psutil.Process]:
        """Wait until runs of a job's image, or of its regions, have processes; returns these."""
        found: list[psutil.Process] = []

        def looked() -> bool:
            runs = self.region_runs(job) if of_regions else self.image_runs(job)
            found[:] = processes_of(runs)
            return bool(found)

        until(looked)
        return found

    @contextmanager
    def sensor(self, visibility: int = 15, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        """A sensor in a process of its own; killed when the block ends.

        Args:
            visibility: Seconds for which a received message is hidden.
            variables: Further variables of its environment.
        """
        with (self.folder / "logs" / "sensor.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _SENSOR],
                env=self.environment() | {"VISIBILITY": str(visibility)} | variables,
                stdout=log,
                stderr=log,
                cwd=PROJECT,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def start_worker(self, **variables: str) -> None:
        """Start the worker and wait until it polls; its runs have these variables too."""
        assert self._worker is None
        self._worker = pool.start_worker(
            self.processes, self.server, self.folder, self.environment() | variables
        )
        self._worker.wait_until(lambda: pool.worker_online(self.server), timeout=300)

    def kill_worker(self) -> None:
        """Kill the worker -9, and with it the processes of its runs, as a lost machine does."""
        assert self._worker is not None
        guard = psutil.Process(self._worker.pid)
        for process in guard.children():
            process.kill()
        guard.wait(60)
        self._worker = None

    def deploy(self) -> None:
        """Deploy the flows."""
        pool.deploy(
            self.processes, self.server, self.folder, PROJECT, self.environment(proxied=False)
        )

    def environment(self, *, proxied: bool = True) -> dict[str, str]:
        """The environment of the chain's processes."""
        own = self.server.environment | self.cloud.environment | self.variables
        if proxied:
            own["AWS_ENDPOINT_URL"] = self.aws.url
            own["AWS_S3_ENDPOINT"] = self.aws.url.removeprefix("http://")
            own["PREFECT_API_URL"] = f"{self.prefect.url}/api"
        return inherited_environment() | own


@contextmanager
def running_chain(folder: Path, **variables: str) -> Iterator[Chain]:
    """The chain with a worker and without a sensor; it ends with the block.

    Args:
        folder: For logs, Prefect's database and local files.
        variables: Further variables of every process.
    """
    with ExitStack() as exits:
        processes = exits.enter_context(Processes())
        server = start_server(processes, folder)
        cloud = start_aws(processes, folder)
        models = exits.enter_context(counting_models())
        wait_for_aws(cloud, timeout=300)
        resources = create_resources(cloud.client)
        given = {
            "SWATH_QUEUE_URL": resources.queue_url,
            "SWATH_STATUS_TOPIC_ARN": resources.status_topic_arn,
            "SWATH_WORK_URI": f"s3://{WORK_BUCKET}",
            "SWATH_REGION_DEPLOYMENT": "region/region-local",
            "SWATH_REGION_SIZE": "300",
            "SWATH_SENSORS_PER_QUEUE": "9",  # so that a killed one's slot delays none
        } | variables
        exits.enter_context(_own_environment(cloud.environment | given))
        server.wait(timeout=600)
        pool.create_pool(server)
        exits.enter_context(temporary_settings({PREFECT_API_URL: server.api_url}))
        chain = Chain(
            folder=folder,
            processes=processes,
            cloud=cloud,
            server=server,
            models=models,
            aws=exits.enter_context(faulty_proxy(cloud.endpoint_url)),
            prefect=exits.enter_context(faulty_proxy(server.ui_url)),
            resources=resources,
            variables=given,
        )
        chain.start_worker()
        chain.deploy()
        yield chain


@contextmanager
def _own_environment(variables: dict[str, str]) -> Iterator[None]:
    """Have this process use the emulated AWS, and its settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [each for each in os.environ if each.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        settings.cache_clear()
        clients.renew_credentials()
        yield
    settings.cache_clear()
    clients.renew_credentials()


def processes_of(runs: Sequence[FlowRun]) -> list[psutil.Process]:
    """The processes of runs on this machine."""
    wanted = {str(run.id) for run in runs}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("PREFECT__FLOW_RUN_ID") in wanted:
                found.append(process)
    return found


def kill(processes: Sequence[psutil.Process]) -> None:
    """Kill processes -9 and wait until they are gone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=60)


def places(collection: dict[str, Any]) -> list[dict[str, Any]]:
    """Where the features of a collection are and what they are, in an order of their own."""
    found = [
        {"geometry": each["geometry"]}
        | {name: each["properties"][name] for name in ("imageBBox", "featureClasses")}
        for each in collection["features"]
    ]
    return sorted(found, key=json.dumps)
