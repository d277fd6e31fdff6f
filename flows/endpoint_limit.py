"""The name of the concurrency limit of an endpoint in Prefect."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import urlsplit

from tasks.request import Request

_LONGEST = 80  # characters of an endpoint's name that the limit's name has


def limit_name(request: Request) -> str:
    """The name of the concurrency limit that all calls to a request's endpoint share.

    It is the endpoint's type and name, and its inference component and the account of the assumed
    role if the request names them: `SM_ENDPOINT aircraft`. Characters that Prefect does not allow
    in a name, and parts of a URL that may be secret, are left out; then a hash of the whole name is
    appended.
    """
    processor = request.image_processor
    name, parts = processor.name, [str(processor.type)]
    component = request.image_processor_parameters.get("InferenceComponentName")
    role = processor.assumed_role
    if "://" in name:
        url = urlsplit(name)
        label = f"{url.hostname}:{url.port}{url.path}" if url.port else f"{url.hostname}{url.path}"
    else:
        label = name
    label = re.sub(r"[^\w.:-]+", "-", label, flags=re.ASCII).strip("-")[:_LONGEST]
    parts.append(label)
    if label != name:
        parts.append(hashlib.sha256(name.encode()).hexdigest()[:8])
    if component is not None:
        parts += ["component", re.sub(r"[^\w.:-]+", "-", str(component), flags=re.ASCII)]
    if role is not None:
        parts += ["of", role.split(":")[4]]
    return " ".join(parts)
