"""All metrics: their names in CloudWatch, kinds, units and dimensions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Namespace(StrEnum):
    """A namespace of CloudWatch."""

    OSML = "OSML/ModelRunner"
    SWATH = "Swath"


class Operation(StrEnum):
    """The value of the dimension `Operation` of the metrics under OSML's names."""

    IMAGE = "ImageProcessing"
    REGION = "RegionProcessing"
    TILE_GENERATION = "TileGeneration"
    TILE = "TileProcessing"
    MODEL = "ModelInvocation"
    REFINEMENT = "FeatureRefinement"
    STORAGE = "FeatureStorage"
    AGGREGATION = "FeatureAggregation"
    SELECTION = "FeatureSelection"
    DISSEMINATION = "FeatureDissemination"
    SCHEDULING = "Scheduling"


class Kind(StrEnum):
    """How the values of a metric add up."""

    COUNTER = "counter"
    DURATION = "duration"
    GAUGE = "gauge"
    """The values of several processes are added."""
    GREATEST = "greatest"
    """A gauge of which the greatest value of several processes counts."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Attributes:
        namespace: Its namespace in CloudWatch.
        name: Its name there.
        kind: How its values add up.
        unit: CloudWatch's name of its unit.
        about: What is counted.
        suffix: What its name in Prometheus ends with, besides `_total`.
        dimensions: Names of its dimensions; those of OSML differ by operation.
    """

    namespace: Namespace
    name: str
    kind: Kind
    about: str
    unit: str = "Count"
    suffix: str = ""
    dimensions: tuple[str, ...] = ()


_OSML = ("Operation", "ModelName", "InputFormat")


def _osml(name: str, kind: Kind, about: str, unit: str = "Count", suffix: str = "") -> Metric:
    return Metric(Namespace.OSML, name, kind, about, unit, suffix, _OSML)


DURATION = _osml("Duration", Kind.DURATION, "Time that an operation took.", "Seconds", "seconds")
INVOCATIONS = _osml("Invocations", Kind.COUNTER, "How often an operation was executed.")
ERRORS = _osml("Errors", Kind.COUNTER, "How often an operation failed.")
RETRIES = _osml("Retries", Kind.COUNTER, "How often an operation was repeated.")
THROTTLES = _osml("Throttles", Kind.COUNTER, "How often an operation had to wait.")
UTILIZATION = _osml(
    "Utilization", Kind.GREATEST, "Share of the capacity in use.", "Percent", "percent"
)
BUFFERED = _osml(
    "ApproximateNumberOfRequestsBuffered", Kind.GREATEST, "Image runs that have not ended."
)
VISIBLE = _osml("ApproximateNumberOfRequestsVisible", Kind.GREATEST, "Image runs that wait.")


def _swath(
    name: str, kind: Kind, about: str, *dimensions: str, unit: str = "Count", suffix: str = ""
) -> Metric:
    return Metric(Namespace.SWATH, name, kind, about, unit, suffix, dimensions)


TILES = _swath("Tiles", Kind.COUNTER, "Tiles that reached their final state.", "ModelName", "State")
CALLS = _swath("Calls", Kind.COUNTER, "Calls of the model.", "ModelName")
FAILED_CALLS = _swath(
    "FailedCalls", Kind.COUNTER, "Calls without an answer that can be read.", "ModelName", "Reason"
)
CALLS_IN_FLIGHT = _swath("CallsInFlight", Kind.GAUGE, "Calls at this moment.", "ModelName")
CALL_LIMIT = _swath("CallLimit", Kind.GAUGE, "Calls that may be in flight.", "ModelName")
MODEL_GIVEN_UP = _swath(
    "ModelGivenUp", Kind.COUNTER, "Regions that gave their model up.", "ModelName"
)
BACKLOG_TILES = _swath(
    "BacklogTiles", Kind.GAUGE, "Tiles of images that have begun, not done.", "ModelName"
)
AREA_COVERED = _swath(
    "AreaCovered",
    Kind.COUNTER,
    "Ground whose tiles did not fail.",
    "ModelName",
    unit="None",
    suffix="square_kilometres",
)
FEATURES = _swath("Features", Kind.COUNTER, "Published features.", "ModelName")
COST = _swath(
    "Cost", Kind.COUNTER, "What images cost, in the currency of the prices.", "ModelName",
    unit="None",
)  # fmt: skip
IMAGES = _swath("Images", Kind.COUNTER, "Images that ended.", "ModelName", "Status")
IMAGES_WAITING = _swath("ImagesWaiting", Kind.GREATEST, "Image runs that wait for a place.")
IMAGES_RUNNING = _swath("ImagesRunning", Kind.GREATEST, "Image runs that have begun.")
OLDEST_IMAGE_AGE = _swath(
    "OldestImageAge",
    Kind.GREATEST,
    "Since when the oldest image run that has not ended should have begun.",
    unit="Seconds",
    suffix="seconds",
)
REFUSED_MESSAGES = _swath("RefusedMessages", Kind.COUNTER, "Messages that were refused.")
STARTUP_DURATION = _swath(
    "StartupDuration",
    Kind.DURATION,
    "Time of a stage of the start of a run.",
    "Run",
    "Stage",
    unit="Seconds",
    suffix="seconds",
)

METRICS = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""All of them, in the order of this module."""

BY_NAME = {(metric.namespace.value, metric.name): metric for metric in METRICS}
"""The metrics by namespace and name."""


def snake_case(name: str) -> str:
    """The name of a metric or a dimension outside CloudWatch: `ModelName` is `model_name`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
