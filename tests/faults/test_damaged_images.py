"""Opening and reading a damaged file gives pixels or an error, never a crash."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy
from rasterio.transform import Affine

PROJECT = Path(__file__).parents[2]
MEMORY = (
    4 << 30
)  # bytes of address space, of which the libraries and threads of a process take 2 GiB
OUTCOMES = {"refused", "TilePixels", "UnreadTile", "AbsentTile"}
SEED, COUNT = 1, 100

FORMATS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "GTiff": [
        ("GTiff", {"compress": codec, "tiled": True, "blockxsize": 32, "blockysize": 32})
        for codec in ("NONE", "LZW", "DEFLATE", "ZSTD", "PACKBITS", "JPEG", "LERC", "WEBP", "LZMA")
    ]
    + [("GTiff", {"interleave": "band", "compress": "LZW"}), ("COG", {"blocksize": 128})],
    "NITF": [("NITF", {"ICORDS": "N"}), ("NITF", {"IC": "C3"}), ("NITF", {"IC": "C8"})],
    "JP2OpenJPEG": [("JP2OpenJPEG", {})],
    "JPEG": [("JPEG", {}), ("JPEG", {"PROGRESSIVE": "YES"})],
    "PNG": [("PNG", {})],
    "HFA": [("HFA", {}), ("HFA", {"COMPRESSED": "YES"})],
}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Small files of each format, as GDAL writes them."""
    folder = tmp_path_factory.mktemp("samples")
    source = folder / "source.tif"
    shape = {"width": 90, "height": 70, "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32618", "transform": Affine(1, 0, 5e5, 0, -1, 4e6)}
    with rasterio.open(source, "w", driver="GTiff", **shape, **place) as dataset:
        dataset.write(np.random.default_rng(0).integers(0, 99, (3, 70, 90), np.uint8))
    files: dict[str, list[Path]] = {}
    for name, writers in FORMATS.items():
        for number, (driver, options) in enumerate(writers):
            file = (
                folder / f"{number}.{name}.jp2"
            )  # only the JPEG 2000 driver requires an extension
            copy(source, file, driver=driver, **options)
            files.setdefault(name, []).append(file)
    return files


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_damaged_file_never_ends_the_process(
    samples: dict[str, list[Path]], tmp_path: Path, name: str
) -> None:
    command = [sys.executable, "-m", "tests.faults.open_damaged", str(tmp_path), str(SEED)]
    ended = subprocess.run(
        [*command, str(COUNT), *map(str, samples[name])],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    assert {kind for outcome in found for kind in outcome.split("+")} <= OUTCOMES
    assert sum(found.values()) == COUNT
    assert found["refused"] > COUNT / 10
    assert found["TilePixels"] > 0
