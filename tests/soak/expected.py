"""What a job comes to without a fault: worked in this process, with the same models."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.parquet as pq

from tasks.errors import AnswerError, SwathError
from tasks.imagery import Image, TilePixels
from tasks.inference import Endpoint, open_endpoint
from tasks.job import work_image
from tasks.request import Request
from tasks.results.coverage import TileState
from tasks.settings import settings
from tests.soak.calls import digest

_SECONDS = 60.0  # of a call
_OF_A_RUN = {"inferenceMetadata"}  # properties that are not the same in every run


@dataclass(frozen=True)
class Result:
    """What an image came to.

    Attributes:
        status: Its last status.
        features: The GeoJSON's features, without what differs between runs.
        states: The state of each tile.
        digests: The digest of each tile that the model is sent; not of a published result.
    """

    status: str
    features: list[dict[str, Any]] = field(default_factory=list)
    states: dict[int, str] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict, compare=False)

    def tiles(self, state: TileState) -> set[int]:
        """The tiles in a state."""
        return {tile for tile, found in self.states.items() if found == state}


def read_result(status: str, geojson: bytes | None, ledger: bytes | None) -> Result:
    """The result in the published files, either of which may not exist."""
    features = json.loads(geojson)["features"] if geojson else []
    for feature in features:
        for name in _OF_A_RUN & set(feature["properties"]):
            del feature["properties"][name]
    rows = pq.read_table(io.BytesIO(ledger)).to_pylist() if ledger else []
    return Result(status, features, {row["tile"]: row["state"] for row in rows})


def expected(
    message: Mapping[str, Any],
    image_url: str,
    model_url: str,
    folder: Path,
    failed: Collection[int] = (),
) -> Result:
    """The result of an image without a fault, except that some tiles fail.

    Args:
        message: The request.
        image_url: One of its images.
        model_url: The model that answers at once.
        folder: For the files; emptied by nobody.
        failed: Indices of tiles that get no answer.
    """
    processor = {"name": model_url, "type": "HTTP_ENDPOINT"}
    outputs = [{"type": "File", "path": str(folder)}]
    here = Request.parse(json.dumps({**message, "imageProcessor": processor, "outputs": outputs}))

    digests: dict[int, str] = {}

    def open_failing(request: Request, image: Image) -> Endpoint:
        return _Failing(open_endpoint(request, image, _SECONDS), failed, digests)

    work = folder / uuid4().hex  # a new one, so that nothing is kept of an earlier run
    with settings.override(local_roots=[folder], work_uri=str(work)):
        try:
            summary = work_image(here, image_url, open_endpoint=open_failing)
        except SwathError:
            return Result("FAILED")
    stem = here.file_names()[image_url]
    found = read_result(
        str(summary.status),
        _bytes(folder / f"{stem}.geojson"),
        _bytes(folder / f"{stem}.coverage.parquet"),
    )
    return replace(found, digests=digests)


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


class _Failing:
    """An endpoint that answers nothing for some tiles."""

    def __init__(
        self, endpoint: Endpoint, failed: Collection[int], digests: dict[int, str]
    ) -> None:
        self._endpoint, self._failed, self._digests = endpoint, failed, digests
        self.tiles_per_call, self.local = endpoint.tiles_per_call, endpoint.local
        self.capacity = endpoint.capacity

    def prepare(self, tile: TilePixels) -> Any:
        body: bytes = self._endpoint.prepare(tile)
        self._digests[tile.tile.index] = digest(body)
        if tile.tile.index in self._failed:
            raise AnswerError("It was not answered in the soak either.")
        return body

    def ask(self, prepared: Sequence[Any]) -> Sequence[object]:
        return self._endpoint.ask(prepared)

    def close(self) -> None:
        self._endpoint.close()
