"""The check of a job's limit before any tile is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.cost.meter import Meter
from tasks.cost.money import cost_of, money_text
from tasks.errors import RequestError
from tasks.grid.tiles import Region
from tasks.inference.model_version import least_score
from tasks.job.kept import Kept
from tasks.job.shared_client import spending_of
from tasks.planning.plan import Plan
from tasks.results.answers import kept_answers
from tasks.results.coverage import inferred_tiles
from tasks.settings import settings

if TYPE_CHECKING:
    from tasks.planning.estimate import Estimate


def check_limits(plan: Plan, regions: Sequence[Region], kept: Kept) -> None:
    """Refuse an image that would cost more than its job may; then what it costs is counted.

    Kept answers cost nothing again.

    Args:
        plan: The plan of the image.
        regions: Its regions.
        kept: Where its answers are kept.

    Raises:
        RequestError: It would cost more; or there is no price to tell.
        PublishError: The store does not answer.
    """
    request = plan.request
    if request.max_tiles is None and request.max_cost is None:
        return
    _check_priced(plan)
    # late: most jobs have no limit
    from tasks.planning.estimate import estimate  # noqa: PLC0415

    estimated = estimate(plan)
    if _excess(plan, estimated, 0):
        known = sum(_answered(plan, region, kept) for region in regions)
        if excess := _excess(plan, estimated, known):
            raise RequestError(excess)
    spending_of(plan, Meter()).begin()


def _check_priced(plan: Plan) -> None:
    """Refuse a limit in money that no price could ever reach."""
    request, prices = plan.request, settings().prices
    if request.max_cost is None:
        return
    name = request.image_processor.short_name
    price = prices and prices.of_model(request.image_processor.names)
    if prices is None or price is None:
        raise RequestError(
            f"maxCost: {request.max_cost:g} cannot be held, as the operator has set no prices: set "
            "SWATH_PRICES, or give maxTiles in its place."
        )
    if not (price.call or price.instance_hour or prices.vcpu_hour):
        raise RequestError(
            f"maxCost: {request.max_cost:g} {prices.currency} cannot be held, as SWATH_PRICES has "
            f"no price for the model {name}: add its call or instanceHour, or give maxTiles in its "
            "place."
        )


def _excess(plan: Plan, estimated: Estimate, answered: int) -> str:
    """Why an image would cost more than its job may; empty if it would not.

    Args:
        plan: The plan of the image.
        estimated: Its estimate.
        answered: Number of tiles whose answers are kept.
    """
    request = plan.request
    tiles = max(0, estimated.tiles["inferred"] - answered)
    rest = "the rest of " if answered else ""
    remedy = "give a greater limit, larger tiles or a smaller regionOfInterest"
    if request.max_tiles is not None and tiles > request.max_tiles:
        return (
            f"maxTiles: {request.max_tiles} is below the {tiles} tiles that {rest}{plan.image.url} "
            f"is estimated to have for the model; {remedy}."
        )
    if request.max_cost is not None:
        share = tiles / (estimated.tiles["inferred"] or 1)
        cost = cost_of(estimated.usage.share(share), request.image_processor.names)
        if cost and cost.total > request.max_cost:
            return (
                f"maxCost: {money_text(request.max_cost, cost.currency)} is below the {cost.text} "
                f"that {rest}{plan.image.url} is estimated to cost ({cost.parts_text}); {remedy}."
            )
    return ""


def _answered(plan: Plan, region: Region, kept: Kept) -> int:
    """Number of a region's tiles whose answers are kept."""
    inside, maps = plan.tiles_in_roi(region), plan.request.raster_output is not None
    known = kept_answers(kept.answers, region, inside, least_score(plan.request), maps=maps)
    return len(inferred_tiles(known.answered.ledger))
