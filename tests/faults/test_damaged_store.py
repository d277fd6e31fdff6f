"""What is damaged in the store of answers is made anew; no answer that is kept is asked again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.job import work_image
from tasks.request import Request
from tasks.results.answer_parts import decode
from tasks.settings import settings
from tests.counting_model import CountingModel, CountingModels
from tests.job_scene import features, paint, request

ROWS = 300  # pixels of a region, of which the scene has several


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with settings.override(local_roots=[tmp_path], work_uri=str(tmp_path / "work")):
        paint(tmp_path / "scene.tif")
        yield tmp_path


@pytest.fixture
def model(models: CountingModels) -> CountingModel:
    return models.model()


@pytest.fixture
def given(folder: Path, model: CountingModel) -> Request:
    named = {"name": model.url, "type": "HTTP_ENDPOINT"}
    return request(folder / "scene.tif", folder / "out", imageProcessor=named)


@pytest.fixture
def whole(folder: Path, given: Request) -> list[dict[str, Any]]:
    """What is published before anything is damaged."""
    return run(folder, given)


def run(folder: Path, given: Request) -> list[dict[str, Any]]:
    assert work_image(given, given.image_urls[0], region_rows=ROWS).status == "SUCCESS"
    return features(folder / "out", "scene.tif")


def kept(folder: Path, pattern: str) -> Path:
    """A file that is kept of the question."""
    (question,) = folder.glob("work/jobs/*/*/*/question.json")
    return min(question.parent.glob(pattern))


def outcome(folder: Path) -> Path:
    return kept(folder, "*/*-*x*-*.json")


def emptied(folder: Path) -> None:
    outcome(folder).write_bytes(b"")


def cut(folder: Path) -> None:
    text = outcome(folder).read_bytes()
    outcome(folder).write_bytes(text[: len(text) // 2])


def removed(folder: Path) -> None:
    outcome(folder).unlink()


def without_its_files(folder: Path) -> None:
    kept(folder, f"*/{json.loads(outcome(folder).read_text())['parts']}.decided.parquet").unlink()


@pytest.mark.parametrize("damage", [emptied, cut, removed, without_its_files])
def test_a_region_whose_outcome_is_damaged_is_made_of_the_kept_answers(
    folder: Path,
    given: Request,
    model: CountingModel,
    whole: list[dict[str, Any]],
    damage: Callable[[Path], None],
) -> None:
    damage(folder)

    assert run(folder, given) == whole
    assert model.figures().extra == 0


@pytest.mark.parametrize("part", ["decided", "deferred", "ledger"])
def test_a_damaged_file_of_a_region_is_made_anew_of_the_kept_answers(
    folder: Path, given: Request, model: CountingModel, whole: list[dict[str, Any]], part: str
) -> None:
    kept(folder, f"*/*.{part}.parquet").write_bytes(b"")

    assert run(folder, given) == whole
    assert model.figures().extra == 0


def test_the_tiles_of_a_part_that_is_cut_between_two_batches_are_asked_again(
    folder: Path, given: Request, model: CountingModel, whole: list[dict[str, Any]]
) -> None:
    part = kept(folder, "answers/*.arrow")
    body = part.read_bytes()
    answered = decode(body).ledger["state"].to_pylist().count("inferred")
    source = pa.BufferReader(body)
    pa.ipc.open_stream(source).read_all()
    pa.ipc.open_stream(source)  # the schema of the detections, without any
    part.write_bytes(body[: source.tell()])
    outcome(folder).unlink()

    assert run(folder, given) == whole
    assert model.figures().extra == answered
