"""`swath view` of a prefix in S3: the page that was published there, or one of the other files."""

from __future__ import annotations

import io
from pathlib import Path
from uuid import uuid4

import pytest
from rich.console import Console

from deployments.view import result_page
from tasks.aws.clients import client
from tasks.publish import publish
from tasks.request import S3Output
from tasks.request.outputs import FeatureFormat
from tasks.storage import objects
from tests.result_pages import detections, results


@pytest.mark.parametrize("kind", [FeatureFormat.HTML, FeatureFormat.PARQUET])
def test_the_results_under_a_prefix_are_seen(aws: str, tmp_path: Path, kind: FeatureFormat) -> None:
    bucket = f"results-{uuid4().hex[:8]}"
    client("s3").create_bucket(Bucket=bucket)
    output = S3Output(type="S3", bucket=bucket, prefix="june", formats=(kind,))
    uris = publish([output], results(tmp_path, detections(20)), "scene.tif").uris
    sink = io.StringIO()
    page = result_page(f"s3://{bucket}/june/", Console(file=sink, width=400))
    assert (page.name, page.file) == ("scene.tif.html", None)
    assert b'"features":20' in page.body
    assert ("names no page" in sink.getvalue()) == (kind is FeatureFormat.PARQUET)
    if kind is FeatureFormat.HTML:
        assert page.body == objects.get(uris["html"])
