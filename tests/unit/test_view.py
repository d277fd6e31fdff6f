"""`swath view`: which page it opens, and what it says where there is none."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from rich.console import Console

from deployments.view import result_page, serving, view
from tasks.errors import RequestError
from tasks.publish import publish
from tasks.request import FileOutput
from tasks.request.outputs import FeatureFormat
from tests.range_server import RangeServer
from tests.result_pages import detections, results

CONSOLE = Console(file=io.StringIO())


def published(folder: Path, *formats: FeatureFormat, stem: str = "scene.tif") -> Path:
    output = FileOutput(type="File", path=str(folder / "out"), formats=formats)
    publish([output], results(folder, detections(20)), stem, [folder])
    return folder / "out"


@pytest.mark.parametrize(
    "name", ["", "scene.tif.swath.json", "scene.tif.html", "scene.tif.parquet"]
)
def test_a_published_page_is_opened_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    out = published(tmp_path, FeatureFormat.HTML, FeatureFormat.PARQUET)
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert view(str(out / name), CONSOLE) == 0
    assert opened == [(out / "scene.tif.html").as_uri()]


def test_a_page_is_made_of_the_other_files(tmp_path: Path) -> None:
    out = published(tmp_path, FeatureFormat.PARQUET)
    assert view(str(out), CONSOLE, out=tmp_path / "page.html") == 0
    page = (tmp_path / "page.html").read_text()
    assert '"features":20' in page
    assert "data:image/jpeg" in page
    assert not list(out.glob("*.html"))


def test_a_page_that_is_gone_is_made_again(tmp_path: Path) -> None:
    out = published(tmp_path, FeatureFormat.HTML, FeatureFormat.PARQUET)
    before = (out / "scene.tif.html").read_bytes()
    (out / "scene.tif.html").unlink()
    console = Console(file=io.StringIO())
    assert len(result_page(str(out), console).body) == pytest.approx(len(before), rel=0.1)
    assert isinstance(console.file, io.StringIO)
    assert "scene.tif.html is gone: it is made of the other files" in console.file.getvalue()


def test_an_image_that_was_replaced_is_not_shown(tmp_path: Path) -> None:
    out = published(tmp_path, FeatureFormat.PARQUET)
    manifest = out / "scene.tif.swath.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"etag": "another"}))
    page = result_page(str(out), CONSOLE).body.decode()
    assert "has been replaced since the run" in page
    assert "data:image/jpeg" not in page


def test_results_in_s3_are_downloaded(tmp_path: Path, s3: RangeServer) -> None:
    for file in published(tmp_path, FeatureFormat.PARQUET).iterdir():
        s3.objects[f"/results/june/{file.name}"] = file.read_bytes()
    page = result_page("s3://results/june/scene.tif.swath.json", CONSOLE)
    assert (page.name, page.file) == ("scene.tif.html", None)
    assert b'"features":20' in page.body


def test_a_page_is_served_at_an_address_that_nobody_can_guess(tmp_path: Path) -> None:
    page = result_page(str(published(tmp_path, FeatureFormat.PARQUET)), CONSOLE)
    with serving(page) as (server, url):
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{22}/scene\.tif\.html", url)
            with urlopen(url) as answer:
                assert answer.read() == page.body
            with pytest.raises(HTTPError, match="404") as refused:
                urlopen(url.replace("scene", "other"))
            refused.value.close()
        finally:
            server.shutdown()
            thread.join()


def test_errors_name_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is no result: give the folder"):
        result_page(str(tmp_path), CONSOLE)
    out = published(tmp_path, FeatureFormat.GEOJSON)
    with pytest.raises(RequestError, match="publish the job again with the format parquet"):
        result_page(str(out), CONSOLE)
    published(tmp_path, FeatureFormat.GEOJSON, stem="other.tif")
    with pytest.raises(
        RequestError, match=r"there are 2 results.*: name one, such as .*other\.tif"
    ):
        result_page(str(out), CONSOLE)
    manifest = out / "scene.tif.swath.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"state": "publishing"}))
    with pytest.raises(RequestError, match="not the manifest of a complete result"):
        result_page(str(manifest), CONSOLE)
