"""The hosts on which requests may call models.

Requests are not trusted, and the processes that work them lie where their senders do not: beside
the credentials of the machine, beside Prefect's server. So an operator can list the hosts that may
be called, and addresses that lead to credentials or to this system are refused unless listed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from pydantic import ValidationError
from pydantic_core import Url

from tasks.errors import RequestError, UnreachableError
from tasks.request.locations import redact_url
from tasks.settings import settings

_LINK_LOCAL = [
    ip_network(network)
    for network in (
        "169.254.0.0/16",  # credentials of EC2 and ECS among them
        "fe80::/10",
        "fd00:ec2::/32",  # the same of EC2 and EKS
    )
]
_NAT64 = ip_network("64:ff9b::/96")  # the last 32 bits are an IPv4 address
_OWN_URLS = ("PREFECT_API_URL", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
_OWN_URL_PREFIX = "AWS_ENDPOINT_URL"

_Address = IPv4Address | IPv6Address


def check_host(url: str) -> None:
    """Check that requests may call a URL, as far as the URL itself tells.

    Raises:
        RequestError: They may not.
    """
    host, port = _host_and_port(url)
    literal = _literal(host)
    if not _listed(host, port):
        _refuse(url, "is not on a host of SWATH_ENDPOINT_HOSTS")
    if literal is not None:
        _check_addresses(url, host, port, [literal])
    elif (host, port) in set(_own_places()) and not _exactly_listed(f"{host}:{port}"):
        _refuse(url, _OWN)


def checked_addresses(url: str) -> list[str]:
    """The addresses to which calls of a URL must go, so that they reach none that is refused.

    Returns:
        None of them if the client may look them up itself: the URL has an address, an operator
        has listed the host by its name, or a proxy looks it up.

    Raises:
        RequestError: One of them is refused.
        UnreachableError: The host's name cannot be looked up.
    """
    host, port = _host_and_port(url)
    if _literal(host) is not None or _exactly_listed(host, f"{host}:{port}") or _by_proxy(url):
        return []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UnreachableError(f"{redact_url(url)}: {error.strerror}", connected=False) from error
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    _check_addresses(url, host, port, [_plain(ip_address(each)) for each in addresses])
    return addresses


_OWN = "is the address of a server of this system"


def _check_addresses(url: str, host: str, port: int, addresses: list[_Address]) -> None:
    """Refuse a URL of which one address is link-local or that of a server of this system."""
    for address in addresses:
        if any(address in network for network in _LINK_LOCAL):
            if not _exactly_listed(host, f"{host}:{port}"):
                _refuse(
                    url, f"has a link-local address, {address}, as credentials of machines have"
                )
        elif not _exactly_listed(f"{host}:{port}") and any(
            port == own_port and _same_machine(address, own_host)
            for own_host, own_port in _own_places()
        ):
            _refuse(url, _OWN)


def _refuse(url: str, why: str) -> None:
    host, port = _host_and_port(url)
    raise RequestError(
        f"imageProcessor.name: {redact_url(url)} {why}, so requests may not call it; give the URL "
        f"of a model, or have the operator add {f'{host}:{port}'!r} to SWATH_ENDPOINT_HOSTS."
    )


def _listed(host: str, port: int) -> bool:
    """Whether the operator's list allows a host, by its name or a pattern; or there is no list."""
    hosts = settings().endpoint_hosts
    if hosts is None or _exactly_listed(host, f"{host}:{port}"):
        return True
    patterns = [name.removeprefix("*") for name in hosts if name.startswith("*.")]
    return any(f"{host}:{port}".endswith(each) or host.endswith(each) for each in patterns)


def _exactly_listed(*names: str) -> bool:
    """Whether the operator's list has one of these names, not only a pattern for it."""
    return not {*names}.isdisjoint(settings().endpoint_hosts or [])


def _own_places() -> Iterator[tuple[str, int]]:
    """Host and port of Prefect's server and of the services of AWS that this process was given."""
    for name, url in os.environ.items():
        if name in _OWN_URLS or name.startswith(_OWN_URL_PREFIX):
            try:
                yield _host_and_port(url)
            except RequestError:
                continue


def _same_machine(address: _Address, host: str) -> bool:
    """Whether an address is one of a host's."""
    literal = _literal(host)
    if literal is None:
        try:
            found = {each[4][0] for each in socket.getaddrinfo(host, None)}
        except OSError:
            return False
        own = {_plain(ip_address(str(each))) for each in found}
    else:
        own = {literal}
    return address in own or (_is_here(address) and any(map(_is_here, own)))


def _is_here(address: _Address) -> bool:
    """Whether an address is one of this machine's: only to those can a socket be bound."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


def _host_and_port(url: str) -> tuple[str, int]:
    """Host in lower case, without brackets, and port of a URL, as the HTTP client parses URLs."""
    try:
        parsed = Url(url)
    except ValidationError:
        parsed = None
    if parsed is None or not parsed.host or not parsed.port:
        raise RequestError(f"imageProcessor.name: {redact_url(url)} is not a URL of HTTP.")
    return parsed.host.strip("[]").rstrip(".").lower(), parsed.port


def _literal(host: str) -> _Address | None:
    """The address that a host is written as, or None for a name."""
    try:
        return _plain(ip_address(host))
    except ValueError:
        return None


def _plain(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address


def _by_proxy(url: str) -> bool:
    """Whether a proxy of the environment takes the calls of a URL, and looks up its name."""
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 - slow to import

    scheme, _, rest = url.partition("://")
    proxies = getproxies()
    return bool(proxies.get(scheme) or proxies.get("all")) and not proxy_bypass(rest.split("/")[0])
