"""The notebook of the documentation runs from a clone, and gives the outputs that stand in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

from tests.job_scene import paint

PAGE = Path(__file__).parents[2] / "docs" / "first-steps.ipynb"


def load() -> nbformat.NotebookNode:
    notebook: nbformat.NotebookNode = nbformat.read(PAGE, as_version=4)  # type: ignore[no-untyped-call]
    return notebook


def outputs(notebook: nbformat.NotebookNode) -> list[list[tuple[str, Any]]]:
    """The outputs of each cell: texts as they are, of pictures and HTML the types."""
    return [
        [
            (each.output_type, each.get("text") or content(each.get("data", {})))
            for each in cell.get("outputs", [])
        ]
        for cell in notebook.cells
    ]


def content(data: dict[str, str]) -> list[str]:
    return [f"{kind} {data[kind]}" if kind == "text/plain" else kind for kind in sorted(data)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_it_gives_the_outputs_that_stand_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    committed = load()
    executed = load()
    NotebookClient(executed, timeout=600, resources={"metadata": {"path": tmp_path}}).execute()
    assert outputs(executed) == outputs(committed)
    assert not list((tmp_path / "temporary").glob("swath*"))


def test_it_has_pictures_and_is_small() -> None:
    notebook = load()
    pictures = [
        each
        for cell in notebook.cells
        for each in cell.get("outputs", [])
        if "image/jpeg" in each.get("data", {})
    ]
    assert len(pictures) == 3
    assert PAGE.stat().st_size < 500_000


SLOW = """
import time
import swath

def slow(tiles):
    print("called", flush=True)
    time.sleep(0.2)
    return [[] for _ in tiles]

swath.run({scene!r}, model=slow, tile_size=16, overlap=0, batch_size=1)
"""
PASSED_OVER = {"status", "execute_input", "display_data", "update_display_data", "stream"}
AGAIN = """
import os, tempfile
found = swath.run({scene!r}, model="bright-targets", tile_size=256, progress=False).summary.features
found, [name for name in os.listdir(tempfile.gettempdir()) if name.startswith("swath")]
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_an_interrupted_cell_ends_and_the_kernel_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    scene = str(paint(tmp_path / "scene.tif"))
    manager, client = start_new_kernel()
    try:
        client.execute(SLOW.format(scene=scene))
        assert message(client, "stream")["text"].startswith("called")
        manager.interrupt_kernel()
        assert message(client, "error")["ename"] == "KeyboardInterrupt"
        # before that, the kernel refuses further cells
        assert message(client, "status")["execution_state"] == "idle"
        client.execute(AGAIN.format(scene=scene))
        assert message(client, "execute_result")["data"]["text/plain"] == "(24, [])"
    finally:
        client.stop_channels()
        manager.shutdown_kernel()


def message(client: Any, kind: str) -> dict[str, Any]:
    """The content of the next message of a kind from a kernel."""
    while True:
        found = client.get_iopub_msg(timeout=120)
        assert found["msg_type"] in {kind, *PASSED_OVER}, found["content"]
        if found["msg_type"] == kind:
            content: dict[str, Any] = found["content"]
            return content
