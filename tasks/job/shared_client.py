"""One client of the endpoint for all regions of an image that this process works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from contextvars import copy_context
from dataclasses import replace
from threading import Lock

from tasks.cost.limit import Limit, Spending
from tasks.cost.meter import Meter
from tasks.grid.tiles import Region
from tasks.inference import Endpoint, OpenEndpoint, open_with_retries
from tasks.inference.call_metrics import CallMetrics, call_gauges
from tasks.inference.client import InferenceClient, Keep
from tasks.inference.concurrency_estimator import CapacityEstimate
from tasks.inference.limiter import Limiter
from tasks.inference.metered_endpoint import MeteredEndpoint
from tasks.inference.raster_endpoint import RasterEndpoint
from tasks.inference.tile_endpoint import TileEndpoint
from tasks.planning.plan import Plan
from tasks.records.folders import spent_folder
from tasks.settings import settings

Concurrency = Callable[[InferenceClient], AbstractContextManager[None]]
"""Opens a context that sets how many calls may be in flight (`Limiter.max_in_flight`)."""


@contextmanager
def own_concurrency(client: InferenceClient) -> Iterator[None]:
    """Allow as many calls as the endpoint takes: no other process calls it."""
    client.limiter.max_in_flight = client.endpoint.capacity or settings().endpoint_concurrency
    yield


def spending_of(plan: Plan, meter: Meter) -> Spending:
    """What this process may spend of the limit of a plan's job."""
    request = plan.request
    limit = Limit(request.max_tiles, request.max_cost)
    return Spending(
        limit,
        spent_folder(request.job_id),
        meter,
        image=plan.image.url,
        model=request.image_processor.names,
        views=plan.views,
    )


class SharedClient:
    """The client of an endpoint, which the first region opens and the later ones use too.

    So connections are kept, and what was learned about the endpoint holds for the later regions:
    how many calls it takes at a time, and whether it is down.

    Attributes:
        meter: Counts the calls, and what else is used for the image.
        reading: Held by the one region whose tiles are read, as a region's strips fill the memory.
    """

    def __init__(
        self,
        concurrency: Concurrency = own_concurrency,
        open_endpoint: OpenEndpoint = open_with_retries,
        earlier: CapacityEstimate | None = None,
        meter: Meter | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            concurrency: Limits the calls in flight, in the present context; by default, as if no
                other process called the endpoint.
            open_endpoint: Opens the endpoint.
            earlier: An earlier estimate of the endpoint's capacity, to start with.
            meter: Counts what is used; None for one of its own.
        """
        self.meter = meter or Meter()
        self._concurrency, self._open_endpoint = concurrency, open_endpoint
        self._earlier = earlier
        self.reading = Lock()
        self._context, self._open = copy_context(), ExitStack()
        self._client: InferenceClient | None = None

    def for_region(self, plan: Plan, region: Region, keep: Keep) -> InferenceClient:
        """The client for a region's calls; two threads must not call this at the same time.

        Args:
            plan: The plan of the image.
            region: The region.
            keep: Is given the outcomes of its tiles.

        Raises:
            SwathError: The endpoint cannot be opened.
        """
        if self._client is None:
            self._client = self._context.run(self._opened, plan)
        return self._client.for_region(len(region), keep)

    def close(self) -> None:
        """End all calls at once, and close the endpoint."""
        self._context.run(self._open.close)

    def _opened(self, plan: Plan) -> InferenceClient:
        endpoint: Endpoint = MeteredEndpoint(
            self._open_endpoint(plan.request, plan.preparation.image), self.meter
        )
        if (output := plan.request.raster_output) is not None:
            window = plan.resolution.window if plan.resolution else None
            endpoint = RasterEndpoint(endpoint, output, plan.request.tile_size, window)
        if (whole := plan.request.tile_output) is not None:
            endpoint = TileEndpoint(endpoint, whole)
        most = plan.most_calls(endpoint.tiles_per_call)
        earlier = self._earlier and replace(
            self._earlier, concurrency=min(self._earlier.concurrency, most)
        )
        spending = spending_of(plan, self.meter)
        self._open.callback(spending.close)
        client = InferenceClient(
            endpoint,
            Limiter(0, earlier),
            max_calls=most,
            tiles=0,
            attempts=settings().tile_attempts,
            retry_seconds=settings().endpoint_patience,
            preparation=plan.preparation,
            metrics=CallMetrics(plan.model_name, plan.input_format),
            spending=spending,
        )
        self._open.enter_context(closing(client))
        self._open.enter_context(call_gauges(client.metrics.model, client.limiter))
        self._open.enter_context(self._concurrency(client))
        return client
