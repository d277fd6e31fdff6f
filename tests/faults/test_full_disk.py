"""Publications to a full disk: what fits is whole, and the rest is named with the remedy."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.publications import STEM, assert_whole, output_to, publishing


@pytest.fixture
def small_disk(tmp_path: Path) -> Callable[[str], list[str]]:
    """The start of a command that is run with `small`, a folder on a disk of 200 kB."""
    disk = tmp_path / "small"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=200k none {disk}"

    def before(afterwards: str) -> list[str]:
        return [
            "unshare",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            f'{mount} && "$@"; {afterwards}',
            "-",
        ]

    tried = subprocess.run([*before("true"), "true"], capture_output=True, check=False)
    if tried.stderr:
        pytest.skip("this machine allows no mount namespace")
    return before


def test_a_full_disk_leaves_no_half_files_and_the_manifest_tells(
    tmp_path: Path, small_disk: Callable[[str], list[str]]
) -> None:
    disk = tmp_path / "small"
    shown = f"ls -A {disk}; cat {disk}/{STEM}.swath.json"
    only = {"formats": ["geojson"]}
    with publishing(output_to(str(disk)) | only, 3000, before=small_disk(shown)) as process:
        told, _ = process.communicate(timeout=120)
    error, *names, text = told.split("\n", 2)
    assert "PublishError: outputs[0]: Cannot write" in error
    assert "No space left on device. Check the path, its permissions and the free space." in error
    assert "Nothing is published" in error
    assert names == [f"{STEM}.swath.json"]
    assert json.loads(text)["state"] == "publishing"


@pytest.mark.parametrize("temporary", [False, True], ids=["of the output", "of temporary files"])
def test_what_fits_on_a_full_disk_is_whole(
    tmp_path: Path, small_disk: Callable[[str], list[str]], *, temporary: bool
) -> None:
    """The GeoJSON of 3,000 features is larger than the disk."""
    disk = tmp_path / "small"
    out, shown = (tmp_path / "out", "true") if temporary else (disk, f"cat {disk}/*.swath.json")
    environment = {"TMPDIR": str(disk)} if temporary else {}
    with publishing(output_to(str(out)), 3000, before=small_disk(shown), **environment) as process:
        told, _ = process.communicate(timeout=120)
    uris, rest = json.JSONDecoder().raw_decode(told)
    assert uris.keys() == {"parquet", "coverage"}
    manifest = assert_whole(str(out)) if temporary else json.loads(told[rest:])
    assert [file["kind"] for file in manifest["files"]] == [*uris]
    assert manifest["state"] == "complete"
    assert "No space left on device" in manifest["failed"]["geojson"]


def test_no_room_for_temporary_files_is_said_with_the_remedy(
    tmp_path: Path, small_disk: Callable[[str], list[str]]
) -> None:
    disk, out = tmp_path / "small", tmp_path / "out"
    only, shown = {"formats": ["geojson"]}, small_disk(f"ls -A {disk}")
    with publishing(output_to(str(out)) | only, 3000, before=shown, TMPDIR=str(disk)) as process:
        told, _ = process.communicate(timeout=120)
    assert told.startswith(f"PublishError: outputs[0]: Cannot write {disk}/")
    assert "or point TMPDIR at a larger disk" in told
    assert told.endswith("Nothing is published.\n")
    assert [path.name for path in out.iterdir()] == [f"{STEM}.swath.json"]
