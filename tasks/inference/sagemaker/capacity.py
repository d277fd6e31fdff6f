"""The calls that a SageMaker endpoint takes at a time."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tasks.errors import RequestError
from tasks.inference.sagemaker.description import Description, Variant, asked, check_serving
from tasks.inference.sagemaker.variant import reached

logger = logging.getLogger(__name__)

CONCURRENCY_TAG = "osml:instance-concurrency"
"""OSML's tag of an endpoint, or of an inference component: calls that each instance, or copy, takes
at a time."""


def capacity(
    name: str,
    described: Description,
    parameters: Mapping[str, Any],
    role_arn: str | None,
    instance_concurrency: int | None,
) -> int | None:
    """Calls that the part of an endpoint that a request goes to takes at a time; None if unknown.

    Args:
        name: Of the endpoint.
        described: What SageMaker tells of it.
        parameters: The request's: `TargetVariant` or `InferenceComponentName` names the part, else
            it is all variants.
        role_arn: IAM role to ask as, or None for the process's own identity.
        instance_concurrency: Calls that one instance takes, where neither the endpoint's
            configuration nor its tag says; None where only trying tells.

    Raises:
        RequestError: The part does not exist, or does not answer.
        EndpointError: SageMaker did not tell.
    """
    component = parameters.get("InferenceComponentName")
    if component:
        return _of_component(str(component), name, role_arn, instance_concurrency)
    variants = reached(described, parameters)
    each = described.instance_concurrency
    if each is None and any(variant.serverless_concurrency is None for variant in variants):
        each = _tag(described.arn, role_arn) or instance_concurrency
    calls = [_of_variant(variant, each) for variant in variants]
    return None if None in calls else sum(filter(None, calls)) or None


def _of_variant(variant: Variant, each: int | None) -> int | None:
    """An endpoint without instances starts one when it is called."""
    if variant.serverless_concurrency is not None:
        return variant.serverless_concurrency
    return each and max(1, variant.instances) * each


def _of_component(
    component: str, endpoint: str, role_arn: str | None, instance_concurrency: int | None
) -> int | None:
    field = "imageProcessorParameters.InferenceComponentName"
    told = asked(
        f"{field}: {component}",
        role_arn,
        "describe_inference_component",
        InferenceComponentName=component,
    )
    if told is None:
        return None
    if told["EndpointName"] != endpoint:
        raise RequestError(
            f"{field}: {component} belongs to the endpoint {told['EndpointName']}, not to "
            f"{endpoint}; name that endpoint, or another component."
        )
    status, reason = told.get("InferenceComponentStatus", "InService"), told.get("FailureReason")
    check_serving(field, component, status, reason)
    each = _tag(told["InferenceComponentArn"], role_arn) or instance_concurrency
    return each and max(1, told.get("RuntimeConfig", {}).get("CurrentCopyCount", 1)) * each


def _tag(arn: str, role_arn: str | None) -> int | None:
    """The number that OSML's tag gives; None without the tag, or where it may not be asked for."""
    told = asked(f"{arn} ({CONCURRENCY_TAG})", role_arn, "list_tags", ResourceArn=arn)
    tags = {tag["Key"]: tag["Value"] for tag in (told or {}).get("Tags", [])}
    value = tags.get(CONCURRENCY_TAG)
    if value is None:
        return None
    if value.strip().isdecimal() and int(value) > 0:
        return int(value)
    logger.warning("%s: the tag %s is %r; give it a whole number.", arn, CONCURRENCY_TAG, value)
    return None
