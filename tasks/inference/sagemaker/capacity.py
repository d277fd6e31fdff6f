"""The number of calls that a SageMaker endpoint takes at a time, as SageMaker describes it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tasks.errors import RequestError
from tasks.inference.sagemaker.endpoint_description import (
    EndpointDescription,
    Variant,
    check_serving,
    control_plane,
)
from tasks.inference.sagemaker.variant import target_variants

logger = logging.getLogger(__name__)

CONCURRENCY_TAG = "osml:instance-concurrency"
"""OSML's tag of an endpoint or an inference component: the calls that each of its instances or
copies takes at a time."""


def capacity(
    name: str,
    described: EndpointDescription,
    parameters: Mapping[str, Any],
    role_arn: str | None,
    instance_concurrency: int | None,
) -> int | None:
    """Calls that an endpoint, or the part of it that is called, takes at a time; None if unknown.

    Args:
        name: Name of the endpoint.
        described: Its description.
        parameters: The request's parameters: `TargetVariant` or `InferenceComponentName` names the
            part that is called; without them it is all variants.
        role_arn: IAM role of the calls, or None for the process's own identity.
        instance_concurrency: Calls that one instance takes at a time, if neither the endpoint's
            configuration nor its tag says so; None if unknown.

    Raises:
        RequestError: The part does not exist, or is not in service.
        EndpointError: SageMaker did not answer, and a retry may help.
    """
    component = parameters.get("InferenceComponentName")
    if component:
        return _of_component(str(component), name, role_arn, instance_concurrency)
    variants = target_variants(described, parameters)
    each = described.instance_concurrency
    if each is None and any(variant.serverless_concurrency is None for variant in variants):
        each = _tag(described.arn, role_arn) or instance_concurrency
    calls = [_of_variant(variant, each) for variant in variants]
    return None if None in calls else sum(filter(None, calls)) or None


def _of_variant(variant: Variant, each: int | None) -> int | None:
    """Calls that a variant takes at a time; one without instances starts an instance at a call."""
    if variant.serverless_concurrency is not None:
        return variant.serverless_concurrency
    return each and max(1, variant.instances) * each


def _of_component(
    component: str, endpoint: str, role_arn: str | None, instance_concurrency: int | None
) -> int | None:
    """Calls that an inference component takes at a time: the sum over its copies."""
    field = "imageProcessorParameters.InferenceComponentName"
    found = control_plane(
        f"{field}: {component}",
        role_arn,
        "describe_inference_component",
        InferenceComponentName=component,
    )
    if found is None:
        return None
    if found["EndpointName"] != endpoint:
        raise RequestError(
            f"{field}: {component} belongs to the endpoint {found['EndpointName']}, not to "
            f"{endpoint}; name that endpoint, or another component."
        )
    status, reason = found.get("InferenceComponentStatus", "InService"), found.get("FailureReason")
    check_serving(field, component, status, reason)
    each = _tag(found["InferenceComponentArn"], role_arn) or instance_concurrency
    return each and max(1, found.get("RuntimeConfig", {}).get("CurrentCopyCount", 1)) * each


def _tag(arn: str, role_arn: str | None) -> int | None:
    """The number in OSML's tag; None without the tag, or if tags may not be listed."""
    found = control_plane(f"{arn} ({CONCURRENCY_TAG})", role_arn, "list_tags", ResourceArn=arn)
    tags = {tag["Key"]: tag["Value"] for tag in (found or {}).get("Tags", [])}
    value = tags.get(CONCURRENCY_TAG)
    if value is None:
        return None
    if value.strip().isdecimal() and int(value) > 0:
        return int(value)
    logger.warning("%s: the tag %s is %r; give it a whole number.", arn, CONCURRENCY_TAG, value)
    return None
