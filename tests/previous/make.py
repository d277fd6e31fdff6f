"""Makes a fixture of `test_upgrade.py`: what a previous version leaves behind after two jobs.

    git worktree add /tmp/previous COMMIT
    cd /tmp/previous
    PYTHONPATH=/tmp/previous python CLONE/tests/previous/make.py CLONE/tests/previous/COMMIT.tar.gz

Python is that of an environment with the packages of the previous version. Both files are of
Prefect 3.8.8, whose database a newer one migrates: `0.2.0` (commit efa9bd8), and `420b234`, which
keeps answers.
"""

from __future__ import annotations

import io
import json
import os
import sqlite3
import sys
import tarfile
import tempfile
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any

BUCKET = "previous"
WORK = "s3://previous/work"
MODEL = "http://ships.example/invocations"
"""Reached through a proxy, so that its name is the same wherever the fixture is used."""
BOX = {"imageBBox": [9, 9, 30, 30], "featureClasses": [{"iri": "ship", "score": 0.9}]}
FEATURE = {"type": "Feature", "geometry": None, "properties": BOX}


class Model(ThreadingHTTPServer):
    """A proxy that answers for the model: a box in each tile, or HTTP 400 for some calls.

    Attributes:
        failing: Numbers of the calls that fail.
        calls: Number of calls so far.
    """

    daemon_threads = True

    def __init__(self, failing: set[int] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.failing, self.calls = failing or set(), 0
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def variables(self) -> dict[str, str]:
        """What has a process call it."""
        proxy = f"http://127.0.0.1:{self.server_port}"
        return {"HTTP_PROXY": proxy, "http_proxy": proxy, "NO_PROXY": "127.0.0.1"}


class _Answer(BaseHTTPRequestHandler):
    server: Model

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls += 1
        body = json.dumps({"type": "FeatureCollection", "features": [FEATURE]}).encode()
        self.send_response(400 if self.server.calls in self.server.failing else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def message(job: str) -> dict[str, Any]:
    """The request of a job on the image of the fixture."""
    return {
        "jobId": job,
        "imageUrls": [f"s3://{BUCKET}/scene.tif"],
        "outputs": [{"type": "S3", "bucket": BUCKET, "prefix": f"results/{job}"}],
        "imageProcessor": {"name": MODEL, "type": "HTTP_ENDPOINT"},
        "imageProcessorTileSize": 128,
        "imageProcessorTileOverlap": 32,
    }


def _make(to: Path, folder: Path) -> None:
    from deployments.local.aws import start_aws, wait_for_aws
    from deployments.local.prefect_server import start_server
    from deployments.local.processes import Processes

    with Processes() as processes:
        cloud = start_aws(processes, folder)
        server = start_server(processes, folder)
        wait_for_aws(cloud)
        server.wait()
        os.environ.update(cloud.environment | server.environment)
        os.environ["SWATH_WORK_URI"] = WORK
        objects = _run_jobs(folder)
    database = folder / "prefect" / "prefect.db"
    with closing(sqlite3.connect(database)) as dumped, tarfile.open(to, "w:gz") as tar:
        dumped.execute("DELETE FROM events")
        dumped.execute("DELETE FROM event_resources")
        dumped.commit()
        _add(tar, "prefect.sql", "\n".join(dumped.iterdump()).encode())
        _add(tar, "versions.json", json.dumps({"prefect": version("prefect")}).encode())
        for key, body in objects.items():
            _add(tar, f"bucket/{key}", body)


def _run_jobs(folder: Path) -> dict[str, bytes]:
    """Run both jobs; what is in the bucket then."""
    from flows.image import image
    from tasks.aws.clients import client
    from tasks.request import Request

    s3 = client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.upload_file(str(_paint(folder / "scene.tif")), BUCKET, "scene.tif")
    for job, failing in (("whole", set()), ("part", {1, 2})):
        os.environ.update(Model(failing).variables)
        request = Request.parse(json.dumps(message(job)))
        print(image(request, request.image_urls[0], return_state=True))
    listed = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    keys = [each["Key"] for page in listed for each in page["Contents"]]
    return {key: s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in sorted(keys)}


def _paint(path: Path) -> Path:
    """A flat scene of six tiles, which is small as a file."""
    import numpy as np
    import rasterio
    from rasterio.transform import from_origin

    pixels = np.full((3, 200, 300), 30, np.uint8)
    profile = {"width": 300, "height": 200, "count": 3, "dtype": "uint8"}
    ground = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_400_000, 0.5, 0.5)}
    with rasterio.open(path, "w", driver="GTiff", compress="deflate", **ground, **profile) as sink:
        sink.write(pixels)
    return path


def _add(tar: tarfile.TarFile, name: str, body: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(body)
    tar.addfile(entry, io.BytesIO(body))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        _make(Path(sys.argv[1]), Path(temporary))
