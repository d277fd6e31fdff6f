"""A large request as the runs of regions get it: by the name of an object in the work store.

Prefect keeps the parameters of each run, and sends them with each answer about it. A request with a
detailed region of interest takes megabytes for each of hundreds of regions otherwise.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tasks.request import Request
from tasks.storage import objects

_LARGE = 16_384  # bytes of JSON from which on a request is stored


class StoredRequest(BaseModel):
    """Where the request of a region's run is stored.

    Attributes:
        stored: The object.
        image_processor: The model that the request names: later images look for runs of theirs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stored: str
    image_processor: dict[str, Any] = Field(alias="imageProcessor")


def as_parameter(request: Request, work_uri: str) -> dict[str, Any]:
    """The request as a parameter of a region's run; a large one is stored first.

    Args:
        request: The message.
        work_uri: Folder or s3:// prefix where the answers to the image are kept.

    Raises:
        PublishError: It cannot be stored.
    """
    parameter = request.model_dump(mode="json", exclude_unset=True)
    body = json.dumps(parameter).encode()
    if len(body) < _LARGE:
        return parameter
    uri = objects.join(work_uri, f"request-{sha256(body).hexdigest()[:16]}.json")
    if not objects.exists(uri):
        objects.put(uri, body)
    return {"stored": uri, "imageProcessor": parameter["imageProcessor"]}


def read_request(parameter: Request | StoredRequest) -> Request:
    """The request that a region's run was given.

    Raises:
        PublishError: It is stored and cannot be read.
    """
    if isinstance(parameter, Request):
        return parameter
    return Request.model_validate_json(objects.get(parameter.stored))
