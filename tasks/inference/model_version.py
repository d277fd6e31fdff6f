"""What is known about the model behind a name: its version, and which detections it leaves out."""

from __future__ import annotations

from importlib.metadata import version

from tasks.request import EndpointType, Request
from tasks.settings import settings


def model_version(request: Request) -> str:
    """The version of a request's model, which changes with the model; empty if it is not known.

    That of an ONNX file and of a description is their version in S3 or on disk, that of a SageMaker
    endpoint the name of its configuration. A model over HTTP has none.

    Raises:
        RequestError: A file or an endpoint does not exist, or cannot be read.
        EndpointError: SageMaker did not answer, and a retry may help.
    """
    # imported late: these modules load slowly, and most models need none of them
    processor = request.image_processor
    match processor.type:
        case EndpointType.BUILTIN:
            return version("swath")
        case EndpointType.ONNX:
            from tasks.inference.onnx import opening as onnx  # noqa: PLC0415

            return " ".join(onnx.file_versions(request, settings().local_roots))
        case EndpointType.OIP_ENDPOINT:
            from tasks.inference.oip import opening as oip  # noqa: PLC0415

            return oip.description_version(request, settings().local_roots)
        case EndpointType.SM_ENDPOINT:
            from tasks.inference.sagemaker.endpoint_description import describe  # noqa: PLC0415

            described = describe(processor.name, processor.assumed_role)
            return described.configuration if described else ""
    return ""


def least_score(request: Request) -> float:
    """The score below which the model's detections are left out of its answers; 0 if none are.

    Raises:
        RequestError: A file does not exist, or cannot be read.
    """
    if request.raster_output is not None or request.tile_output is not None:
        return 0.0
    match request.image_processor.type:
        case EndpointType.ONNX:
            from tasks.inference.onnx import opening as onnx  # noqa: PLC0415

            return onnx.least_score(request, settings().local_roots)
        case EndpointType.OIP_ENDPOINT:
            from tasks.inference.oip import opening as oip  # noqa: PLC0415

            return oip.least_score(request, settings().local_roots)
    return 0.0
