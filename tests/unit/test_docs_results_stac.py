"""docs/results.md: what it says of STAC Items is so, and its code walks a catalog."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tasks.publish import publish
from tasks.publish.stac_catalog import write_catalog
from tasks.request import FileOutput
from tests.pages import blocks, read, rows
from tests.publications import results

SECTION = read("results").partition("\n## STAC\n")[2].partition("\n## ")[0]


def publish_items(folder: Path) -> None:
    output = FileOutput(type="File", path=str(folder), formats=["parquet", "stac"])
    publish([output], results(3), "x.tif", [folder])


def test_every_member_that_is_listed_is_in_an_item(tmp_path: Path) -> None:
    publish_items(tmp_path)
    item = json.loads((tmp_path / "x.tif.stac.json").read_text())
    of_a_request = {"mlm:name", "swath:model", "swath:usage", "swath:cost"}  # these are of none
    first = " ".join(cells[0] for cells in rows(SECTION, "member"))
    named = set(re.findall(r"`([\w:]+)`", first))
    assert named - of_a_request <= {*item, *item["properties"]}


def test_the_code_reads_the_items_of_a_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_items(tmp_path / "results")
    write_catalog(str(tmp_path / "results"))
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(SECTION, "python")
    found: dict[str, object] = {}
    exec(code, found)
    assert capsys.readouterr().out == "x.tif.job-1 SUCCESS 3\n"
    assert len(found["ships"]) == 3  # type: ignore[arg-type]
