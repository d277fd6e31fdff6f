"""The commands of docs/results.md for the page give a page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tasks.publish import publish
from tasks.request import FileOutput
from tasks.request.outputs import FeatureFormat
from tests.pages import read
from tests.result_pages import detections, results


def test_the_command_writes_a_page(tmp_path: Path) -> None:
    section = read("results").partition("## The page")[2].partition("\n## ")[0]
    (line,) = [each for each in section.splitlines() if "--out" in each and "swath view" in each]
    words = line.partition("#")[0].split()
    output = FileOutput(
        type="File", path=str(tmp_path / "results"), formats=(FeatureFormat.PARQUET,)
    )
    publish([output], results(tmp_path, detections(3)), "scene.tif", [tmp_path])
    done = subprocess.run(
        [sys.executable, "-m", "deployments.cli", *words[1:]],
        cwd=tmp_path, env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"features":3' in (tmp_path / "scene.html").read_text()


def test_the_digests_of_the_manifest_are_those_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = read("results").partition("\n## The manifest")[2]
    program = section.partition("```python\n")[2].partition("```")[0]
    output = FileOutput(type="File", path=str(tmp_path), formats=(FeatureFormat.HTML,))
    publish([output], results(tmp_path, detections(3)), "scene.tif", [tmp_path])
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(program, names)
    assert len(names["manifest"]["files"]) == 2  # type: ignore[index]
    (tmp_path / "scene.tif.html").write_text("changed")
    with pytest.raises(AssertionError):
        exec(program, names)
