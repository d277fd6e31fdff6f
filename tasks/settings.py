"""What an operator sets: one typed object, read from `SWATH_…` environment variables."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """An operator's settings; every field `name` is the variable `SWATH_NAME`."""

    model_config = SettingsConfigDict(env_prefix="SWATH_", frozen=True)

    queue_url: str | None = Field(None, description="SQS queue that the sensor drains.")
    status_topic_arn: str | None = Field(None, description="SNS topic for status messages.")
    local_roots: list[Path] = Field(
        [], description="Folders that a request may name images and outputs in (a JSON list)."
    )
    dem_uri: str | None = Field(
        None,
        min_length=1,
        description="Elevation model under images with RPC or SICD: a GeoTIFF, a VRT or a folder "
        "of GeoTIFF tiles, on disk or s3://; unset, each has one height.",
    )
    work_uri: str = Field(
        default_factory=lambda: str(Path(tempfile.gettempdir()) / "swath"),
        description="Where regions leave detections for the merge: s3://bucket/prefix or a folder.",
    )
    image_deployment: str = Field(
        "image/local", description="Deployment that the sensor starts for each image."
    )
    region_deployment: str | None = Field(
        None, description="Deployment that runs the regions; unset, they run in the image's run."
    )
    sensors_per_queue: PositiveInt = Field(1, description="Sensor runs that may drain one queue.")
    region_size: PositiveInt | None = Field(
        None,
        description="Rows of a region, about, in pixels; unset, they follow from the image, what "
        "its tiles cost, and the workers there are.",
    )
    region_seconds: PositiveFloat = Field(
        300.0, description="Seconds that a region should take, about, where its size is not set."
    )
    region_workers: PositiveInt = Field(
        10,
        description="Regions that run at a time, where neither their deployment nor its work pool "
        "has a limit.",
    )
    max_tiles: PositiveInt = Field(2_000_000, description="Tiles that one image may have.")
    region_attempts: PositiveInt = Field(3, description="Runs that a lost region may take.")
    region_timeout: PositiveFloat = Field(3600.0, description="Seconds that a region run may take.")
    start_timeout: PositiveFloat = Field(
        900.0,
        description="Seconds that a run may take to start once it was submitted, as on ECS, whose "
        "machines may not come.",
    )
    batch_size: PositiveInt = Field(16, description="Tiles of one inference task, at least.")
    endpoint_concurrency: PositiveInt = Field(
        64,
        description="Calls that an endpoint gets at a time from all regions and images, where it "
        "does not say how many it takes.",
    )
    instance_concurrency: PositiveInt | None = Field(
        None,
        description="Calls that an instance of a SageMaker endpoint takes at a time, where its tag "
        "osml:instance-concurrency does not say; unset, it is found out by trying.",
    )
    endpoint_timeout: PositiveFloat = Field(60.0, description="Seconds that a call may take.")
    async_timeout: PositiveFloat = Field(
        900.0,
        description="Seconds that an asynchronous SageMaker endpoint may take for a tile, its "
        "queue included.",
    )
    async_uri: str | None = Field(
        None,
        description="Where tiles lie for asynchronous SageMaker endpoints, s3://bucket/prefix; "
        "unset, under SWATH_WORK_URI.",
    )
    endpoint_patience: PositiveFloat = Field(
        60.0,
        description="Seconds without any answer after which an endpoint is given up; seconds from "
        "its first failure on after which a tile is.",
    )
    tile_attempts: PositiveInt = Field(4, description="Calls that may fail for one tile.")
    ecs_cluster: str | None = Field(None, description="ECS cluster that the worker runs flows on.")
    ecs_family: str = Field(
        "swath", description="What the names of the flows' ECS task definitions begin with."
    )
    ecs_subnets: list[str] = Field([], description="Subnets of the flows' ECS tasks (a JSON list).")
    ecs_security_groups: list[str] = Field([], description="Their security groups (a JSON list).")
    ecs_public_ip: bool = Field(
        False, description="Whether they have public addresses, for want of a NAT or endpoints."
    )


@lru_cache
def settings() -> Settings:
    """The settings of this process."""
    return Settings()
