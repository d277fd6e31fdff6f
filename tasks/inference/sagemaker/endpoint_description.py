"""The description of an endpoint by SageMaker's control plane: its kind and its variants."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tasks.aws.clients import client, renew_credentials
from tasks.errors import RequestError
from tasks.inference.sagemaker.aws_errors import (
    UNREACHABLE,
    access_denied,
    credentials_expired,
    endpoint_error,
    error_code,
)

logger = logging.getLogger(__name__)

_ATTEMPTS = 3  # few: without a route to the control plane, every region waits for all of them
# an endpoint answers in each of these states: during an update, by its former instances
_SERVING = frozenset({"InService", "Updating", "SystemUpdating", "RollingBack"})
_UNKNOWN = frozenset({"ValidationException", "ResourceNotFound", "ResourceNotFoundException"})


@dataclass(frozen=True, slots=True)
class Variant:
    """A production variant.

    Attributes:
        name: Name of the variant.
        weight: Its share of the traffic, relative to the other variants' weights.
        instances: Number of instances that it runs on.
        serverless_concurrency: Calls that a serverless variant takes at a time; None for a variant
            on instances.
    """

    name: str
    weight: float
    instances: int
    serverless_concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class EndpointDescription:
    """An endpoint in service.

    Attributes:
        arn: ARN of the endpoint.
        variants: Its production variants.
        configuration: Name of its configuration, which changes with its models; empty if unknown.
        asynchronous: Whether tiles and answers go through S3.
        instance_concurrency: Calls that each instance of an asynchronous endpoint takes at a time;
            None if its configuration does not say.
        has_failure_path: Whether an asynchronous endpoint writes an object for a failed call.
    """

    arn: str
    variants: tuple[Variant, ...]
    configuration: str = ""
    asynchronous: bool = False
    instance_concurrency: int | None = None
    has_failure_path: bool = False


def describe(name: str, role_arn: str | None) -> EndpointDescription | None:
    """The description of an endpoint; None, with a warning, if it may not be described.

    Args:
        name: Name of the endpoint.
        role_arn: IAM role to call as, or None for the process's own identity.

    Raises:
        RequestError: The endpoint does not exist or is not in service, or the role cannot be
            assumed.
        EndpointError: SageMaker did not answer, and a retry may help.
    """
    field = f"imageProcessor.name: {name}"
    found = control_plane(field, role_arn, "describe_endpoint", EndpointName=name)
    if found is None:
        return None
    check_serving("imageProcessor.name", name, found["EndpointStatus"], found.get("FailureReason"))
    config = found.get("AsyncInferenceConfig", {})
    return EndpointDescription(
        found["EndpointArn"],
        tuple(_variant(each) for each in found.get("ProductionVariants", [])),
        configuration=found.get("EndpointConfigName", ""),
        asynchronous=bool(config),
        instance_concurrency=config.get("ClientConfig", {}).get(
            "MaxConcurrentInvocationsPerInstance"
        ),
        has_failure_path=bool(config.get("OutputConfig", {}).get("S3FailurePath")),
    )


def control_plane(field: str, role_arn: str | None, operation: str, **arguments: str) -> Any:  # noqa: ANN401
    """The answer of SageMaker's control plane; None if it may not be called or cannot be reached.

    In a restricted network, only the service that runs models can be reached.

    Args:
        field: The request's field that names the subject of the call, and its value.
        role_arn: IAM role to call as, or None for the process's own identity.
        operation: Operation, as boto3 names it.
        **arguments: Arguments of the operation.

    Raises:
        RequestError: The subject does not exist.
        EndpointError: SageMaker did not answer, and a retry may help.
    """
    try:
        return _call(role_arn, operation, arguments)
    except ClientError as error:
        if error.operation_name == "AssumeRole":
            raise RequestError(
                f"imageProcessor.assumedRole: {endpoint_error(field, error)}"
            ) from error
        if error_code(error) in _UNKNOWN:
            message = error.response.get("Error", {}).get("Message", "")
            raise RequestError(
                f"{field}: SageMaker has nothing of that name in this account and region: "
                f"{message} Check the name, AWS_REGION and imageProcessor.assumedRole."
            ) from error
        if not access_denied(error):
            raise endpoint_error(field, error) from error
        reason = str(endpoint_error(field, error))
    except UNREACHABLE as error:
        reason = str(endpoint_error(field, error))
    except BotoCoreError as error:
        raise endpoint_error(field, error) from error
    logger.warning("%s The run continues without this information.", reason)
    return None


def _call(role_arn: str | None, operation: str, arguments: dict[str, str]) -> Any:  # noqa: ANN401
    try:
        return getattr(client("sagemaker", role_arn, _ATTEMPTS), operation)(**arguments)
    except ClientError as error:
        if not credentials_expired(error):
            raise
    renew_credentials()
    return getattr(client("sagemaker", role_arn, _ATTEMPTS), operation)(**arguments)


def check_serving(field: str, name: str, status: str, reason: str | None) -> None:
    """Refuse an endpoint, or an inference component, that is not in service.

    Raises:
        RequestError: It is not in service; the message has its status and SageMaker's reason.
    """
    if status not in _SERVING:
        raise RequestError(
            f"{field}: {name} is {status}, not InService{f' ({reason})' if reason else ''}; wait "
            "until it is, or name another."
        )


def _variant(found: dict[str, Any]) -> Variant:
    return Variant(
        found["VariantName"],
        float(found.get("CurrentWeight", 1.0)),
        int(found.get("CurrentInstanceCount", 0)),
        found.get("CurrentServerlessConfig", {}).get("MaxConcurrency"),
    )
