"""The memory that a process which works on images keeps beside what it uses."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.job_scene import paint

_WORK_AND_COUNT = """
import ctypes, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from tasks.job import work_image
from tests.job_scene import request

scene, out, counted = map(Path, sys.argv[1:])
work_image(request(scene, out), str(scene))
together = Barrier(16)

def allocate(_):
    together.wait()
    kept = [bytes(1000) for _ in range(1000)]
    together.wait()

with ThreadPoolExecutor(16) as threads:
    list(threads.map(allocate, range(16)))
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.fopen(bytes(counted), b"w"))
libc.malloc_info(0, stream)
libc.fclose(stream)
"""

_FREE_AND_COUNT = """
from pathlib import Path

from tasks.job.allocator import return_freed

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

blocks = [bytearray(100_000) for _ in range(2_000)]  # 200 MB
del blocks[1::2]
before = resident()
return_freed()
print(before - resident())
"""

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_info"), reason="the C library is not glibc"
)


@pytest.mark.parametrize(("setting", "expected"), [({}, 2), ({"MALLOC_ARENA_MAX": "5"}, 5)])
def test_threads_share_two_arenas_unless_the_environment_says_how_many(
    tmp_path: Path, setting: dict[str, str], expected: int
) -> None:
    scene = paint(tmp_path / "scene.tif")
    environment = {k: v for k, v in os.environ.items() if k != "MALLOC_ARENA_MAX"} | setting
    environment |= {"SWATH_WORK_URI": str(tmp_path / "work"), "SWATH_LOCAL_ROOTS": '["/"]'}
    counted = tmp_path / "arenas.xml"
    subprocess.run(
        [sys.executable, "-c", _WORK_AND_COUNT, scene, tmp_path / "out", counted],
        env=environment,
        check=True,
    )
    assert counted.read_text().count("<heap nr=") == expected


def test_memory_between_what_is_in_use_is_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FREE_AND_COUNT], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) > 80_000_000
