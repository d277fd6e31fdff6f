"""Secret blocks of Prefect, for requests that name one in a parameter.

A process that imports this module can read them. The modules of `tasks` do not know Prefect,
and refuse a request that names a Secret block unless a reader is registered.
"""

from __future__ import annotations

from tasks.errors import RequestError, UnreachableError
from tasks.inference.secrets import STORED_FORM, register_block_reader


def read_secret_block(name: str) -> object:
    """The value of a Secret block, from the Prefect server of this process.

    Raises:
        RequestError: No such block, or this process may not read it.
        UnreachableError: The server does not answer, or failed, or has too many requests.
    """
    # late: few requests name a Secret block
    import httpx  # noqa: PLC0415
    from prefect import get_client  # noqa: PLC0415
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError  # noqa: PLC0415

    try:
        with get_client(sync_client=True) as client:
            document = client.read_block_document_by_name(name, "secret")
    except ObjectNotFound:
        raise RequestError(
            f"there is no Secret block {name!r} on this Prefect server: create it, with the "
            f"value {STORED_FORM}, or correct the name."
        ) from None
    except PrefectHTTPStatusError as error:
        status = f"Prefect answered HTTP {error.response.status_code}"
        if error.response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise RequestError(
                f"{status}: give this process a key that may read blocks."
            ) from error
        raise UnreachableError(f"{status}.") from error
    except httpx.HTTPError as error:
        raise UnreachableError(f"Prefect does not answer: {error}.") from error
    except ValueError:  # its text may show the secret
        raise UnreachableError("what answered is not Prefect, or not as it should.") from None
    value: object = document.data.get("value")
    return value


register_block_reader(read_secret_block)
