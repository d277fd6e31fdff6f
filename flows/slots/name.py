"""What the concurrency limit of an endpoint is called: people find it in Prefect by that name."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import urlsplit

from tasks.request import Request

_LONGEST = 80  # characters of an endpoint's name that are shown


def limit_name(request: Request) -> str:
    """The name of the limit that all who call a request's endpoint share.

    It is the endpoint's type and name, with the inference component and the account of the assumed
    role where there are any: `SM_ENDPOINT aircraft`. What Prefect takes in no name, and what may be
    secret in a URL, is left out, and a hash of the whole is there in its place.
    """
    processor = request.image_processor
    name, parts = processor.name, [str(processor.type)]
    component = request.image_processor_parameters.get("InferenceComponentName")
    role = processor.assumed_role
    if "://" in name:
        url = urlsplit(name)
        shown = f"{url.hostname}:{url.port}{url.path}" if url.port else f"{url.hostname}{url.path}"
    else:
        shown = name
    shown = re.sub(r"[^\w.:-]+", "-", shown, flags=re.ASCII).strip("-")[:_LONGEST]
    parts.append(shown)
    if shown != name:
        parts.append(hashlib.sha256(name.encode()).hexdigest()[:8])
    if component is not None:
        parts += ["component", re.sub(r"[^\w.:-]+", "-", str(component), flags=re.ASCII)]
    if role is not None:
        parts += ["of", role.split(":")[4]]
    return " ".join(parts)
