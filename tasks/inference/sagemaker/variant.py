"""The variant of an endpoint that looks at an image: one for all of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from tasks.errors import RequestError
from tasks.inference.sagemaker.description import Description, Variant, describe
from tasks.inference.sagemaker.parameters import check_names
from tasks.request import EndpointType, Request

logger = logging.getLogger(__name__)

_SELECTS = ("TargetVariant", "InferenceComponentName")


def resolve_variant(request: Request, image_url: str) -> Request:
    """The request with the variant of its SageMaker endpoint that one image goes to.

    It is chosen by current weight, by a digest of the work: images are shared out as the endpoint's
    weights say, while all regions of one, and a rerun, have the same. The request comes back as it
    was where it names a variant or an inference component, where there is nothing to choose, or
    where SageMaker may not be asked; then each call goes to the variant that SageMaker likes.

    Args:
        request: Any; that of another kind of endpoint comes back as it was.
        image_url: One of its images.

    Raises:
        RequestError: There is no such endpoint, or it does not answer.
        EndpointError: SageMaker did not tell.
    """
    processor, parameters = request.image_processor, request.image_processor_parameters
    if processor.type != EndpointType.SM_ENDPOINT:
        return request
    check_names(parameters)
    if any(str(parameters.get(name, "")).strip() for name in _SELECTS):
        return request
    described = describe(processor.name, processor.assumed_role)
    if described is None:
        logger.warning("No TargetVariant is named for %s: SageMaker chooses.", processor.name)
    if described is None or described.asynchronous or len(described.variants) < 2:
        return request
    name = choose(described.variants, request.identity(image_url))
    logger.info("%s goes to variant %s of %s.", image_url, name, processor.name)
    named = {**parameters, "TargetVariant": name}
    return request.model_copy(update={"image_processor_parameters": named})


def choose(variants: Sequence[Variant], digest: str) -> str:
    """The name of the variant at a place between 0 and 1 of all their weights, laid end to end.

    Args:
        variants: One or more, in any order; where no weight is above 0, all weigh the same.
        digest: Hexadecimal digits that give the place.
    """
    ordered = sorted(variants, key=lambda variant: variant.name)
    weighty = [variant for variant in ordered if variant.weight > 0] or ordered
    ends = list(accumulate(variant.weight or 1.0 for variant in weighty))
    place: float = int(digest, 16) / 16 ** len(digest) * ends[-1]
    passed = sum(end <= place for end in ends)
    return weighty[min(passed, len(weighty) - 1)].name


def reached(described: Description, parameters: Mapping[str, Any]) -> tuple[Variant, ...]:
    """The variants that a call may go to: the one that `TargetVariant` names, or all.

    Raises:
        RequestError: The endpoint has none of that name.
    """
    name = parameters.get("TargetVariant")
    if not name:
        return described.variants
    if named := tuple(variant for variant in described.variants if variant.name == name):
        return named
    known = ", ".join(sorted(variant.name for variant in described.variants))
    raise RequestError(
        f"imageProcessorParameters.TargetVariant: {name} is no variant of the endpoint; name one "
        f"of {known}."
    )
