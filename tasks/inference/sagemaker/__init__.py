"""SageMaker endpoints: real-time, serverless and asynchronous ones.

`open_sagemaker` opens the endpoint that a request names; `resolve_variant` chooses its variant for
an image.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tasks.errors import RequestError
from tasks.imagery import Image, check_encodable, encoder, media_type
from tasks.inference.endpoint import Endpoint
from tasks.inference.sagemaker import parameters, payload
from tasks.inference.sagemaker.asynchronous import AsynchronousEndpoint
from tasks.inference.sagemaker.aws_client import AwsClient
from tasks.inference.sagemaker.capacity import capacity
from tasks.inference.sagemaker.endpoint_description import EndpointDescription, describe
from tasks.inference.sagemaker.real_time import SageMakerEndpoint
from tasks.inference.sagemaker.variant import resolve_variant, target_variants
from tasks.request import Request

__all__ = ["open_sagemaker", "resolve_variant"]

logger = logging.getLogger(__name__)


def open_sagemaker(
    request: Request,
    image: Image,
    timeout: float,
    *,
    async_timeout: float = 900.0,
    async_uri: str = "",
    instance_concurrency: int | None = None,
    max_answer_bytes: int | None = None,
) -> Endpoint:
    """The SageMaker endpoint that a request names, ready for tiles of an image.

    DescribeEndpoint says which kind it is. If the endpoint may not be described, it counts as
    asynchronous if the request has a parameter that only InvokeEndpointAsync takes.

    Args:
        request: Names the endpoint, its parameters and how tiles are encoded.
        image: The image whose tiles will be sent.
        timeout: Seconds that a call of AWS may take in all.
        async_timeout: Seconds that an asynchronous endpoint may take for a tile, queue included.
        async_uri: Where tiles for it are stored: `s3://bucket/prefix`.
        instance_concurrency: Calls that one instance takes at a time, if SageMaker does not say;
            None if unknown.
        max_answer_bytes: Bytes that an answer may have; None for those of features.

    Raises:
        RequestError: The endpoint does not exist or is not in service; a parameter does not exist
            or is set by Swath; the encoding would lose or corrupt pixels, or every tile would be
            too large.
        EndpointError: SageMaker did not describe the endpoint, and a retry may help.
    """
    processor, given = request.image_processor, request.image_processor_parameters
    check_encodable(image, request.tile_format, request.tile_compression)
    encode = encoder(image, request.tile_format, request.tile_compression)
    described = describe(processor.name, processor.assumed_role)
    asynchronous = _asynchronous(described, request)
    operation = parameters.ASYNCHRONOUS if asynchronous else parameters.REAL_TIME
    content = {"ContentType": media_type(request.tile_format)}
    arguments = content | parameters.arguments(operation, given)
    calls = None
    if described:
        role = processor.assumed_role
        calls = capacity(processor.name, described, arguments, role, instance_concurrency)
    limit = _limit(described, arguments, asynchronous=asynchronous)
    limit.check_all(request, image)
    if not asynchronous:
        return SageMakerEndpoint(
            processor.name,
            encode=encode,
            arguments=arguments,
            aws=AwsClient(processor.assumed_role, timeout, max_answer_bytes),
            limit=limit,
            capacity=calls,
        )
    _check_folder(processor.name, async_uri)
    return AsynchronousEndpoint(
        processor.name,
        encode=encode,
        arguments=arguments,
        role_arn=processor.assumed_role,
        folder=async_uri,
        call_timeout=timeout,
        max_answer_bytes=max_answer_bytes,
        timeout=async_timeout,
        capacity=calls,
    )


def _asynchronous(described: EndpointDescription | None, request: Request) -> bool:
    if described is None:
        alone = parameters.parameters_of(parameters.ASYNCHRONOUS) - parameters.parameters_of(
            parameters.REAL_TIME
        )
        return not alone.isdisjoint(request.image_processor_parameters)
    if described.asynchronous and not described.has_failure_path:
        logger.warning(
            "%s has no S3FailurePath: the failure of a tile is noticed only at the time-out "
            "(SWATH_ASYNC_TIMEOUT). Set it in the endpoint's AsyncInferenceConfig.",
            request.image_processor.name,
        )
    return described.asynchronous


def _limit(
    described: EndpointDescription | None, arguments: Mapping[str, Any], *, asynchronous: bool
) -> payload.PayloadLimit:
    if asynchronous:
        return payload.ASYNCHRONOUS
    variants = target_variants(described, arguments) if described else ()
    serverless = any(variant.serverless_concurrency is not None for variant in variants)
    return payload.SERVERLESS if serverless else payload.REAL_TIME


def _check_folder(name: str, uri: str) -> None:
    if not uri.startswith("s3://"):
        raise RequestError(
            f"imageProcessor.name: {name} is an asynchronous endpoint, which reads tiles from S3: "
            "the operator must set SWATH_ASYNC_URI, or SWATH_WORK_URI, to s3://bucket/prefix."
        )
