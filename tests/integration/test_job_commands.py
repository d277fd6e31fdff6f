"""The commands for jobs on the whole chain, as somebody at a desk gives them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import rasterio

from deployments.local.resources import RESULT_BUCKET, WORK_BUCKET
from flows.startup import TITLES
from tasks.aws.clients import client
from tasks.records.folders import image_folder
from tasks.records.record import NAME, read_records
from tasks.records.retention import sweep
from tasks.storage import objects
from tests.chain import Chain, running_chain
from tests.counting_model import CountingModel
from tests.forked_commands import forked_commands
from tests.job_scene import paint
from tests.polling import until

IMAGE = "scene.tif"
URL = f"s3://swath-images/{IMAGE}"
CLASSES = [{"value": 1, "name": "dark"}, {"value": 2, "name": "bright"}]
RASTER = {"values": "probabilities", "classes": CLASSES, "polygons": {"minimumArea": 4}}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("jobs")
    with running_chain(folder) as chain, chain.adopted(), chain.sensor():
        chain.upload(paint(folder / IMAGE), IMAGE)
        with forked_commands(present(chain.environment(proxied=False))) as chain.commands:
            yield chain


@pytest.fixture
def job() -> str:
    return f"job-{uuid4().hex[:8]}"


@pytest.fixture
def model(chain: Chain) -> Iterator[CountingModel]:
    model = chain.models.model()
    yield model
    model.answer_all()


def swath(chain: Chain, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a command of `swath` on this machine comes to, with the chain's server and store."""
    if not variables:
        assert chain.commands is not None
        return chain.commands.run(*words)
    return subprocess.run(
        [Path(sys.executable).with_name("swath"), *words],
        env=present(chain.environment(proxied=False) | variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def present(variables: dict[str, str]) -> dict[str, str]:
    """The variables that are not empty."""
    return {name: value for name, value in variables.items() if value}


def status(chain: Chain, job: str) -> dict[str, Any]:
    """What `swath status --json` says."""
    done = swath(chain, "status", job, "--json")
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return found


def test_a_job_is_followed_from_its_first_tiles_to_its_results(
    chain: Chain, job: str, model: CountingModel
) -> None:
    # all but 4 of 64 calls: of the five batches in two regions, one at least is answered whole
    model.answer_only(60)
    chain.send(job, model, IMAGE)
    until(lambda: status(chain, job).get("images", [{}])[0].get("done"), interval=1.0)
    (image,) = status(chain, job)["images"]
    assert (image["image"], image["status"], image["attempts"]) == (URL, "RUNNING", 1)
    assert 0 < image["done"] < image["tiles"]
    before = ["queued", "provisioned", "python"]
    until(lambda: [*status(chain, job)["images"][0]["startup"]] == before, interval=1.0)
    listed = swath(chain, "jobs", "--status", "RUNNING").stdout.splitlines()
    (line,) = [line.split() for line in listed if line.startswith(job)]
    assert line[1:3] == ["1", "RUNNING"]
    refused = swath(chain, "redrive", job)
    assert refused.returncode == 1
    assert f"{URL} is RUNNING; wait until it has ended" in refused.stderr
    model.answer_all()
    watched = swath(chain, "status", job, "--watch")
    assert watched.returncode == 0
    assert f"{job}: SUCCESS; images: 1 SUCCESS" in watched.stdout
    assert f"    s3://swath-results/{job}/{IMAGE}.geojson" in watched.stdout.splitlines()
    (image,) = status(chain, job)["images"]
    assert image["features"] == len(chain.features(job, IMAGE)) > 0
    assert (image["failed"], image["covered"]) == (0, 1.0)
    assert [*image["startup"]] == [*before, "first_tile"]
    told = re.search(r"^    Start-up: (.*)$", swath(chain, "status", job).stdout, re.MULTILINE)
    assert told is not None
    stages = ", ".join(rf"{name} \d+\.\d\d s" for name in TITLES.values())
    assert re.fullmatch(stages, told[1])
    assert swath(chain, "redrive", job).stderr.startswith(f"{job}: ended with SUCCESS")


def test_the_reasons_of_failed_tiles_are_shown(
    chain: Chain, job: str, model: CountingModel
) -> None:
    model.fail(status=400, tiles=2)
    chain.send(job, model, IMAGE)
    assert chain.await_end(job) == "PARTIAL"
    until(lambda: status(chain, job)["status"] == "PARTIAL", interval=1.0)
    (image,) = status(chain, job)["images"]
    assert image["failed"] == 2
    assert sum(tiles for _, tiles in image["reasons"]) == 2
    assert "HTTP 400" in image["reasons"][0][0]
    assert swath(chain, "status", job, "--watch").returncode == 3
    told = swath(chain, "status", job, PREFECT_API_URL="")  # from the records alone
    assert told.returncode == 0
    assert told.stderr.startswith("No Prefect server is named")
    assert f"{job}: PARTIAL" in told.stdout
    assert "2 tiles failed: " in told.stdout
    one = swath(chain, "status", job, IMAGE)
    assert one.returncode == 0
    lines = [line for line in one.stdout.splitlines() if "Start-up: " not in line]
    assert lines == told.stdout.splitlines()  # only Prefect knows how the run started
    (found,) = [
        each for each in json.loads(swath(chain, "jobs", "--json").stdout) if each["job_id"] == job
    ]
    assert (found["status"], found["failed"], found["done"]) == ("PARTIAL", 2, 1.0)


def test_a_job_is_redriven_merged_and_published_again_without_needless_calls(
    chain: Chain, job: str, model: CountingModel
) -> None:
    model.fail(status=400, tiles=2)
    chain.send(job, model, IMAGE)
    assert chain.await_end(job) == "PARTIAL"
    model.work()
    calls = model.figures().total
    done = swath(chain, "redrive", job, "--wait")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"{URL}: a further run of {job} is created")
    assert model.figures().total == calls + 2
    assert status(chain, job)["images"][0]["attempts"] == 2
    whole = chain.features(job, IMAGE)

    none = swath(chain, "remerge", job, IMAGE, "--conf", "0.95", "--wait")
    assert none.returncode == 0, none.stderr
    assert chain.features(job, IMAGE) == []
    again = swath(chain, "remerge", job, "--conf", "0", "--iou", "0.2", "--merge", "NMM", "--wait")
    assert again.returncode == 0, again.stderr
    assert {str(each) for each in chain.features(job, IMAGE)} != set()

    for each in chain.published(job):
        client("s3").delete_object(Bucket=RESULT_BUCKET, Key=f"{job}/{each}")
    back = swath(chain, "remerge", job, "--iou", "0.75", "--merge", "NMS", "--wait")
    assert back.returncode == 0, back.stderr
    assert chain.features(job, IMAGE) == whole
    client("s3").delete_object(Bucket=RESULT_BUCKET, Key=f"{job}/{IMAGE}.geojson")
    published = swath(chain, "publish", job, "--wait")
    assert published.returncode == 0, published.stderr
    assert chain.features(job, IMAGE) == whole
    assert model.figures().total == calls + 2
    (last,) = read_records(job)
    assert last.request["postProcessing"] == [
        {"algorithm": {"algorithmType": "NMS", "iouThreshold": 0.75, "skipBoxThreshold": 0.0}}
    ]

    refused = swath(chain, "remerge", job, "--iou", "7")
    assert refused.returncode == 1
    assert "--iou" in refused.stderr
    assert sweep(datetime.now(UTC) + timedelta(hours=25), lambda record: record.job_id != job) == 1
    for command in ("remerge", "publish"):
        gone = swath(chain, command, job)
        assert gone.returncode == 1
        assert f"{job}: {URL}: its answers are no longer kept" in gone.stderr


def test_an_output_that_failed_is_published_to_by_the_command(
    chain: Chain, job: str, model: CountingModel
) -> None:
    s3, first = client("s3"), f"{job}/{IMAGE}.swath.json"
    s3.create_bucket(Bucket=job)
    outputs = [
        {"type": "S3", "bucket": RESULT_BUCKET, "prefix": job},
        {"type": "S3", "bucket": job, "prefix": "a"},
    ]
    model.answer_only(10)
    chain.send(job, model, IMAGE, outputs=outputs)
    until(lambda: model.figures().answered == 10)
    s3.delete_bucket(Bucket=job)
    model.answer_all()
    assert chain.await_end(job) == "PARTIAL"
    (line,) = [line for line in swath(chain, "status", job).stdout.splitlines() if URL in line]
    assert "outputs[1] is not published: Cannot read s3://" in line
    assert f"`swath publish {job}` publishes that alone" in line
    before = s3.head_object(Bucket=RESULT_BUCKET, Key=first)["LastModified"]
    calls = model.figures().total
    s3.create_bucket(Bucket=job)
    done = swath(chain, "publish", job, "--wait")
    assert done.returncode == 0, done.stderr
    assert model.figures().total == calls
    assert s3.head_object(Bucket=RESULT_BUCKET, Key=first)["LastModified"] == before
    bodies = [
        s3.get_object(Bucket=bucket, Key=f"{prefix}/{IMAGE}.parquet")["Body"].read()
        for bucket, prefix in ((RESULT_BUCKET, job), (job, "a"))
    ]
    assert all(bodies)


def test_a_raster_is_merged_published_and_redriven_without_needless_calls(
    chain: Chain, job: str, model: CountingModel
) -> None:
    name = chain.upload(paint(chain.folder / "high.tif", 300, 700, blank=False), "high.tif")
    model.answer_with_pixels()
    chain.send(job, model, name, rasterOutput=RASTER)
    assert chain.await_end(job) == "SUCCESS"
    whole, outlines, calls = raster(chain, job, name), chain.features(job, name), model.figures()
    assert outlines

    until(lambda: status(chain, job)["status"] == "SUCCESS", interval=1.0)
    refused = swath(chain, "remerge", job, "--conf", "0.5")
    assert refused.returncode == 1
    assert "--conf: is for features, and the model answers with pixels" in refused.stderr
    for each in chain.published(job):
        client("s3").delete_object(Bucket=RESULT_BUCKET, Key=f"{job}/{each}")
    back = swath(chain, "remerge", job, "--wait")
    assert back.returncode == 0, back.stderr
    assert (raster(chain, job, name), chain.features(job, name)) == (whole, outlines)

    damage_maps(job)
    partly = swath(chain, "publish", job, "--formats", "parquet", "--wait")
    assert partly.returncode == 3, partly.stderr
    assert f"{name}.geojson" not in chain.published(job)
    assert model.figures().total == calls.total
    (image,) = status(chain, job)["images"]
    ((reason, lost),) = image["reasons"]
    assert "`swath redrive` asks" in reason
    assert 0 < lost < image["tiles"]
    told = swath(chain, "status", job).stdout
    assert "raster of 300 × 700 pixels: dark" in told
    assert "without an answer" in told
    assert f"    s3://swath-results/{job}/{name}.tif" in told.splitlines()
    listed = swath(chain, "jobs", "--status", "PARTIAL").stdout.splitlines()
    assert [line.split()[1:3] for line in listed if line.startswith(job)] == [["1", "PARTIAL"]]

    mended = swath(chain, "redrive", job, "--wait")
    assert mended.returncode == 0, mended.stderr
    assert model.figures().total == calls.total + lost
    assert raster(chain, job, name) == whole


def test_whole_tiles_and_what_they_hold_are_shown_and_filtered_again_without_calls(
    chain: Chain, job: str, model: CountingModel
) -> None:
    model.fail("whole tile")
    prepared = {
        "imageBands": [3, "green", 1],
        "imageScaling": {"type": "percentile", "upper": 99.9},
        "imageResolution": 0.75,
        "imageFill": 7,
    }
    output = {"tileOutput": {"values": "probabilities"}}
    message = chain.send(job, model, IMAGE, **prepared, **output)
    assert chain.await_end(job) == "SUCCESS"
    whole, calls = chain.features(job, IMAGE), model.figures().total
    (image,) = status(chain, job)["images"]
    assert image["features"] == len(whole) == calls < image["tiles"]  # some are blank
    assert "sent: 0.75 m a pixel" in image["text"]
    assert "; bands 3 (blue), 2 (green), 1 (red); " in image["text"]
    refused = swath(chain, "remerge", job, "--tile-output", "logits")
    assert refused.returncode == 2
    assert "--tile-output" in refused.stdout + refused.stderr

    some = swath(chain, "remerge", job, "--conf", "0.501", "--wait")
    assert some.returncode == 0, some.stderr
    assert 0 < len(chain.features(job, IMAGE)) < len(whole)
    back = swath(chain, "remerge", job, "--conf", "0", "--merge", "NMM", "--iou", "0.1", "--wait")
    assert back.returncode == 0, back.stderr
    assert chain.features(job, IMAGE) == whole
    chain.resend(message)
    assert chain.await_end(job, times=4) == "SUCCESS"
    assert chain.features(job, IMAGE) == whole
    assert model.figures().total == calls


def raster(chain: Chain, job: str, image: str) -> list[Any]:
    """The pixels of the published raster of an image."""
    with rasterio.open(chain.download(job, f"{image}.tif")) as dataset:
        pixels: list[Any] = dataset.read().tolist()
    return pixels


def damage_maps(job: str) -> None:
    """Replace the maps of one part of what a model answered."""
    found = client("s3").list_objects_v2(Bucket=WORK_BUCKET, Prefix=f"jobs/{job}/")["Contents"]
    largest = max((each["Size"], each["Key"]) for each in found if each["Key"].endswith(".maps"))
    client("s3").put_object(Bucket=WORK_BUCKET, Key=largest[1], Body=b"damaged")


def test_an_image_without_a_record_is_redriven_while_its_answers_may_be_kept(
    chain: Chain, job: str, model: CountingModel
) -> None:
    """For example because its process died before it wrote one."""
    model.fail(status=400, tiles=2)
    chain.send(job, model, IMAGE)
    assert chain.await_end(job) == "PARTIAL"
    calls = model.figures().total
    model.work()
    folder, own = image_folder(job, URL), {"SWATH_WORK_URI": str(chain.folder / "another")}
    until(lambda: read_records(job)[0].ended)
    objects.remove_object(objects.join(folder, NAME))
    other = swath(chain, "remerge", job, **own)
    assert other.returncode == 1
    assert f"no record of it in {own['SWATH_WORK_URI']}: set SWATH_WORK_URI" in other.stderr
    late = swath(chain, "redrive", job, SWATH_KEEP_ANSWERS="0.00001")
    assert late.returncode == 1
    assert "its record and its answers are no longer kept: its run ended more than" in late.stderr
    done = swath(chain, "redrive", job, "--wait", **own)
    assert done.returncode == 0, done.stderr
    assert model.figures().total == calls + 2


def test_an_image_that_never_began_is_redriven(
    chain: Chain, job: str, model: CountingModel
) -> None:
    names = [chain.upload(chain.folder / IMAGE, f"{job}/{number}.tif") for number in range(3)]
    model.answer_only(0)
    chain.send(job, model, *names)
    until(lambda: model.figures().in_flight, interval=0.5)
    until(lambda: len(chain.image_runs(job)) == len(names), interval=0.5)
    assert swath(chain, "cancel", job).returncode == 0
    until(lambda: status(chain, job)["status"] == "CANCELLED", interval=1.0)
    model.answer_all()
    done = swath(chain, "redrive", job, "--wait")
    assert done.returncode == 0, done.stderr
    assert "left out" not in done.stderr
    assert swath(chain, "status", job).stdout.startswith(f"{job}: SUCCESS")
    assert [name for name in chain.published(job) if name.endswith(".geojson")] == [
        f"{number}.tif.geojson" for number in range(3)
    ]


def test_images_at_work_and_images_that_wait_are_cancelled(
    chain: Chain, job: str, model: CountingModel
) -> None:
    names = [chain.upload(chain.folder / IMAGE, f"{job}/{number}.tif") for number in range(4)]
    model.answer_only(0)
    chain.send(job, model, *names)
    until(lambda: model.figures().in_flight, interval=0.5)
    until(lambda: len(chain.image_runs(job)) == len(names), interval=0.5)
    first = chain.image_runs(job)[-1].parameters["image_url"]
    one = swath(chain, "cancel", job, first)
    assert one.returncode == 0, one.stderr
    assert len(one.stderr.splitlines()) == 1
    rest = swath(chain, "cancel", job)
    assert len(rest.stderr.splitlines()) == len(names) - 1
    watched = swath(chain, "status", job, "--watch")
    assert watched.returncode == 1
    assert f"{job}: CANCELLED; images: 4 CANCELLED" in watched.stdout
    assert "Flow run" not in watched.stdout  # words of Prefect
    again = swath(chain, "cancel", job)
    assert (again.returncode, again.stderr) == (
        0,
        f"{job}: nothing that was named waits or works.\n",
    )
    assert chain.published(job) == []


@pytest.mark.parametrize("command", ["status", "cancel", "redrive", "remerge", "publish"])
def test_a_job_that_is_not_known_is_refused(chain: Chain, command: str) -> None:
    done = swath(chain, command, "no-such-job")
    assert done.returncode == 1
    assert done.stderr.startswith("swath: no-such-job: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["cancel", "redrive", "remerge", "publish"])
def test_what_needs_a_server_is_refused_without_one(chain: Chain, command: str) -> None:
    done = swath(chain, command, "no-such-job", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 1
    assert "the Prefect server http://127.0.0.1:9/api, named by PREFECT_API_URL" in done.stderr
