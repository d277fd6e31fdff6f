"""The settings of an operator, read from the environment variables `SWATH_…`."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tasks.prices import Prices
from tasks.quotas import OwnerQuota, OwnerQuotas


class ForeignResults(StrEnum):
    """What happens where the results of another job have the name that a job's would get."""

    VERSION = "version"
    REPLACE = "replace"


class LogFormat(StrEnum):
    """The form of log lines."""

    TEXT = "text"
    JSON = "json"


def _host_pattern(text: str) -> str:
    """A host, a host and port, or a pattern for the hosts of a domain, in lower case."""
    text = text.strip().lower()
    host, _, port = text.rpartition(":") if re.search(r":[0-9]+$", text) else (text, "", "")
    if not re.fullmatch(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]", host):
        raise ValueError(
            "is no host: give host, host:port, [address] or *.domain, without a scheme"
        )
    return (host.strip("[]") + ":" + port) if port else host.strip("[]")


HostPattern = Annotated[str, AfterValidator(_host_pattern)]


class Settings(BaseSettings):
    """The settings of an operator; the field `name` is read from the variable `SWATH_NAME`."""

    model_config = SettingsConfigDict(env_prefix="SWATH_", frozen=True)

    queue_url: str | None = Field(
        None, description="SQS queue from which the sensor reads requests."
    )
    urgent_queue_url: str | None = Field(
        None,
        description="SQS queue that the sensor reads before SWATH_QUEUE_URL; its requests have the "
        "highest priority.",
    )
    status_topic_arn: str | None = Field(None, description="SNS topic for status messages.")
    local_roots: list[Path] = Field(
        [], description="Folders in which requests may name images and outputs (a JSON list)."
    )
    dem_uri: str | None = Field(
        None,
        min_length=1,
        description="Elevation model for images with RPC or SICD: a GeoTIFF, a VRT or a folder of "
        "GeoTIFF tiles, on disk or s3://; unset, each image has one height.",
    )
    work_uri: str = Field(
        default_factory=lambda: str(Path(tempfile.gettempdir()) / "swath"),
        description="Where answers of models and results of regions are kept: s3://bucket/prefix "
        "or a folder.",
    )
    keep_by_job: bool = Field(
        True,
        description="Whether what a model answered is kept for each job apart; if not, another job "
        "with the same question is not asked anew.",
    )
    storage_patience: NonNegativeFloat = Field(
        30.0,
        description="Seconds for which a read or write in S3 or on a disk is repeated if it may "
        "succeed later: after a refusal, on a full disk, without a connection.",
    )
    foreign_results: ForeignResults = Field(
        ForeignResults.VERSION,
        description="Where the results of another job have the name that a job's would get: "
        "version, the job's own get its identifier in their name; replace, the other's are "
        "replaced.",
    )
    keep_after_success: PositiveFloat = Field(
        24.0,
        description="Hours for which the model's answers are kept after an image ended with "
        "SUCCESS.",
    )
    keep_answers: PositiveFloat = Field(
        14.0,
        description="Days without a further answer for which those of any other image are kept, "
        "and the record of every image.",
    )
    keep_runs: PositiveInt = Field(
        30,
        description="Days for which the Prefect server of `swath up` keeps a run after its end, "
        "with its tasks, logs and artifacts; an equal message that comes later is processed again.",
    )
    image_deployment: str = Field(
        "image/image-local", description="Deployment that the sensor runs for each image."
    )
    region_deployment: str | None = Field(
        None, description="Deployment that runs the regions; unset, they run in the image's run."
    )
    onnx_region_deployment: str | None = Field(
        None,
        description="Deployment that runs the regions of models of type ONNX, such as one on "
        "machines with a GPU; unset, they are run as those of other models.",
    )
    sensors_per_queue: PositiveInt = Field(1, description="Concurrent sensor runs on one queue.")
    look_ahead: PositiveInt = Field(
        500,
        description="Images that may wait in Prefect, among which the sensor chooses the next; "
        "while more do, messages stay on the queue.",
    )
    owner_quotas: Annotated[OwnerQuotas, NoDecode] = Field(
        {},
        description="By the owner of jobs (tags.owner), `images` at work, `regions` on the work "
        "pool and `calls` to each model that they may have at a time (a JSON object); `*` is each "
        "owner that is not named.",
    )
    region_size: PositiveInt | None = Field(
        None,
        description="Approximate height of a region in pixels; unset, it follows from the image, "
        "the measured throughput of the model and the number of workers.",
    )
    region_seconds: PositiveFloat = Field(
        300.0, description="Approximate seconds that a region should take, if its size is not set."
    )
    region_workers: PositiveInt = Field(
        10,
        description="Regions that run at the same time, if neither their deployment nor its work "
        "pool has a concurrency limit.",
    )
    read_patience: PositiveFloat = Field(
        300.0,
        description="Seconds for which an image in S3 that cannot be read is asked for again, "
        "counted from the last part of it that was read.",
    )
    prices: Prices | None = Field(
        None,
        description="Prices of calls, instances, processor time and bytes, a JSON object "
        "([cost](cost.md#prices)); unset, costs have no amount of money, and maxCost is refused.",
    )
    max_tiles: PositiveInt = Field(2_000_000, description="Maximum number of tiles of one image.")
    image_attempts: PositiveInt = Field(
        3,
        description="Maximum number of starts of an image's run: one whose process dies is started "
        "again.",
    )
    region_attempts: PositiveInt = Field(3, description="Maximum number of runs of one region.")
    region_timeout: PositiveFloat = Field(3600.0, description="Maximum seconds of a region's run.")
    start_timeout: PositiveFloat | None = Field(
        None,
        description="Maximum seconds from the submission of a run to its start; unset, 180 on a "
        "work pool of processes, and 900 on any other, as a machine has to be found there.",
    )
    batch_size: PositiveInt = Field(
        16, description="Minimum number of tiles of one inference task."
    )
    endpoint_concurrency: PositiveInt = Field(
        64,
        description="Concurrent calls to an endpoint from all regions and images, if the endpoint "
        "does not declare a limit.",
    )
    instance_concurrency: PositiveInt | None = Field(
        None,
        description="Concurrent calls to one instance of a SageMaker endpoint without the tag "
        "osml:instance-concurrency; unset, the limit is adapted to the endpoint's answers.",
    )
    endpoint_timeout: PositiveFloat = Field(60.0, description="Maximum seconds of a call.")
    async_timeout: PositiveFloat = Field(
        900.0,
        description="Maximum seconds of an asynchronous SageMaker endpoint for a tile, the wait in "
        "its queue included.",
    )
    async_uri: str | None = Field(
        None,
        description="Where tiles are stored for asynchronous SageMaker endpoints, "
        "s3://bucket/prefix; unset, under SWATH_WORK_URI.",
    )
    endpoint_patience: PositiveFloat = Field(
        60.0,
        description="Seconds without any answer after which a region makes no more calls to an "
        "endpoint; also the seconds from a tile's first failed call during which it is retried.",
    )
    tile_attempts: PositiveInt = Field(
        4, description="Maximum number of failed calls for one tile while others are answered."
    )
    endpoint_hosts: list[HostPattern] | None = Field(
        None,
        description="Hosts on which requests may call models over HTTP: `host`, `host:port` or "
        "`*.domain` (a JSON list); unset, any but link-local addresses and the servers of this "
        "system.",
    )
    endpoint_roles: list[str] | None = Field(
        None,
        description="ARNs of the IAM roles that requests may name, for calling models and reading "
        "images (a JSON list); unset, any.",
    )
    metrics_emf: bool = Field(
        False,
        description="Whether metrics are written to standard output, in CloudWatch's embedded "
        "metric format.",
    )
    metrics_folder: Path | None = Field(
        None,
        description="Folder in which the processes of this machine keep their metrics for "
        "`swath metrics`, which serves them to Prometheus; unset, they keep none.",
    )
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port on which `swath up` serves metrics to Prometheus; unset, it does not.",
    )
    log_format: LogFormat | None = Field(
        None, description="Form of log lines: text or json; unset, json on ECS and text elsewhere."
    )
    ecs_cluster: str | None = Field(None, description="ECS cluster on which the worker runs flows.")
    ecs_family: str = Field(
        "swath", description="Prefix of the names of the flows' ECS task definitions."
    )
    ecs_subnets: list[str] = Field([], description="Subnets of the flows' ECS tasks (a JSON list).")
    ecs_security_groups: list[str] = Field(
        [], description="Security groups of the flows' ECS tasks (a JSON list)."
    )
    ecs_public_ip: bool = Field(
        False,
        description="Whether the flows' ECS tasks have public IP addresses. They need one in "
        "subnets without a NAT gateway or VPC endpoints.",
    )
    ecs_gpu_instances: NonNegativeInt = Field(
        0,
        description="Machines with a GPU that the ECS cluster may have at a time, each of which "
        "works one region of an ONNX model.",
    )
    kubernetes_image: str | None = Field(
        None, description="Container image of the flows' jobs on Kubernetes."
    )
    kubernetes_namespace: str = Field(
        "swath", description="Namespace of the flows' jobs on Kubernetes."
    )
    kubernetes_gpu_image: str | None = Field(
        None, description="Container image of jobs on Kubernetes that have a GPU."
    )
    kubernetes_gpus: NonNegativeInt = Field(
        0,
        description="GPUs of the Kubernetes cluster for Swath, each of which works one region of "
        "an ONNX model at a time.",
    )

    def quota(self, owner: str) -> OwnerQuota:
        """What the jobs of an owner may have at a time; jobs without an owner are those of ""."""
        return self.owner_quotas.get(owner) or self.owner_quotas.get("*") or OwnerQuota()


class _CurrentSettings:
    """Returns the settings that apply where it is called."""

    def __init__(self) -> None:
        self._of_process = lru_cache(Settings)
        self._of_job: ContextVar[Settings | None] = ContextVar("settings", default=None)

    def __call__(self) -> Settings:
        return self._of_job.get() or self._of_process()

    def cache_clear(self) -> None:
        """Read the environment again at the next call."""
        self._of_process.cache_clear()

    @contextmanager
    def override(self, **fields: object) -> Iterator[None]:
        """Change settings for one job of this process, whose other threads may run other jobs.

        The change applies in this thread until the context is left, and in functions that run in
        other threads with a copy of its context (`contextvars`).

        Args:
            fields: Values of fields of `Settings`, which are not validated.
        """
        token = self._of_job.set(self().model_copy(update=fields))
        try:
            yield
        finally:
            self._of_job.reset(token)


settings = _CurrentSettings()
"""The settings of this process, or of the job that this thread works on."""
