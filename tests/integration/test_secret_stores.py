"""Secrets fetched from a Prefect server and from AWS, sent to models, and seen nowhere else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from uuid import uuid4

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from rasterio.transform import from_origin
from rasterio.windows import Window

from flows.image import image
from tasks.aws import clients
from tasks.errors import PermanentError, RequestError, UnreachableError
from tasks.grid.tiles import Tile
from tasks.imagery import TilePixels, open_image
from tasks.inference import open_endpoint, open_with_retries, secrets
from tasks.inference.answer import decode
from tasks.inference.endpoint import JsonText
from tasks.inference.http import HttpEndpoint
from tasks.inference.secrets import reveal
from tasks.request import Request
from tasks.request.secret_references import find_references
from tests.oip_server import oip_server
from tests.onnx_models import bright_box, describe, write_json

TOKEN = "s3cr3t-t0k3n-of-ships"
SIDE = 64
EMPTY = b'{"type":"FeatureCollection","features":[]}'


class Echo(BaseHTTPRequestHandler):
    """A model that wants a token, and tells others what it was told, as the path says."""

    protocol_version = "HTTP/1.1"
    tokens: list[str | None]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        token = self.headers["Authorization"]
        self.tokens.append(token)
        said = json.dumps({"headers": {"Authorization": token}}).encode()
        match self.path:
            case "/models/ships":
                self._say(200 if token == f"Bearer {TOKEN}" else 401, EMPTY)
            case "/models/refuses":
                self._say(401, said)
            case "/models/repeats":
                self._say(200, said)
            case "/models/leads":
                self._say(307, b"", Location=f"https://elsewhere.example/?token={token}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass

    def _say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def serve(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def models() -> Iterator[str]:
    """The address of one that is as it should be, and of others beside it."""
    Echo.tokens = []
    yield from serve(Echo)


@pytest.fixture(autouse=True)
def _fetched_anew() -> Iterator[None]:
    secrets._members.cache_clear()
    yield
    secrets._members.cache_clear()


def in_prefect(value: object) -> str:
    """Keep a secret in the Prefect server; how a message names it."""
    name = f"ships-{uuid4().hex[:8]}"
    Secret(value=value).save(name)
    return f"prefect.blocks.secret.{name}"


def in_aws(value: object, region: str = "eu-central-1") -> str:
    """Keep a secret in Secrets Manager, elsewhere than this process works; its ARN."""
    text = value if isinstance(value, str) else json.dumps(value)
    keeper = clients.session().client("secretsmanager", region_name=region)
    arn: str = keeper.create_secret(Name=f"models/{uuid4().hex}", SecretString=text)["ARN"]
    return arn


STORES = [pytest.param(in_prefect, ".", id="prefect"), pytest.param(in_aws, ":", id="aws")]
pytestmark = pytest.mark.usefixtures("prefect_api", "aws")


def endpoint(url: str, value: str) -> HttpEndpoint:
    parameters = {"Authorization": value}
    return HttpEndpoint(url, lambda tile: tile.pixels.tobytes(), "image/x", parameters, 10.0)


def tile() -> TilePixels:
    pixels = np.zeros((3, SIDE, SIDE), np.uint8)
    return TilePixels(Tile(0, Window(0, 0, SIDE, SIDE)), pixels, None)


def ask(url: str, value: str) -> object:
    with closing(endpoint(url, value)) as model:
        (answer,) = model.ask([model.prepare(tile())])
    assert isinstance(answer, JsonText)
    return decode(answer)


@pytest.mark.parametrize(("keep", "then"), STORES)
def test_a_secret_is_sent_in_its_header(
    keep: Callable[[object], str], then: str, models: str
) -> None:
    name = keep({"url": f"{models}/models", "token": TOKEN, "value": f"Bearer {TOKEN}\n"})
    assert ask(f"{models}/models/ships", f"Bearer {{{{ {name}{then}token }}}}")
    assert ask(f"{models}/models/ships", f"{{{{{name}}}}}")
    assert Echo.tokens == [f"Bearer {TOKEN}"] * 2


def test_a_secret_stored_as_text_is_read_as_json(models: str) -> None:
    name = in_prefect(json.dumps({"url": models, "value": f"Bearer {TOKEN}"}))
    assert ask(f"{models}/models/ships", f"{{{{ {name} }}}}")


def test_a_version_of_a_secret_can_be_named(models: str) -> None:
    arn = in_aws({"url": models, "value": "old-token"})
    keeper = clients.session().client("secretsmanager", region_name="eu-central-1")
    keeper.put_secret_value(
        SecretId=arn, SecretString=json.dumps({"url": models, "value": "new-token"})
    )
    for text, told in [(f"{arn}:value:AWSPREVIOUS:", "old-token"), (f"{arn}:value::", "new-token")]:
        assert reveal({"A": f"{{{{ {text} }}}}"}, models).parameters == {"A": told}


def test_a_process_fetches_a_secret_once(models: str) -> None:
    arn = in_aws({"url": models, "value": "a-token", "other": "b-token"})
    text = {"A": f"{{{{ {arn} }}}}", "B": f"{{{{ {arn}:other }}}} {{{{ {arn} }}}}"}
    first = reveal(text, models)
    keeper = clients.session().client("secretsmanager", region_name="eu-central-1")
    keeper.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    assert first.parameters == {"A": "a-token", "B": "b-token a-token"}
    assert reveal(text, models) == first
    secrets._members.cache_clear()
    with pytest.raises(RequestError, match="ResourceNotFoundException: no such secret: create it"):
        reveal(text, models)


def test_the_repr_of_revealed_parameters_shows_no_value() -> None:
    revealed = reveal({"A": "b-token"}, "http://a/")
    assert "b-token" not in repr(revealed)


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        ("https://a.example", "https://a.example/models/ships"),
        ("https://a.example/models", "https://a.example/models"),
        ("https://a.example/models", "https://a.example/models?x=1"),
        ("https://a.example/models/", "https://a.example/models/ships"),
        ("https://A.example:443/models", "https://user:word@a.example/x/../models/ships"),
    ],
)
def test_a_secret_is_sent_to_its_url_and_below(allowed: str, url: str) -> None:
    name = in_prefect({"url": allowed, "value": "a-token"})
    assert reveal({"A": f"{{{{ {name} }}}}"}, url).secrets == {"a-token"}


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        ("https://a.example/models", "https://a.example/models-of-mine"),
        ("https://a.example/models", "https://a.example/models/../mine"),
        ("https://a.example/models", "https://a.example/models/%2e%2e/mine"),
        ("https://a.example", "http://a.example/models"),
        ("https://a.example", "https://a.example:8443/models"),
        ("https://a.example", "https://a.example.mine.example/"),
        ("https://a.example", "https://a.example@mine.example/"),
        ("https://a.example", r"https://mine.example\@a.example/"),
        ("a.example", "https://a.example/"),
        ("", "https://a.example/"),
    ],
)
def test_a_secret_is_sent_nowhere_else(allowed: str, url: str) -> None:
    name = in_prefect({"url": allowed, "value": "a-token"})
    with pytest.raises(RequestError) as refused:
        reveal({"A": f"{{{{ {name} }}}}"}, url)
    told = str(refused.value)
    assert told.startswith(
        f"imageProcessorParameters.A: {{{{ {name} }}}}: may be sent to {allowed} only"
    )
    assert "a-token" not in told


@pytest.mark.parametrize(("keep", "then"), STORES)
@pytest.mark.parametrize(
    ("kept", "key", "told"),
    [
        (TOKEN, "", "the secret does not say where it may be sent: store {"),
        ([TOKEN], "", "the secret does not say where it may be sent: store {"),
        ({"value": TOKEN}, "", "the secret does not say where it may be sent: store {"),
        ({"url": 5, "value": TOKEN}, "", "the secret does not say where it may be sent: store {"),
        ({"url": "http://a", "tok": TOKEN}, "", "has no text as 'value': its keys are tok."),
        ({"url": "http://a", "tok": TOKEN}, "tik", "has no text as 'tik': its keys are tok."),
        ({"url": "http://a", "tok": [TOKEN]}, "tok", "has no text as 'tok'"),
        ({"url": "http://a"}, "url", "has no text as 'url': its keys are none."),
    ],
)
def test_a_malformed_secret_is_refused_without_its_value(
    keep: Callable[[object], str], then: str, kept: object, key: str, told: str
) -> None:
    name = keep(kept) + (then + key if key else "")
    with pytest.raises(RequestError) as refused:
        reveal({"A": f"{{{{ {name} }}}}"}, "http://a/")
    assert str(refused.value).startswith(f"imageProcessorParameters.A: {{{{ {name} }}}}: ")
    assert told in str(refused.value)
    assert TOKEN not in str(refused.value)


def test_a_missing_block_is_named() -> None:
    with pytest.raises(RequestError, match="there is no Secret block 'absent' on this Prefect"):
        reveal({"A": "{{ prefect.blocks.secret.absent }}"}, "http://a/")


class Keeper(BaseHTTPRequestHandler):
    """A Secrets Manager, or Prefect, that gives the answers it was told to; the last one for ever.

    Attributes:
        answers: Statuses and bodies.
    """

    answers: list[tuple[int, object]]

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def keeper() -> Iterator[str]:
    """The address of one."""
    yield from serve(Keeper)


@pytest.fixture
def aws_is_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Say where Secrets Manager is."""

    def at(address: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", address)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        clients.renew_credentials()

    yield at
    monkeypatch.undo()
    clients.renew_credentials()


ARN = "arn:aws:secretsmanager:us-west-2:123456789012:secret:ships-AbCdEf"


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        ((400, "AccessDeniedException"), RequestError, "roles secretsmanager:GetSecretValue on it"),
        ((400, "DecryptionFailure"), RequestError, "grant the image's and region's roles kms:Decr"),
        ((400, "InvalidRequestException"), RequestError, "it is being deleted: restore it"),
        ((400, "ThrottlingException"), UnreachableError, "Secrets Manager refused: "),
        ((500, "InternalServiceError"), UnreachableError, "Secrets Manager refused: "),
        (None, UnreachableError, "Secrets Manager does not answer: "),
    ],
)
def test_an_error_of_secrets_manager_is_reported(
    keeper: str,
    aws_is_kept: Callable[[str], None],
    answer: tuple[int, str] | None,
    kind: type[Exception],
    told: str,
) -> None:
    if answer:
        Keeper.answers = [(answer[0], {"__type": answer[1]})]
    aws_is_kept(keeper if answer else "http://127.0.0.1:9")
    with pytest.raises(kind) as failed:
        reveal({"A": f"{{{{ {ARN}:token }}}}"}, "http://a/")
    assert str(failed.value).startswith(f"imageProcessorParameters.A: {{{{ {ARN}:token }}}}: ")
    assert told in str(failed.value)


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (401, RequestError, "Prefect answered HTTP 401: give this process a key"),
        (403, RequestError, "Prefect answered HTTP 403: give this process a key"),
        (429, UnreachableError, "Prefect answered HTTP 429"),
        (500, UnreachableError, "Prefect answered HTTP 500"),
        (200, UnreachableError, "what answered is not Prefect"),
        (None, UnreachableError, "Prefect does not answer: "),
    ],
)
def test_an_error_of_prefect_is_reported(
    keeper: str, status: int | None, kind: type[Exception], told: str
) -> None:
    Keeper.answers = [(status or 0, {})]
    address = f"{keeper}/api" if status else "http://127.0.0.1:9/api"
    with (
        temporary_settings({PREFECT_API_URL: address, PREFECT_CLIENT_MAX_RETRIES: 0}),
        pytest.raises(kind, match=told),
    ):
        reveal({"A": "{{ prefect.blocks.secret.ships }}"}, "http://a/")


