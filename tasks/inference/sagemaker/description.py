"""What SageMaker tells of an endpoint: its variants, and how it is called."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tasks.aws.clients import client, renew_credentials
from tasks.errors import RequestError
from tasks.inference.sagemaker.failures import UNREACHABLE, code, expired, failure, forbidden

logger = logging.getLogger(__name__)

_ATTEMPTS = 3  # where it cannot be reached at all, every region finds that out
# it answers in all of these; while it is updated, the instances that were there do
_SERVING = frozenset({"InService", "Updating", "SystemUpdating", "RollingBack"})
_UNKNOWN = frozenset({"ValidationException", "ResourceNotFound", "ResourceNotFoundException"})


@dataclass(frozen=True, slots=True)
class Variant:
    """A production variant.

    Attributes:
        name: Of the variant.
        weight: Its share of the traffic, relative to the others'.
        instances: How many it runs on.
        serverless_concurrency: Calls that a serverless one takes at a time; None for instances.
    """

    name: str
    weight: float
    instances: int
    serverless_concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """An endpoint that answers.

    Attributes:
        arn: Of the endpoint.
        variants: Its production variants.
        asynchronous: Whether tiles and answers go through S3.
        instance_concurrency: Calls that each instance of an asynchronous one takes at a time, where
            its configuration says.
        tells_failures: Whether an asynchronous one leaves an object for a call that failed.
    """

    arn: str
    variants: tuple[Variant, ...]
    asynchronous: bool = False
    instance_concurrency: int | None = None
    tells_failures: bool = False


def describe(name: str, role_arn: str | None) -> Description | None:
    """What SageMaker tells of an endpoint; None where it may not be asked, which the log says.

    Args:
        name: Of the endpoint.
        role_arn: IAM role to ask as, or None for the process's own identity.

    Raises:
        RequestError: There is no such endpoint, or it does not answer, or the role cannot be had.
        EndpointError: SageMaker did not tell.
    """
    told = asked(f"imageProcessor.name: {name}", role_arn, "describe_endpoint", EndpointName=name)
    if told is None:
        return None
    check_serving("imageProcessor.name", name, told["EndpointStatus"], told.get("FailureReason"))
    config = told.get("AsyncInferenceConfig", {})
    return Description(
        told["EndpointArn"],
        tuple(_variant(each) for each in told.get("ProductionVariants", [])),
        asynchronous=bool(config),
        instance_concurrency=config.get("ClientConfig", {}).get(
            "MaxConcurrentInvocationsPerInstance"
        ),
        tells_failures=bool(config.get("OutputConfig", {}).get("S3FailurePath")),
    )


def asked(field: str, role_arn: str | None, operation: str, **arguments: str) -> Any:  # noqa: ANN401
    """What SageMaker's control plane answers; None where it may not, or cannot, be asked.

    In a locked-down network, only the runtime can be reached.

    Args:
        field: The request's field that names what is asked about, and its value.
        role_arn: IAM role to ask as, or None for the process's own identity.
        operation: In boto3's words.
        **arguments: Of it.

    Raises:
        RequestError: There is no such thing.
        EndpointError: It did not tell.
    """
    try:
        return _ask(role_arn, operation, arguments)
    except ClientError as error:
        if error.operation_name == "AssumeRole":
            raise RequestError(f"imageProcessor.assumedRole: {failure(field, error)}") from error
        if code(error) in _UNKNOWN:
            said = error.response.get("Error", {}).get("Message", "")
            raise RequestError(
                f"{field}: SageMaker has none of that name in this account and region: {said} "
                "Check the name, AWS_REGION and imageProcessor.assumedRole."
            ) from error
        if not forbidden(error):
            raise failure(field, error) from error
        reason = str(failure(field, error))
    except UNREACHABLE as error:
        reason = str(failure(field, error))
    except BotoCoreError as error:
        raise failure(field, error) from error
    logger.warning("%s The work goes on without what it would have told.", reason)
    return None


def _ask(role_arn: str | None, operation: str, arguments: dict[str, str]) -> Any:  # noqa: ANN401
    try:
        return getattr(client("sagemaker", role_arn, _ATTEMPTS), operation)(**arguments)
    except ClientError as error:
        if not expired(error):
            raise
    renew_credentials()
    return getattr(client("sagemaker", role_arn, _ATTEMPTS), operation)(**arguments)


def check_serving(field: str, name: str, status: str, reason: str | None) -> None:
    """Refuse an endpoint, or a component of one, that does not answer.

    Raises:
        RequestError: With its status, and SageMaker's reason.
    """
    if status not in _SERVING:
        raise RequestError(
            f"{field}: {name} is {status}, not InService{f' ({reason})' if reason else ''}; wait "
            "until it is, or name another."
        )


def _variant(told: dict[str, Any]) -> Variant:
    return Variant(
        told["VariantName"],
        float(told.get("CurrentWeight", 1.0)),
        int(told.get("CurrentInstanceCount", 0)),
        told.get("CurrentServerlessConfig", {}).get("MaxConcurrency"),
    )
