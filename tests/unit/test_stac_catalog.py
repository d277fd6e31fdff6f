"""The static STAC catalog of a folder: readers walk it, and it is the same each time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pystac
import pystac_client
import pytest

from deployments.catalog import catalog
from deployments.console import console
from tasks.errors import RequestError
from tasks.publish import publish
from tasks.publish.stac_catalog import write_catalog
from tasks.request import FileOutput
from tests.publications import published, results

FORMATS = ["parquet", "stac"]


def publish_to(folder: Path, *stems: str, job: str = "job-1") -> None:
    """Publish an image of each name in a folder, with STAC Items."""
    output = FileOutput(type="File", path=str(folder), formats=FORMATS)
    for stem in stems:
        publish([output], results(1, job, image=f"s3://images/{stem}"), stem, [folder])


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL of a folder on a web server."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def texts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("catalog*.json")}


def test_a_job_is_one_catalog_that_pystac_walks(tmp_path: Path) -> None:
    stems = [f"{number:03}.tif" for number in range(40)]
    publish_to(tmp_path / "june", *stems)
    done = write_catalog(str(tmp_path))
    assert (done.items, done.without) == (40, [])
    found = pystac.Catalog.from_file(done.uri)
    assert found.validate()
    items = list(found.get_items(recursive=True))
    assert [item.id for item in items] == [f"{stem}.job-1" for stem in stems]
    assert all(Path(item.assets["parquet"].get_absolute_href() or "").is_file() for item in items)
    assert found.get_item_links()[0].title == "000.tif: SUCCESS"
    assert set(texts(tmp_path)) == {"catalog.json"}


@pytest.mark.filterwarnings("ignore::pystac_client.warnings.PystacClientWarning")  # it is no API
def test_each_of_several_jobs_has_a_catalog_and_names_are_escaped(tmp_path: Path) -> None:
    publish_to(tmp_path / "a b", "x y#1.tif", "ü?%20.tif", job="job-1")
    publish_to(tmp_path / "two", "x.tif", job="job-2")
    write_catalog(str(tmp_path))
    before = texts(tmp_path)
    assert set(before) == {"catalog.json", "catalog.job-1.json", "catalog.job-2.json"}
    with served(tmp_path) as url:
        client = pystac_client.Client.open(f"{url}/catalog.json")
        assert [child.id for child in client.get_children()] == ["job-1", "job-2"]
        items = list(client.get_items(recursive=True))
    assert sorted(item.id for item in items) == [
        "x y#1.tif.job-1",
        "x.tif.job-2",
        "ü?%20.tif.job-1",
    ]
    write_catalog(str(tmp_path))
    assert texts(tmp_path) == before


def test_results_without_an_item_are_told_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published({"type": "File", "path": str(tmp_path)}, 1, job="job-7")
    with pytest.raises(RequestError, match=r"1 results \(such as job job-7\).*--formats"):
        write_catalog(str(tmp_path))
    publish_to(tmp_path / "b", "x.tif")
    catalog(str(tmp_path), console)
    told = capsys.readouterr().err
    assert told.startswith(f"{tmp_path}/catalog.json: 1 item\n")
    assert "1 result has no STAC Item (such as job job-7): `swath publish" in told
    assert "or repeat the `swath run` with these --formats" in told


def test_a_catalog_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    publish_to(tmp_path, "x.tif")
    (tmp_path / "catalog.json").write_text(json.dumps({"type": "Catalog"}))
    with pytest.raises(RequestError, match=r"catalog\.json is there, and not by `swath catalog`"):
        write_catalog(str(tmp_path))
    assert json.loads((tmp_path / "catalog.json").read_text()) == {"type": "Catalog"}


def test_results_that_are_not_complete_are_not_in_the_catalog(tmp_path: Path) -> None:
    publish_to(tmp_path, "x.tif", "y.tif")
    manifest = tmp_path / "y.tif.swath.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"state": "publishing"}))
    assert write_catalog(str(tmp_path)).items == 1
    links = json.loads((tmp_path / "catalog.json").read_text())["links"]
    assert [link["href"] for link in links] == ["./catalog.json", "./x.tif.stac.json"]
