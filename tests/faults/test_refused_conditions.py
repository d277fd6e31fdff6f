"""A store that refuses every conditional write ends a publication with the reason, not never."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.aws.clients import client
from tasks.storage import objects
from tests.emulated_aws import emulated_aws
from tests.faulty_proxy import faulty_proxy, status
from tests.publications import STEM, output_to, publishing


@pytest.mark.parametrize("ending", ["geojson", "swath.json"])
def test_a_store_that_refuses_every_condition_ends_the_publication(
    tmp_path: Path, ending: str
) -> None:
    with emulated_aws(tmp_path) as url, faulty_proxy(url) as proxy:
        client("s3").create_bucket(Bucket="refused")
        with (
            proxy.failing(
                lambda call: call.method == "PUT" and call.path.endswith(ending),
                status(412, "PreconditionFailed"),
            ),
            publishing(output_to("s3://refused/x"), 3, AWS_ENDPOINT_URL=proxy.url) as process,
        ):
            told, _ = process.communicate(timeout=300)
        names = [*objects.list_names("s3://refused/x")]
        if ending == "geojson":  # a format fails alone
            told = str(json.loads(objects.get(f"s3://refused/x/{STEM}.swath.json"))["failed"])
            assert f"{STEM}.parquet" in names
        assert f"Cannot change s3://refused/x/{STEM}.{ending}: the store says each time" in told
        assert f"{STEM}.geojson" not in names
