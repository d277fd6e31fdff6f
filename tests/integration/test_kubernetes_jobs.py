"""From a message to results on Kubernetes: each run is a job that Prefect's own worker creates.

AWS is emulated, and a stand-in of the cluster's API checks the jobs and runs them as processes;
Prefect's server and its worker, the deployments of `prefect.yaml`, the model server and every flow
are the real ones. The worker has the variables of its manifest.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from prefect import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling
from rasterio.transform import from_origin

from deployments.kubernetes.pool import SHARED
from deployments.local.loopback import free_port
from deployments.local.prefect_server import start_server
from deployments.local.process import inherited_environment
from deployments.local.processes import Processes
from deployments.local.resources import (
    IMAGE_BUCKET,
    RESULT_BUCKET,
    WORK_BUCKET,
    Resources,
    create_resources,
)
from tasks.aws import clients
from tasks.queue.sqs import send
from tasks.storage import objects as stored
from tests.chain_jobs import runs_of
from tests.emulated_aws import emulated_aws
from tests.job_scene import paint
from tests.kubernetes_api import Job, KubernetesApi
from tests.kubernetes_manifests import objects
from tests.model_server import model_server
from tests.polling import until

IMAGE = "registry.example.org/swath:1"
NAMESPACE = "swath"
RUN = "prefect.io/flow-run-id"  # label of a job
REGIONS = 2


@dataclass
class Cluster:
    """The cluster, and what is outside of it.

    Attributes:
        api: The stand-in.
        resources: Queues and buckets.
        models_url: The model server.
    """

    api: KubernetesApi
    resources: Resources
    models_url: str

    def request(self, job_id: str, image: str, model: str, **fields: Any) -> dict[str, Any]:
        return {
            "jobId": job_id,
            "imageUrls": [f"s3://{IMAGE_BUCKET}/{image}"],
            "outputs": [{"type": "S3", "bucket": RESULT_BUCKET, "prefix": job_id}],
            "imageProcessor": {
                "name": f"{self.models_url}/{model}/invocations",
                "type": "HTTP_ENDPOINT",
            },
            "imageProcessorTileSize": 256,
            "imageProcessorTileOverlap": 64,
        } | fields

    def send(self, request: dict[str, Any]) -> None:
        send(self.resources.queue_url, json.dumps(request))

    def regions(self, job_id: str) -> list[Job]:
        """The jobs of a request's regions, by the labels that Prefect's worker gives them."""
        runs = {str(run.id) for run in runs_of(job_id) if "region" in run.parameters}
        found = self.api.of("swath-region")
        return [job for job in found if job.manifest["metadata"]["labels"][RUN] in runs]


def image_run(job_id: str) -> FlowRun | None:
    runs = [run for run in runs_of(job_id) if "region" not in run.parameters]
    return runs[0] if runs else None


def ended(job_id: str) -> bool:
    run = image_run(job_id)
    return run is not None and run.state is not None and run.state.is_final()


def variables_of_the_worker(resources: Resources) -> tuple[dict[str, str], dict[str, str]]:
    """The ConfigMap's entries, with what an operator sets, and the worker's own variables."""
    shared = objects()["ConfigMap", SHARED]["data"] | {
        "SWATH_QUEUE_URL": resources.queue_url,
        "SWATH_STATUS_TOPIC_ARN": resources.status_topic_arn,
        "SWATH_WORK_URI": f"s3://{WORK_BUCKET}/work",
        "SWATH_REGION_SIZE": "300",
    }
    pod = objects()["Deployment", "swath-worker"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    own = {each["name"]: each.get("value", NAMESPACE) for each in container["env"]}
    own |= {"SWATH_KUBERNETES_IMAGE": IMAGE, "PREFECT_WORKER_WEBSERVER_PORT": str(free_port())}
    own["PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_ENABLED"] = "false"  # there is nothing to watch
    return shared, own


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("kubernetes")
    with (
        Processes() as processes,
        emulated_aws(folder),
        model_server() as models,
    ):
        server = start_server(processes, folder)
        resources = create_resources(lambda service: closing(clients.client(service)))
        clients.renew_credentials()
        put_images(folder)
        server.wait()
        shared, own = variables_of_the_worker(resources)
        aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        shared |= aws | {"PREFECT_API_URL": server.api_url}
        (folder / "jobs").mkdir()
        with (
            KubernetesApi(NAMESPACE, folder / "jobs", shared) as api,
            temporary_settings({PREFECT_API_URL: server.api_url}),
        ):
            processes.start(
                "the worker",
                [sys.executable, "-m", "deployments.kubernetes.worker"],
                env=inherited_environment()
                | server.environment
                | shared
                | own
                | {"KUBECONFIG": str(api.kubeconfig)},
                log=folder / "worker.log",
            )
            until(lambda: api.of("swath-sensor"), (folder / "worker.log").read_text)
            yield Cluster(api, resources, models)


def put_images(folder: Path) -> None:
    paint(folder / "harbour.tif")
    pixels = np.zeros((3, 900, 300), np.uint8)
    pixels[2] = 255  # blue: the model `failure` is slow
    profile = {"width": 300, "height": 900, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    place = from_origin(500_000, 5_400_000, 0.5, 0.5)
    with rasterio.open(folder / "blue.tif", "w", driver="GTiff", transform=place, **profile) as to:
        to.write(pixels)
    for name in ("harbour.tif", "blue.tif"):
        stored.put(f"s3://{IMAGE_BUCKET}/{name}", folder / name)


def test_a_message_becomes_jobs_of_image_and_regions_and_their_results(cluster: Cluster) -> None:
    cluster.send(cluster.request("chain", "harbour.tif", "bright-targets"))
    until(lambda: ended("chain"), lambda: cluster.api.refused)
    run = image_run("chain")
    assert run is not None
    assert run.state_name == "Completed"
    assert cluster.api.refused == []
    regions = cluster.regions("chain")
    assert len(regions) == REGIONS
    assert run.infrastructure_pid in {f"{NAMESPACE}:{job.name}" for job in cluster.api.jobs}
    for job in cluster.api.jobs:
        pod = job.manifest["spec"]["template"]["spec"]
        assert pod["containers"][0]["image"] == IMAGE
    found = json.loads(stored.get(f"s3://{RESULT_BUCKET}/chain/harbour.tif.geojson"))
    assert len(found["features"]) > 10
    until(lambda: all(job.guard.poll() is not None for job in regions))
    assert [job.guard.returncode for job in regions] == [0] * REGIONS


def test_cancelling_an_image_ends_its_jobs(cluster: Cluster) -> None:
    slow = {"imageProcessorParameters": {"seconds": 600}}
    cluster.send(cluster.request("cancelled", "blue.tif", "failure", **slow))
    until(lambda: len(at_work("cancelled")) > 1)
    run = image_run("cancelled")
    assert run is not None
    with get_client(sync_client=True) as prefect:
        prefect.set_flow_run_state(run.id, Cancelling())
    jobs = cluster.regions("cancelled")
    until(lambda: all(job.guard.poll() is not None for job in jobs))
    until(lambda: ended("cancelled"))
    until(lambda: all(each.state and each.state.is_final() for each in runs_of("cancelled")))
    assert {each.state_name for each in runs_of("cancelled")} == {"Cancelled"}
    assert len(cluster.regions("cancelled")) == len(jobs)


def at_work(job_id: str) -> list[FlowRun]:
    """The runs of a job's regions that have begun."""
    runs = [run for run in runs_of(job_id) if "region" in run.parameters]
    return [run for run in runs if run.state_name == "Running"]