@pytest.mark.parametrize("path", ["refuses", "repeats", "leads"])
def test_a_secret_that_a_server_repeats_is_masked(models: str, path: str) -> None:
    name = in_prefect({"url": models, "token": TOKEN})
    with closing(endpoint(f"{models}/models/{path}", f"Bearer {{{{ {name}.token }}}}")) as model:
        try:
            (answer,) = model.ask([model.prepare(tile())])
        except PermanentError as error:
            told = str(error)
        else:
            assert isinstance(answer, JsonText)
            told = str(decode(answer))
    assert Echo.tokens == [f"Bearer {TOKEN}"]
    assert f"Bearer {'*' * len(TOKEN)}" in told
    assert TOKEN not in told


def paint(path: Path) -> Path:
    pixels = np.zeros((3, 96, 96), np.uint8)
    pixels[:, 5:20, 10:40] = 255
    profile = {"count": 3, "dtype": "uint8", "crs": "EPSG:32633", "width": 96, "height": 96}
    place = from_origin(500_000, 5_400_000, 0.5, 0.5)
    with rasterio.open(path, "w", driver="GTiff", transform=place, **profile) as sink:
        sink.write(pixels)
    return path


def request(folder: Path, name: str, kind: str, **parameters: str) -> Request:
    message = {
        "jobId": f"secret-{uuid4().hex[:8]}",
        "imageUrls": [str(folder / "a.tif")],
        "outputs": [{"type": "File", "path": str(folder / "out")}],
        "imageProcessor": {"name": name, "type": kind},
        "imageProcessorParameters": parameters,
        "imageProcessorTileSize": SIDE,
        "imageProcessorTileOverlap": 16,
        "imageProcessorTileFormat": "GTIFF",
    }
    return Request.parse(json.dumps(message))


