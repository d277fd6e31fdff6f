"""The whole chain of a job as processes: queue, sensor, Prefect, worker, image and region runs.

Every call of the sensor, the worker and the runs to Prefect and to AWS goes through a proxy, which
fails on demand; and each process can be killed. The test's own calls go past the proxies.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.local import pool
from deployments.local.aws import EmbeddedAws, start_aws, wait_for_aws
from deployments.local.fork_server import engine_name
from deployments.local.prefect_server import PrefectServer, start_server
from deployments.local.process import Process, inherited_environment
from deployments.local.processes import Processes
from deployments.local.resources import (
    WORK_BUCKET,
    create_resources,
)
from tasks.aws import clients
from tasks.settings import settings
from tests.chain_jobs import ChainJobs
from tests.counting_model import CountingModels, counting_models
from tests.faulty_proxy import FaultyProxy, faulty_proxy
from tests.forked_commands import ForkedCommands
from tests.forked_sensors import ForkedSensors, forked_sensors
from tests.polling import until

PROJECT = Path(__file__).parents[1]


@dataclass(kw_only=True)
class Chain(ChainJobs):
    """The running chain.

    Attributes:
        prefect: The proxy before Prefect's server.
        aws: The proxy before the emulated AWS.
        server: Prefect's server.
        models: The server of models.
        variables: The settings of every process.
        sensors: What starts sensors, where they are forked.
        commands: Those of `swath` that have these settings, where a test forks them.
    """

    processes: Processes
    cloud: EmbeddedAws
    server: PrefectServer
    models: CountingModels
    aws: FaultyProxy
    prefect: FaultyProxy
    variables: dict[str, str]
    sensors: ForkedSensors | None = None
    commands: ForkedCommands | None = None
    _worker: Process | None = None

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
    def sensor(self, visibility: int = 15, **variables: str) -> Iterator[psutil.Process]:
        """A sensor in a process of its own; killed when the block ends.

        Args:
            visibility: Seconds for which a received message is hidden.
            variables: Further variables of its environment.
        """
        assert self.sensors is not None
        log = self.folder / "logs" / "sensor.log"
        process = self.sensors.start(log, visibility, variables)
        try:
            yield process
        finally:
            kill([process])

    def start_worker(self, **variables: str) -> None:
        """Start the worker and wait until it polls; its runs have these variables too."""
        self.begin_worker(**variables)
        self.await_worker()

    def begin_worker(self, **variables: str) -> None:
        """Start the worker without waiting."""
        assert self._worker is None
        self._worker = pool.start_worker(
            self.processes, self.server, self.folder, self.environment() | variables
        )

    def await_worker(self) -> None:
        """Wait until the worker polls."""
        assert self._worker is not None
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
        # of whichever test starts the process: the fork server serves runs with its own variables
        own["PYTEST_CURRENT_TEST"] = ""
        if proxied:
            own["AWS_ENDPOINT_URL"] = self.aws.url
            own["AWS_S3_ENDPOINT"] = self.aws.url.removeprefix("http://")
            own["PREFECT_API_URL"] = f"{self.prefect.url}/api"
        return inherited_environment() | own

    @contextmanager
    def adopted(self) -> Iterator[Chain]:
        """Have this process use the chain's AWS, Prefect and settings, and leave no trace."""
        with (
            pytest.MonkeyPatch.context() as patch,
            temporary_settings({PREFECT_API_URL: self.server.api_url}),
        ):
            for name in [each for each in os.environ if each.startswith("AWS_")]:
                patch.delenv(name)
            for name, value in (self.cloud.environment | self.variables).items():
                patch.setenv(name, value)
            settings.cache_clear()
            clients.renew_credentials()
            yield self
        settings.cache_clear()
        clients.renew_credentials()


@contextmanager
def running_chain(folder: Path, *, forks: bool = True, **variables: str) -> Iterator[Chain]:
    """The chain with a worker and without a sensor; it ends with the block.

    Args:
        folder: For logs, Prefect's database and local files.
        forks: Whether runs are forked, as under `swath up`, which takes seconds of CPU less for
            each, and sensors likewise; else each run starts a Python of its own, as in a container.
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
            "SWATH_ENDPOINT_TIMEOUT": "900",  # so that a call that a model holds is not repeated
            "SWATH_SENSORS_PER_QUEUE": "9",  # so that a killed one's slot delays none
        } | variables
        server.wait(timeout=600)
        pool.create_pool(server, pool.fork_socket(folder) if forks else None)
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
        if forks:
            pool.start_fork_server(processes, server, folder, chain.environment())
            chain.sensors = exits.enter_context(forked_sensors(chain.environment()))
        chain.begin_worker()
        chain.deploy()
        chain.await_worker()
        yield chain


def processes_of(runs: Sequence[FlowRun]) -> list[psutil.Process]:
    """The processes of runs on this machine."""
    return [process for found in processes_by_run(runs).values() for process in found]


def processes_by_run(runs: Sequence[FlowRun]) -> dict[UUID, list[psutil.Process]]:
    """The processes of those runs that have any on this machine.

    A run that is forked has two: the one that its worker started, and the engine, which has the
    environment of the fork server and a name of its own.
    """
    ids = {str(run.id): run.id for run in runs}
    engines = {engine_name(each): run for each, run in ids.items()}
    found = defaultdict[UUID, list[psutil.Process]](list)
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            run = ids.get(process.environ().get("PREFECT__FLOW_RUN_ID", ""))
            if run := run or engines.get(process.name()):
                found[run].append(process)
    return found


def kill(processes: Sequence[psutil.Process]) -> None:
    """Kill processes -9 and wait until they are gone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=60)
