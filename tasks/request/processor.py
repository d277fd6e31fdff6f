"""The image processor of a request: the model that is called on every tile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from tasks.request.field_types import RoleArn, printable
from tasks.request.locations import file_name, redact_url, s3_object
from tasks.request.message_object import MessageObject
from tasks.request.model_files import export_remedy, is_web_file
from tasks.request.secret_references import find_references

_ROUTES = {"infer", "invocations", "invoke", "predict"}  # ends of URLs, which name no model


class EndpointType(StrEnum):
    """How a model is reached."""

    SM_ENDPOINT = "SM_ENDPOINT"
    HTTP_ENDPOINT = "HTTP_ENDPOINT"
    OIP_ENDPOINT = "OIP_ENDPOINT"
    ONNX = "ONNX"
    BUILTIN = "BUILTIN"


class ImageProcessor(MessageObject):
    """The model that is called on every tile."""

    type: EndpointType = Field(
        EndpointType.SM_ENDPOINT,
        description="How the model is reached: a SageMaker endpoint, HTTP, the Open Inference "
        "Protocol, an ONNX file in process, or a model built into Swath.",
        examples=["HTTP_ENDPOINT"],
    )
    name: Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(printable)] = Field(
        description="Name of the SageMaker endpoint or built-in model, URL of the HTTP or Open "
        "Inference Protocol endpoint, or s3://bucket/key or path of the ONNX file.",
        examples=["http://models.example:8080/invocations"],
    )
    assumed_role: RoleArn | None = Field(
        None,
        description="ARN of the IAM role to assume for calling the model.",
        examples=["arn:aws:iam::123456789012:role/Invoke"],
    )

    @property
    def metric_name(self) -> str:
        """The model's name in metrics, as in OSML: the whole name, but secrets in a URL."""
        return redact_url(self.name) if "://" in self.name else self.name

    @property
    def names(self) -> tuple[str, str]:
        """What an operator may call the model: its name, and that shown to users."""
        return self.name, self.short_name

    @property
    def short_name(self) -> str:
        """The model's name as shown to users: of a URL or a file, the part that names the model.

        It is the segment after `models`, or else the last one; without any, the host and port.
        """
        if self.type is EndpointType.ONNX:
            return file_name(self.name)
        if self.type not in {EndpointType.HTTP_ENDPOINT, EndpointType.OIP_ENDPOINT}:
            return self.name
        url = urlsplit(self.name)
        segments = [each for each in url.path.split("/") if each and each not in _ROUTES]
        if "models" in segments[:-1]:
            return segments[segments.index("models") + 1]
        return segments[-1] if segments else url.netloc.rpartition("@")[2]

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str, info: ValidationInfo) -> str:
        match info.data.get("type"):
            case EndpointType.SM_ENDPOINT:
                _check_sagemaker(name)
            case EndpointType.HTTP_ENDPOINT | EndpointType.OIP_ENDPOINT as kind:
                _check_http(name, kind)
            case EndpointType.ONNX:
                _check_onnx(name)
            case EndpointType.BUILTIN if name != name.strip():
                raise ValueError("begins or ends with a space; remove it")
            case EndpointType.BUILTIN:
                _check_exported(name)
        return name


def check_secrets(parameters: Mapping[str, Any], kind: EndpointType) -> None:
    """Check that only HTTP headers refer to secrets.

    Args:
        parameters: The request's `imageProcessorParameters`.
        kind: The kind of the endpoint.

    Raises:
        ValueError: A parameter of another kind of endpoint refers to a secret.
    """
    if kind in {EndpointType.HTTP_ENDPOINT, EndpointType.OIP_ENDPOINT}:
        return
    for name, value in parameters.items():
        if isinstance(value, str) and any(find_references(value)):
            raise ValueError(
                f"refers to a secret in {name}, but only HTTP headers may, and {kind} has none; "
                "remove it (AWS is called with a role: imageProcessor.assumedRole)"
            )


def _check_sagemaker(name: str) -> None:
    if re.match("https?://", name):
        raise ValueError(
            "is a URL, and a SageMaker endpoint has none; give type HTTP_ENDPOINT, or the "
            "endpoint's name"
        )
    if not re.fullmatch(r"[0-9A-Za-z](-*[0-9A-Za-z]){0,62}", name):
        raise ValueError(
            "is not the name of a SageMaker endpoint; give up to 63 letters, digits and hyphens"
        )


def _check_http(name: str, kind: EndpointType) -> None:
    try:
        url = urlsplit(name)
        valid = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:  # a port out of range, an unclosed bracket
        valid = False
    if not valid or any(character.isspace() for character in name):
        raise ValueError(f"is not a URL, which {kind} needs; give http(s)://host:port/path")


def _check_exported(name: str) -> None:
    """Refuse a file of a model that Swath does not run, with the command that exports it."""
    remedy = export_remedy(name)
    if remedy is not None:
        raise ValueError(f"is not an ONNX file, and Swath runs no other; {remedy}")


def _check_onnx(name: str) -> None:
    _check_exported(name)
    if name.startswith("s3://"):
        s3_object(name)
    elif is_web_file(name):
        raise ValueError(
            "is a file on the web, and models are not read from there; download it with curl -fLO, "
            "and give its path"
        )
    elif "://" in name or not name.lower().endswith(".onnx"):
        raise ValueError("is not an ONNX file; give s3://bucket/key or a path that ends in .onnx")
