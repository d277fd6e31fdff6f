"""Requests may call models, and nothing that leads to credentials or to this system itself."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.errors import RequestError, UnreachableError
from tasks.inference.endpoint_hosts import check_host, checked_addresses
from tasks.inference.http import HttpEndpoint
from tasks.request import Request
from tasks.request.allowed_roles import check_roles
from tasks.settings import settings
from tests.job_scene import request

ROLE = "arn:aws:iam::123456789012:role/Invoke"


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("SWATH_ENDPOINT_HOSTS", "SWATH_ENDPOINT_ROLES", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    settings.cache_clear()
    yield
    settings.cache_clear()


def allow(monkeypatch: pytest.MonkeyPatch, name: str, *values: str) -> None:
    monkeypatch.setenv(name, json.dumps(values))
    settings.cache_clear()


def check(url: str) -> list[str]:
    """Both checks, as an endpoint makes them."""
    check_host(url)
    return checked_addresses(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
        "http://169.254.170.2/v2/credentials/x",
        "http://2852039166/",
        "http://0xA9FEA9FE/",
        "http://169.254.169.254./",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[fe80::1]:8080/",
        "http://[fd00:ec2::254]/",
    ],
)
def test_link_local_addresses_are_refused_however_they_are_written(url: str) -> None:
    with pytest.raises(RequestError, match=r"imageProcessor\.name: .* link-local.*ENDPOINT_HOSTS"):
        check(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:4200/api/admin/settings",
        "http://localhost:4200/api",
        "http://127.9.9.9:4200/",
        "http://0.0.0.0:4200/",
        "http://[::1]:4200/",
        "http://[::ffff:127.0.0.1]:4200/",
    ],
)
def test_the_own_server_is_refused_by_each_of_its_addresses(url: str) -> None:
    with pytest.raises(RequestError, match="a server of this system"):
        check(url)


def test_the_own_services_of_aws_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://localhost:4566")
    with pytest.raises(RequestError, match=r"127\.0\.0\.1:4566.* a server of this system"):
        check("http://127.0.0.1:4566/bucket")


def test_models_on_this_machine_and_anywhere_else_may_be_called() -> None:
    assert check("http://127.0.0.1:8080/invocations") == []
    assert check("http://192.0.2.7/invocations") == []
    assert "127.0.0.1" in check("http://localhost:8080/invocations")


def test_a_name_that_leads_to_a_link_local_address_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look_up(monkeypatch, "192.0.2.7", "169.254.169.254")
    check_host("http://innocent.example/")
    with pytest.raises(RequestError, match=r"innocent\.example.*169\.254\.169\.254"):
        checked_addresses("http://innocent.example/")


def test_a_name_that_cannot_be_looked_up_may_be_so_later() -> None:
    with pytest.raises(UnreachableError, match="nobody"):
        checked_addresses("http://nobody.invalid/")


def test_only_listed_hosts_may_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, "SWATH_ENDPOINT_HOSTS", "models.example", "127.0.0.1:8080", "*.example.org")
    for url in ("http://models.example:9/", "http://127.0.0.1:8080/", "https://a.b.EXAMPLE.org/x"):
        check_host(url)
    for url in (
        "http://127.0.0.1:8081/",
        "http://example.org/",
        "http://models.example.evil.example/",
        "http://evilexample.org/",
    ):
        with pytest.raises(RequestError, match="not on a host of SWATH_ENDPOINT_HOSTS"):
            check_host(url)


@pytest.mark.parametrize("entry", ["http://models.example", "*", "a b", "host:port", ""])
def test_an_entry_that_is_no_host_is_refused(monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    allow(monkeypatch, "SWATH_ENDPOINT_HOSTS", entry)
    with pytest.raises(ValidationError, match="is no host"):
        settings()


def test_what_is_listed_by_its_name_may_be_called_whatever_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    allow(monkeypatch, "SWATH_ENDPOINT_HOSTS", "169.254.1.1", "127.0.0.1:4200", "127.0.0.2")
    assert check("http://169.254.1.1/") == []
    assert check("http://127.0.0.1:4200/") == []
    with pytest.raises(RequestError, match="a server of this system"):
        check("http://127.0.0.2:4200/")


def test_a_pattern_lets_no_name_lead_to_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, "SWATH_ENDPOINT_HOSTS", "*.example")
    look_up(monkeypatch, "169.254.169.254")
    with pytest.raises(RequestError, match="link-local"):
        check("http://innocent.example/")


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"type": "FeatureCollection", "features": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a model that listens on one address of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_connections_are_made_to_the_checked_addresses_alone(
    monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    """The system knows no `innocent.example`, so a call can only reach the address looked up."""
    look_up(monkeypatch, "127.0.0.1")
    url = f"http://innocent.example:{port}/"
    with closing(HttpEndpoint(url, lambda _: b"x", "text/plain", {}, 5.0)) as endpoint:
        assert endpoint.ask([b"x"])


def test_another_address_of_a_host_is_tried_if_one_does_not_listen(
    monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    look_up(monkeypatch, "127.0.0.9", "127.0.0.1")
    url = f"http://innocent.example:{port}/"
    with closing(HttpEndpoint(url, lambda _: b"x", "text/plain", {}, 5.0)) as endpoint:
        for _ in range(4):
            assert endpoint.ask([b"x"])


def test_a_name_that_begins_to_lead_elsewhere_is_not_followed(
    monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    monkeypatch.setattr("tasks.inference.pinned_clients._LIFETIME", 0.0)
    look_up(monkeypatch, "127.0.0.1")
    url = f"http://innocent.example:{port}/"
    with closing(HttpEndpoint(url, lambda _: b"x", "text/plain", {}, 5.0)) as endpoint:
        assert endpoint.ask([b"x"])
        look_up(monkeypatch, "169.254.169.254")
        with pytest.raises(RequestError, match="link-local"):
            endpoint.ask([b"x"])


def test_an_endpoint_that_is_refused_is_not_called() -> None:
    url = "http://169.254.169.254/latest/meta-data/"
    with pytest.raises(RequestError, match="link-local"):
        HttpEndpoint(url, lambda _: b"x", "text/plain", {}, 5.0)


def look_up(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let `innocent.example` have these addresses."""
    real = socket.getaddrinfo

    def found(host: str, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if host != "innocent.example":
            return list(real(host, port, *args, **kwargs))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", found)


@pytest.mark.parametrize("field", ["imageReadRole", "assumedRole"])
def test_only_listed_roles_may_be_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, field: str
) -> None:
    message = named(tmp_path, field)
    check_roles(message)
    allow(monkeypatch, "SWATH_ENDPOINT_ROLES", ROLE)
    check_roles(message)
    allow(monkeypatch, "SWATH_ENDPOINT_ROLES", f"{ROLE}2")
    with pytest.raises(RequestError, match=f"{field}: {ROLE} .*SWATH_ENDPOINT_ROLES"):
        check_roles(message)


def named(folder: Any, field: str) -> Request:
    if field == "imageReadRole":
        return request(folder / "a.tif", folder / "out", imageReadRole=ROLE)
    model = {"name": "ships", "type": "SM_ENDPOINT", "assumedRole": ROLE}
    return request(folder / "a.tif", folder / "out", imageProcessor=model)
