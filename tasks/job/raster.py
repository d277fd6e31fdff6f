"""The raster of an image whose model answers with pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from uuid import uuid4

from tasks.grid.tiles import Region
from tasks.job.kept import Kept
from tasks.planning.plan import Plan
from tasks.raster import Painter, Raster, put_together
from tasks.raster.kept_maps import KeptMaps
from tasks.results.stored import StoredRegion
from tasks.storage import objects


def painter(plan: Plan, kept: Kept, regions: Sequence[Region]) -> Painter:
    """Paints the blocks of regions, from the answers that are kept.

    Raises:
        PublishError: The store does not answer.
    """
    output = plan.request.raster_output
    assert output is not None
    maps = KeptMaps(kept.answers, output, regions)
    return Painter(plan.grid, output, plan.roi, maps.read)


@contextmanager
def raster_of(
    plan: Plan, regions: Sequence[Region], stored: Mapping[int, StoredRegion], kept: Kept
) -> Iterator[Raster | None]:
    """The raster of an image, until it is published; None if its model answers with features.

    Args:
        plan: The plan of the image.
        regions: All its regions.
        stored: What each of them came to, by its index.
        kept: Where answers are kept, and what the regions came to.

    Raises:
        PublishError: Blocks or maps cannot be read, or blocks not be stored.
    """
    if plan.request.raster_output is None:
        yield None
        return
    store = kept.regions(plan.request)
    blocks = [store.blocks(each) for each in stored.values() if each.painted]
    name = f"raster.{uuid4().hex}"
    try:
        yield put_together(painter(plan, kept, regions), blocks, objects.join(store.folder, name))
    finally:
        for each in objects.list_names(store.folder):
            if each.startswith(name):
                objects.remove_object(objects.join(store.folder, each))