def recorded(api: str, job_id: str) -> str:
    """All that a Prefect server tells of its runs, once it has the logs of a job's."""
    deadline = time.monotonic() + 60
    while "Finished in state" not in (logs := listed(api, "logs")) or job_id not in logs:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return logs + "".join(listed(api, kind) for kind in ("flow_runs", "task_runs", "artifacts"))


def listed(api: str, kind: str) -> str:
    pages: list[str] = []
    offset = 0
    while True:
        answer = httpx.post(f"{api}/{kind}/filter", json={"limit": 200, "offset": offset})
        page = answer.raise_for_status().json()
        if not page:
            return "".join(pages)
        pages.append(json.dumps(page))
        offset += len(page)


@pytest.mark.parametrize(
    ("path", "end"), [("ships", "Completed"), ("refuses", "Failed"), ("repeats", "Failed")]
)
def test_no_run_log_artifact_ledger_or_result_holds_a_secret(
    allowed: Path, prefect_api: str, models: str, path: str, end: str
) -> None:
    paint(allowed / "a.tif")
    name = in_prefect({"url": models, "token": TOKEN})
    value = f"Bearer {{{{ {name}.token }}}}"
    asked = request(allowed, f"{models}/models/{path}", "HTTP_ENDPOINT", Authorization=value)
    state = image(asked, return_state=True)
    assert state.name == end
    assert set(Echo.tokens) == {f"Bearer {TOKEN}"}
    told = recorded(prefect_api, asked.job_id)
    assert name in told  # the run's parameters name it
    assert TOKEN not in told
    files = [file for file in allowed.rglob("*") if file.is_file()]
    assert (allowed / "out" / "a.tif.coverage.parquet") in files
    for file in files:
        text = str(pq.read_table(file).to_pylist()) if file.suffix == ".parquet" else ""
        assert TOKEN not in text
        assert TOKEN.encode() not in file.read_bytes()


