"""Chooses one production variant of an endpoint for all tiles of an image."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import accumulate
from typing import Any

from tasks.errors import RequestError
from tasks.inference.sagemaker.endpoint_description import EndpointDescription, Variant, describe
from tasks.inference.sagemaker.parameters import check_names
from tasks.request import EndpointType, Request

logger = logging.getLogger(__name__)

_SELECTS = ("TargetVariant", "InferenceComponentName")


def resolve_variant(request: Request, image_url: str) -> Request:
    """The request, with the variant of its SageMaker endpoint that is used for one image.

    The variant is chosen by a digest of the job and the image, in proportion to the variants'
    current weights: all regions of an image, and a rerun, use the same one. The request is returned
    unchanged if it names a variant or an inference component, if the endpoint has only one variant
    or is asynchronous, or if the endpoint may not be described. In the last case SageMaker chooses
    a variant for each call.

    Args:
        request: Any request; one with another kind of endpoint is returned unchanged.
        image_url: One of its images.

    Raises:
        RequestError: The endpoint does not exist, or is not in service.
        EndpointError: SageMaker did not answer, and a retry may help.
    """
    processor, parameters = request.image_processor, request.image_processor_parameters
    if processor.type != EndpointType.SM_ENDPOINT:
        return request
    check_names(parameters)
    if any(str(parameters.get(name, "")).strip() for name in _SELECTS):
        return request
    described = describe(processor.name, processor.assumed_role)
    if described is None:
        logger.warning("%s: SageMaker chooses a variant for each call.", processor.name)
    if described is None or described.asynchronous or len(described.variants) < 2:
        return request
    name = choose_variant(described.variants, _digest(request.job_id, image_url))
    logger.info("%s is sent to variant %s of %s.", image_url, name, processor.name)
    named = {**parameters, "TargetVariant": name}
    return request.model_copy(update={"image_processor_parameters": named})


def _digest(job_id: str, image_url: str) -> str:
    return sha256(f"{job_id}\n{image_url}".encode()).hexdigest()


def choose_variant(variants: Sequence[Variant], digest: str) -> str:
    """The name of a variant, chosen in proportion to the weights.

    Args:
        variants: One or more, in any order; if no weight is above 0, all count as equal.
        digest: Hexadecimal digits, read as a fraction of the sum of all weights.
    """
    ordered = sorted(variants, key=lambda variant: variant.name)
    weighty = [variant for variant in ordered if variant.weight > 0] or ordered
    ends = list(accumulate(variant.weight or 1.0 for variant in weighty))
    position: float = int(digest, 16) / 16 ** len(digest) * ends[-1]
    passed = sum(end <= position for end in ends)
    return weighty[min(passed, len(weighty) - 1)].name


def target_variants(
    described: EndpointDescription, parameters: Mapping[str, Any]
) -> tuple[Variant, ...]:
    """The variants that a call may go to: the one that `TargetVariant` names, or all of them.

    Raises:
        RequestError: The endpoint has no variant of that name.
    """
    name = parameters.get("TargetVariant")
    if not name:
        return described.variants
    if named := tuple(variant for variant in described.variants if variant.name == name):
        return named
    known = ", ".join(sorted(variant.name for variant in described.variants))
    raise RequestError(
        f"imageProcessorParameters.TargetVariant: {name} is not a variant of the endpoint; name "
        f"one of {known}."
    )
