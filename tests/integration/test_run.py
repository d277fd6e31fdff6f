"""The commands `swath run`, `submit`, `schema` and `--help`, run as programs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import ceil
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import rasterio
from affine import Affine
from prefect import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import State

from deployments.run.job import run_image
from flows.image import image
from tests.job_scene import paint, request
from tests.onnx_models import YOLOX, yolox_nano

DATA = Path(__file__).parents[2].parent / "shared" / "data"
SWATH = Path(sys.executable).with_name("swath")


def swath(
    *arguments: object, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SWATH, *map(str, arguments)],
        env=os.environ | {"SWATH_STATE_DIR": "/no/stack"} | environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def last_object(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    pixels = np.full((3, 600, 600), 50, np.uint8)
    pixels[:, 344:, 344:] = np.array([255, 0, 0], np.uint8)[:, None, None]
    profile = {"width": 600, "height": 600, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    transform = Affine(1, 0, 500_000, 0, -1, 5_400_000)
    with rasterio.open(
        tmp_path / "scene.tif", "w", driver="GTiff", transform=transform, **profile
    ) as sink:
        sink.write(pixels)
    return tmp_path / "scene.tif"


def test_an_image_is_run_without_a_server(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = swath(
        "run", scene, "--model", "centerpoint", "--tile-size", 256, "--overlap", 64,
        "--region-size", 300, "--job-id", "job-7", "--out", out, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcome = last_object(done)
    assert outcome.pop("seconds") > 0
    assert outcome.pop("message").startswith("9 features; 100 % of the area covered")
    used = outcome.pop("usage")
    assert (used["calls"], used["bytes_read"] > 600 * 600 * 3) == (9, True)
    assert outcome == {
        "job_id": "job-7",
        "image": str(scene),
        "status": "SUCCESS",
        "features": 9,
        "classes": {"sample_object": 9},
        "calls": 9,
        "failed_calls": 0,
        "tiles": {"inferred": 9, "blank": 0, "outside": 0, "failed": 0},
        "outputs": {
            "geojson": str(out / "scene.tif.geojson"),
            "parquet": str(out / "scene.tif.parquet"),
            "coverage": str(out / "scene.tif.coverage.parquet"),
        },
        "covered": 1.0,
        "cost": None,
        "raster": None,
    }
    assert "100 % of the area covered" in done.stderr
    assert "scene.tif · job-7" in done.stderr
    assert "9 tiles of 256 × 256" in done.stderr
    assert "Prefect" not in done.stderr
    collection = json.loads((out / "scene.tif.geojson").read_text())
    centres = sorted(
        tuple(feature["properties"]["imageGeometry"]["coordinates"])
        for feature in collection["features"]
    )
    places = [128.0, 300.0, 472.0]
    assert centres == [(x, y) for x in places for y in places]


def test_a_failed_tile_gives_partial_and_exit_status_3(scene: Path, tmp_path: Path) -> None:
    done = swath(
        "run", scene, "--model", "failure", "--tile-size", 256, "--overlap", 64,
        "--out", tmp_path / "out", "--json", SWATH_TILE_ATTEMPTS="1",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    outcome = last_object(done)
    assert (outcome["status"], outcome["tiles"]["failed"]) == ("PARTIAL", 1)
    assert "it is red" in done.stderr
    cell = 600 - (172 + 256 + 344) / 2  # from the middle of the last overlap to the image's end
    share = 1 - (cell / 600) ** 2
    assert outcome["covered"] == pytest.approx(share)
    assert f"{100 * share:.1f} % of the area covered" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--model", "no-such-model"], "bright-targets"),
        (
            ["--model", "centerpoint", "--tile-size", 64, "--overlap", 64],
            "--overlap: 64 is not below --tile-size 64",
        ),
        (["--model", "centerpoint", "--roi", "POLYGON((0 0, 1 0, 1 1"], "--roi: "),
        (["--model", "centerpoint", "--roi", "POLYGON((0 0, 1 0, 1 1, 0 0))"], "do not meet"),
        (["--model", "centerpoint", "--region-size", 0], "--region-size"),
        (["--model", "flood", "--parameter", "count"], "'count' is not NAME=VALUE"),
        (["--model", "flood", "--parameter", "cuont=3"], "--parameter cuont"),
        (["--model", "none.onnx", "--type", "ONNX"], "none.onnx"),
    ],
)
def test_an_invalid_option_is_refused_with_the_reason(
    scene: Path, tmp_path: Path, arguments: list[object], reason: str
) -> None:
    out = tmp_path / "out"
    done = swath("run", scene, *arguments, "--out", out, "--json")
    assert done.returncode == 1
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert last_object(done)["status"] == "FAILED"
    assert not out.exists() or not list(out.iterdir())


@pytest.mark.skipif(not DATA.is_dir(), reason="the real images are not on this machine")
@pytest.mark.parametrize(
    ("name", "width", "height"),
    [
        ("056_512x512_s_8_4_ms_jp2.ntf", 512, 512),
        ("2_planes.tiff", 512, 512),
        ("OSBS_029.tif", 400, 400),
        ("RGB.byte.tif", 791, 718),
        ("boats.jpg", 1920, 1080),
        ("cog_gcps_s1.tif", 1280, 837),
        ("i_3301a.ntf", 1024, 1024),
        ("mosaic_cog1_l8_rgb16.tif", 779, 790),
        ("sicd_50x50.nitf", 50, 50),
        ("solaris_wv_pan16.tif", 900, 900),
        ("wpafb_20091021_r3.ntf", 3328, 2304),
    ],
)
def test_every_tile_of_a_real_image_is_inferred(
    tmp_path: Path, name: str, width: int, height: int
) -> None:
    done = swath(
        "run", DATA / name, "--model", "centerpoint", "--tile-size", 512, "--overlap", 128,
        "--out", tmp_path, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcome = last_object(done)
    across, down = (max(1, ceil((extent - 128) / 384)) for extent in (width, height))
    assert sum(outcome["tiles"].values()) == across * down
    assert outcome["tiles"]["inferred"] == outcome["features"] > 0
    georeferenced = name not in {
        "056_512x512_s_8_4_ms_jp2.ntf",
        "2_planes.tiff",
        "boats.jpg",
        "i_3301a.ntf",
    }
    ending = "geojson" if georeferenced else "pixels.geojson"
    collection = json.loads((tmp_path / f"{name}.{ending}").read_text())
    assert all(
        ("center_latitude" in f["properties"]) == georeferenced for f in collection["features"]
    )


@pytest.mark.skipif(not YOLOX.is_file(), reason="the real model is not on this machine")
def test_a_model_file_finds_both_aircraft(tmp_path: Path) -> None:
    shutil.copy(YOLOX, tmp_path / "yolox.onnx")
    (tmp_path / "words.json").write_text(json.dumps(yolox_nano()))
    done = swath(
        "run", DATA / "2_planes.tiff", "--type", "ONNX", "--model", tmp_path / "yolox.onnx",
        "--parameter", f"description={tmp_path / 'words.json'}",
        "--tile-size", 416, "--overlap", 128, "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    collection = json.loads((tmp_path / "out" / "2_planes.tiff.pixels.geojson").read_text())
    found = [f["properties"]["featureClasses"][0]["iri"] for f in collection["features"]]
    assert found.count("airplane") >= 2


@pytest.mark.skipif(not DATA.is_dir(), reason="the real images are not on this machine")
@pytest.mark.parametrize("name", ["OSBS_029.xml", "README.md"])
def test_a_file_that_is_not_an_image_is_refused(tmp_path: Path, name: str) -> None:
    done = swath(
        "run", DATA / name, "--model", "centerpoint", "--out", tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert "is not an image that Swath reads" in done.stderr


def test_a_run_on_a_prefect_server_prints_its_address_and_leaves_its_logs_there(
    scene: Path, tmp_path: Path, prefect_api: str
) -> None:
    done = swath(
        "run", scene, "--model", "failure", "--tile-size", 256, "--overlap", 64,
        "--out", tmp_path / "out", "--json", PREFECT_API_URL=prefect_api, SWATH_TILE_ATTEMPTS="1",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert last_object(done)["status"] == "PARTIAL"
    assert f"On the Prefect server {prefect_api} (PREFECT_API_URL)" in done.stderr
    ui_url = re.escape(prefect_api.removesuffix("/api"))
    found = re.search(f"Follow it at {ui_url}/runs/flow-run/([0-9a-f-]{{36}})", done.stderr)
    assert found, done.stderr
    assert "Beginning" not in done.stderr
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(UUID(found[1]))
        assert run.state is not None
        assert run.state.is_final()
        logged = {log.message for log in client.read_logs(logs_of(run.id))}
    assert any(message.startswith("Beginning flow run") for message in logged)


def logs_of(run_id: UUID) -> LogFilter:
    return LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]))


def test_a_prefect_server_that_does_not_answer_is_named_with_the_remedy(
    scene: Path, tmp_path: Path
) -> None:
    nobody = "http://127.0.0.1:9/api"
    words = ["run", scene, "--model", "centerpoint", "--out", tmp_path / "out"]
    done = swath(*words, PREFECT_API_URL=nobody)
    assert done.returncode == 1
    assert f"The Prefect server {nobody}, named by PREFECT_API_URL, does not answer" in done.stderr
    assert "--no-prefect" in done.stderr
    assert swath(*words, "--no-prefect", PREFECT_API_URL=nobody).returncode == 0


class WithPassword(BaseHTTPRequestHandler):
    """A Prefect server to a client without its password."""

    def do_GET(self) -> None:
        self.answer(200 if self.path.endswith("/health") else 401)

    def do_POST(self) -> None:
        self.answer(401)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


def test_a_prefect_server_with_a_password_asks_for_it(scene: Path, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), WithPassword) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        done = swath(
            "run", scene, "--model", "centerpoint", "--out", tmp_path / "out",
            PREFECT_API_URL=f"http://127.0.0.1:{server.server_port}/api",
        )  # fmt: skip
        server.shutdown()
    assert done.returncode == 1
    assert "refused a call with status 401: set PREFECT_API_AUTH_STRING" in done.stderr
    assert "stopped answering" not in done.stderr


def test_prefect_has_to_name_a_server(scene: Path, tmp_path: Path) -> None:
    done = swath(
        "run", scene, "--model", "centerpoint", "--out", tmp_path / "out", "--prefect",
        PREFECT_PROFILES_PATH=str(tmp_path / "none.toml"),
    )  # fmt: skip
    assert done.returncode == 1
    assert "set PREFECT_API_URL" in done.stderr
    assert "`swath up`" in done.stderr


@pytest.mark.parametrize("server", [True, False])
def test_a_secret_block_needs_prefect(
    scene: Path, tmp_path: Path, prefect_api: str, server: bool
) -> None:
    block = "{{ prefect.blocks.secret.nobody-made-it.value }}"
    done = swath(
        "run", scene, "--model", "http://127.0.0.1:9/ships", "--parameter",
        f"Authorization={block}", "--out", tmp_path / "out",
        PREFECT_API_URL=prefect_api if server else "",
    )  # fmt: skip
    assert done.returncode == 1
    reason = "there is no Secret block 'nobody-made-it'" if server else "`swath run --prefect`"
    assert reason in done.stderr


def test_the_results_are_the_same_bytes_with_and_without_prefect(
    allowed: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = paint(allowed / "scene.tif")
    asked = request(scene, allowed / "out")  # the same for both, as files hold its digest
    end: State[Any] = image(asked, region_size=300, return_state=True)
    assert end.is_completed()
    (allowed / "out").rename(allowed / "flows")
    manifest = "scene.tif.swath.json"  # which names its publication
    files = sorted({path.name for path in (allowed / "flows").iterdir()} - {manifest})
    assert len(files) == 3
    (feature, *_) = json.loads((allowed / "flows" / files[1]).read_text())["features"]
    when = datetime.fromisoformat(feature["properties"]["inferenceMetadata"]["inferenceDT"])

    class AtThatTime(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]  # noqa: ARG003
            return when

    monkeypatch.setattr("tasks.job.image.datetime", AtThatTime)  # the time is published
    run_image(asked, asked.image_urls[0], roots=[allowed])
    for name in files:
        assert (allowed / "out" / name).read_bytes() == (allowed / "flows" / name).read_bytes()


def test_the_schema_is_printed() -> None:
    schema = json.loads(swath("schema").stdout)
    assert {"jobId", "imageUrls", "imageProcessor"} <= set(schema["properties"])


@pytest.mark.parametrize("command", ["schema", "run"])
def test_a_reader_of_the_output_that_has_ended_causes_no_traceback(
    scene: Path, tmp_path: Path, command: str
) -> None:
    options = [str(scene), "--model", "bright-targets", "--out", str(tmp_path / "out"), "--json"]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as output:
        done = subprocess.run(
            [SWATH, command, *(options if command == "run" else [])],
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 1
    assert "Error" not in done.stderr
    assert command == "schema" or "SUCCESS" in done.stderr


def test_an_invalid_request_is_not_sent(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"jobId": "x"}')
    done = swath("submit", bad, SWATH_QUEUE_URL="http://127.0.0.1:9/queue")
    assert done.returncode == 1
    assert "imageUrls" in done.stderr


def test_nothing_is_sent_if_its_outcome_could_not_be_known(tmp_path: Path) -> None:
    wait = ("submit", tmp_path / "request.json", "--wait")
    queue, home = "http://127.0.0.1:9/queue", str(tmp_path)
    done = swath(*wait, PREFECT_API_URL="", SWATH_QUEUE_URL=queue, PREFECT_HOME=home)
    assert done.returncode == 1
    assert "--wait: the outcome is read from Prefect, and no server is named" in done.stderr
    api = "http://127.0.0.1:9/api"
    done = swath(*wait, PREFECT_API_URL=api, SWATH_QUEUE_URL=queue, PREFECT_HOME=home)
    assert done.returncode == 1
    assert "http://127.0.0.1:9/api, named by PREFECT_API_URL, does not answer" in done.stderr
    assert "Nothing was sent" in done.stderr


def test_a_request_may_come_from_standard_input() -> None:
    done = subprocess.run(
        [SWATH, "submit", "-"],
        input='{"jobId": "x"}',
        env=os.environ | {"SWATH_QUEUE_URL": "http://127.0.0.1:9/queue"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 1
    assert "imageUrls" in done.stderr


def test_help_describes_every_command() -> None:
    text = swath("--help").stdout
    assert all(command in text for command in ("demo", "run", "schema", "submit", "up"))


def test_a_path_may_have_dots_and_a_link_keeps_its_name(scene: Path, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "link.tif").symlink_to(scene.name)
    done = swath(
        "run", "../link.tif", "--model", "bright-targets", "--out", "../out", "--json",
        cwd=tmp_path / "below",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    published = last_object(done)["outputs"].values()
    assert str(tmp_path / "out" / "link.tif.geojson") in published