def test_swath_run_reads_secret_blocks(tmp_path: Path, prefect_api: str, models: str) -> None:
    name = in_prefect({"url": models, "value": f"Bearer {TOKEN}"})
    command = [
        Path(sys.executable).with_name("swath"), "run", paint(tmp_path / "a.tif"),
        "--model", f"{models}/models/ships", "--type", "HTTP_ENDPOINT",
        "--parameter", f"Authorization={{{{ {name} }}}}",
        "--tile-format", "GTIFF", "--tile-size", "64", "--overlap", "16", "--out", tmp_path / "out",
    ]  # fmt: skip
    environment = os.environ | {"PREFECT_API_URL": prefect_api, "SWATH_STATE_DIR": "/no/stack"}
    done = subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert set(Echo.tokens) == {f"Bearer {TOKEN}"}


def test_the_open_inference_protocol_takes_secrets_too(allowed: Path) -> None:
    bright_box(allowed / "boxes.onnx", shape=(1, 3, SIDE, SIDE))
    description = describe({"type": "torchvision"}, classes=("dark", "bright"))
    write_json(allowed / "boxes.json", description)
    scene = open_image(str(paint(allowed / "a.tif")), roots=[allowed])
    with oip_server(boxes=allowed / "boxes.onnx") as address:
        url = f"{address}/gate/way/v2/models/boxes"
        name = in_prefect({"url": f"{address}/gate", "token": "abc"})
        value = f"Bearer {{{{ {name}.token }}}}"
        place = str(allowed / "boxes.json")
        asked = request(allowed, url, "OIP_ENDPOINT", Authorization=value, description=place)
        with closing(open_endpoint(asked, scene, 10.0)) as model:
            (found,) = model.ask([model.prepare(tile())])
        assert found is not None
        wrong = in_aws({"url": f"{address}/gate", "token": "abd"})
        value = f"Bearer {{{{ {wrong}:token:: }}}}"
        asked = request(allowed, url, "OIP_ENDPOINT", Authorization=value, description=place)
        with pytest.raises(RequestError, match="missing token"):
            open_endpoint(asked, scene, 10.0)


