"""Where the answers of an image of a job are kept, and which question they answer.

    <SWATH_WORK_URI>/jobs/<job>/<image>/<question>/question.json
                                                  /answers/        `tasks.results.answers`
                                                  /<merge>/        `tasks.results.stored`

The question is what the answers depend on: the image's version, its tiles and how they are encoded,
the model with its parameters. The merge is what the results of regions depend on beyond that.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from tasks.errors import RequestError
from tasks.grid.tiles import Region
from tasks.inference.model_version import least_score, model_version
from tasks.planning.plan import Plan
from tasks.records.folders import image_folder
from tasks.request import Request
from tasks.request.image_alpha import ImageAlpha
from tasks.results.answers import least_score_kept
from tasks.results.stored import RegionStore
from tasks.storage import conditional, objects

logger = logging.getLogger(__name__)

_QUESTION = "question.json"


@dataclass(frozen=True)
class Kept:
    """What is kept of the answers to a question.

    Attributes:
        folder: Folder or s3:// prefix.
    """

    folder: str

    @property
    def answers(self) -> str:
        """The folder of the answers."""
        return objects.join(self.folder, "answers")

    @property
    def used(self) -> str:
        """The folder of what was used to get the answers (`tasks.cost.store`)."""
        return objects.join(self.folder, "used")

    @property
    def model_version(self) -> str:
        """The version of the model that answers, as `model_version`; empty if it is not known."""
        found = conditional.read(objects.join(self.folder, _QUESTION))
        return str(json.loads(found[0])["question"].get("version", "")) if found else ""

    def regions(self, request: Request) -> RegionStore:
        """The store of what regions came to, as a request merges."""
        wanted: list[object] = [
            request.algorithm.model_dump(mode="json"),
            request.region_of_interest,
        ]
        if request.raster_output is not None:
            # stored blocks depend on whether there are polygons, not on what these are like
            raster = request.raster_output.model_dump(mode="json")
            wanted.append(raster | {"polygons": request.raster_output.polygons is not None})
        return RegionStore(objects.join(self.folder, _digest(wanted)))

    def unfinished(self, request: Request, regions: Sequence[Region]) -> list[Region]:
        """The regions that no run has completed, with no failed tile, as a request merges.

        Raises:
            PublishError: The store does not answer.
        """
        latest = self.regions(request).latest(regions)
        return [
            region
            for region in regions
            if region.index not in latest or not latest[region.index].complete
        ]


def kept_of(plan: Plan) -> Kept:
    """Where the answers to a plan's question are kept.

    Raises:
        PublishError: The store does not answer.
        RequestError: A file of the model, or its endpoint, does not exist.
        EndpointError: SageMaker did not say which configuration the endpoint has.
    """
    question = _question(plan) | {"version": model_version(plan.request)}
    folder = objects.join(_folder(plan), _digest(question))
    since = datetime.now(UTC).isoformat(timespec="seconds")
    conditional.put_new(
        objects.join(folder, _QUESTION),
        json.dumps({"question": question, "since": since}).encode(),
    )
    return Kept(folder)


def kept_without_asking(plan: Plan) -> Kept:
    """Where answers to a plan's question are kept, whichever version of the model gave them.

    Of several, it is the last one that was asked. The model is not called: it may exist no more.

    Raises:
        RequestError: No answers are kept, or they lack scores that the request wants.
        PublishError: The store does not answer.
    """
    found: list[tuple[str, str]] = []
    for name in objects.list_folders(_folder(plan)):
        folder = objects.join(_folder(plan), name)
        if _QUESTION not in objects.list_names(folder):
            continue
        try:
            kept = json.loads(objects.get(objects.join(folder, _QUESTION)))
        except ValueError as error:
            logger.warning("%s/%s cannot be read: %s", folder, _QUESTION, error)
            continue
        if _without_version(kept["question"]) == _without_version(_question(plan)):
            found.append((kept["since"], folder))
    if not found:
        raise RequestError(
            f"No answers are kept for {plan.image.url} in job {plan.request.job_id}, with this "
            "version of the image and these tiles: send the request again, which asks the model."
        )
    kept = Kept(max(found)[1])
    lowest, wanted = least_score_kept(kept.answers), least_score(plan.request)
    if wanted < lowest:
        raise RequestError(
            f"skipBoxThreshold: {wanted} is below the lowest score that the model was asked for, "
            f"{lowest}: give that or a higher one, or send the request again, which asks the model."
        )
    return kept


def _folder(plan: Plan) -> str:
    return image_folder(plan.request.job_id, plan.image.url)


def _question(plan: Plan) -> dict[str, Any]:
    request, grid = plan.request, plan.grid
    processor = request.image_processor
    question: dict[str, Any] = {
        "image": plan.image.url,
        "etag": plan.image.etag,
        "grid": [grid.width, grid.height, grid.tile_size, grid.overlap],
        "tile": [str(request.tile_format), str(request.tile_compression), request.image_nodata],
        "model": [str(processor.type), processor.name, processor.assumed_role],
        # a digest, as a header may hold a secret
        "parameters": _digest(request.image_processor_parameters),
    }
    if request.image_alpha is not ImageAlpha.MASK:
        question["alpha"] = str(request.image_alpha)
    if plan.image.masked or plan.preparation.fill:
        question["fill"] = plan.preparation.fill
    if plan.image.palette or plan.image.black:
        question["colours"] = "as they look"
    if request.image_bands or request.image_scaling or request.image_resolution:
        question["prepared"] = plan.prepared
    if request.raster_output is not None:
        question["raster"] = request.raster_output.question
    if request.tile_output is not None:
        question["whole tile"] = request.tile_output.question
    return question


def _without_version(question: Mapping[str, Any]) -> dict[str, Any]:
    """A question without what depends on the model's version, its variant among the parameters."""
    return {name: question[name] for name in question.keys() - {"version", "parameters"}}


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()[:16]
