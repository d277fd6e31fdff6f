"""One region: read → infer → settle what it can → store, with its batches as task runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

import flows.secret_blocks  # noqa: F401 - so that requests may name Secret blocks
from flows.alive import alive
from flows.capacity import capacity_metrics, earlier_estimate
from flows.measured import measured
from flows.progress import region_progress
from flows.run_names import region_run_name
from flows.run_records import log_errors, write_metrics
from flows.slots import endpoint_slots
from flows.startup import record_start, startup
from flows.stored_request import StoredRequest, read_request
from tasks.cost.meter import Meter
from tasks.errors import ImageChangedError, SwathError
from tasks.grid.tiles import Region
from tasks.inference.client import InferenceClient
from tasks.inference.concurrency_estimator import CapacityEstimate
from tasks.job.asking import Asking
from tasks.job.kept import Kept
from tasks.job.observer import Observer
from tasks.job.region import RegionOutcome, work_region
from tasks.job.shared_client import SharedClient
from tasks.planning.plan import Plan, make_plan
from tasks.request import Request
from tasks.results.coverage import TileState
from tasks.settings import settings
from tasks.steps import submit_batch

ENDPOINT_DOWN = "Endpoint down"
"""Name of the completed state of a region's run whose endpoint was given up."""

LIMIT_REACHED = "Limit reached"
"""Name of the completed state of a region's run whose job may ask the model for no more."""

IMAGE_REPLACED = "Image replaced"
"""Name of the failed state of a region's run that found another version of the image."""


@dataclass(frozen=True)
class Turn:
    """What the run of an image gives to a region's run in its own process.

    Attributes:
        shared: The client of the endpoint, for all regions of the image.
        next_may_begin: Is called when the next region may begin.
    """

    shared: SharedClient
    next_may_begin: Callable[[], None]


TURN: ContextVar[Turn | None] = ContextVar("turn", default=None)
"""Set for the regions of an image that run in its process; a parameter must be JSON."""


def client_of(
    request: Request, earlier: CapacityEstimate | None = None, meter: Meter | None = None
) -> SharedClient:
    """A client of a request's endpoint, whose calls are limited by slots in Prefect.

    Args:
        request: Names the endpoint.
        earlier: An earlier estimate of its capacity, to start with.
        meter: Counts what is used; None for one of its own.
    """

    def concurrency(client: InferenceClient) -> AbstractContextManager[None]:
        default = settings().endpoint_concurrency
        return endpoint_slots(request, client.endpoint, client.limiter, default_limit=default)

    return SharedClient(concurrency, earlier=earlier, meter=meter)


def _name() -> str:
    region = Region.model_validate(flow_run.parameters["region"])
    return region_run_name(flow_run.parameters["image_url"], region)


@flow(name="region", flow_run_name=_name)
def region(
    request: Request | StoredRequest, image_url: str, etag: str, region: Region, work_uri: str
) -> State[dict[str, int]]:
    """Detect the objects of one region of an image and store them for the merge.

    Args:
        request: The message, or where it is stored.
        image_url: One of its images.
        etag: The image version, which must be the same for all regions.
        region: The region, whose tiles are sent to the model.
        work_uri: Folder or s3:// prefix where answers are kept, and the image's run merges from.

    Returns:
        Number of tiles in each state.
    """
    calls = ExitStack()
    try:
        asked = read_request(request)
        about = measured(asked, image_url, region.name)
        with alive(on_cancel=lambda _: calls.close()), about:
            outcome = _work(make_plan(asked, image_url, etag), region, work_uri, calls)
            with log_errors("The start-up of this run"):
                _record_metrics(outcome)
    except ImageChangedError as error:
        return Failed(name=IMAGE_REPLACED, message=str(error), data=error)
    except SwathError as error:  # its message is complete without a traceback
        return Failed(message=str(error), data=error)
    if outcome.stop_reason:
        name = LIMIT_REACHED if outcome.limit_reached else ENDPOINT_DOWN
        return Completed(name=name, message=outcome.stop_reason, data=outcome.tiles)
    return Completed(message=_failures(outcome, len(region)), data=outcome.tiles)


def _failures(outcome: RegionOutcome, tiles: int) -> str | None:
    """How many tiles failed, and why most of them; None if none did."""
    if not outcome.reasons:
        return None
    failed, why = outcome.tiles[TileState.FAILED], outcome.reasons[0][0]
    return f"{failed} of {tiles} tiles failed, most often because: {why}"


def _work(plan: Plan, region: Region, work_uri: str, calls: ExitStack) -> RegionOutcome:
    """Work the region; closing `calls` ends the calls of a client that it has for itself."""
    with region_progress(region) as progress:
        return work_region(plan, region, Kept(work_uri), _asking(plan, progress, calls))


def _asking(plan: Plan, progress: Observer, calls: ExitStack) -> Asking:
    asking = Asking(progress, submit=submit_batch)
    if turn := TURN.get():
        return replace(asking, shared=turn.shared, next_may_begin=turn.next_may_begin)

    def open_client(meter: Meter) -> SharedClient:
        return calls.enter_context(closing(client_of(plan.request, earlier_estimate(), meter)))

    return replace(asking, open_client=open_client)


def _record_metrics(outcome: RegionOutcome) -> None:
    """Log how this run started; record that, its timing and the endpoint's capacity on the run.

    Later plans use the timing, later regions of the image the capacity.
    """
    start = startup(outcome.first_answer)
    get_run_logger().info("Start-up: %s", start)
    alone = TURN.get() is None  # others have what they learned in common
    capacity = capacity_metrics(outcome.capacity) if alone and outcome.capacity else {}
    write_metrics(start.stages | asdict(outcome.timing) | capacity)
    record_start("region", start)