def test_opening_an_endpoint_is_retried_while_its_secret_cannot_be_read(
    allowed: Path, keeper: str, aws_is_kept: Callable[[str], None], models: str
) -> None:
    scene = open_image(str(paint(allowed / "a.tif")), roots=[allowed])
    kept = json.dumps({"url": models, "value": f"Bearer {TOKEN}"})
    Keeper.answers = [(500, {}), (400, {"__type": "ThrottlingException"})]
    Keeper.answers.append((200, {"ARN": ARN, "SecretString": kept}))
    aws_is_kept(keeper)
    value = f"{{{{ {ARN} }}}}"
    asked = request(allowed, f"{models}/models/ships", "HTTP_ENDPOINT", Authorization=value)
    with closing(open_with_retries(asked, scene)) as model:
        assert model.ask([model.prepare(tile())])
    assert Echo.tokens == [f"Bearer {TOKEN}"]
    assert len(Keeper.answers) == 1


def test_the_example_in_the_documentation_works() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    section = page.partition("### Secrets\n")[2].partition("\n## ")[0]
    (fields,) = map(json.loads, re.findall(r"```json\n(.*?)```", section, re.DOTALL))
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(code, {})
    revealed = reveal(fields["imageProcessorParameters"], fields["imageProcessor"]["name"])
    assert revealed.parameters == {"Authorization": "Bearer abc123"}
    forms = re.findall(r"^\| `(.*?)` \|", section, re.MULTILINE)
    named = [form.replace("REGION:ACCOUNT", "us-west-2:123456789012") for form in forms]
    assert [next(find_references(form.replace("NAME", "a"))).key for form in named] == [
        "KEY",
        "KEY",
    ]
