"""docs/architecture.md names every package of tasks, and only files and functions that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PATHS = sorted(set(re.findall(r"`((?:flows|tasks|deployments)/[\w/.]*)`", PAGE)))


@pytest.mark.parametrize("path", PATHS)
def test_a_path_on_the_page_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_page_names_every_package() -> None:
    packages = {f"tasks/{path.parent.name}/" for path in ROOT.glob("tasks/*/__init__.py")}
    assert packages <= set(re.findall(r"\| `(tasks/\w+/)` \|", PAGE))


@pytest.mark.parametrize("name", re.findall(r"`(\w+)` of `(tasks/[\w/]+(?:\.py)?)`", PAGE))
def test_a_function_on_the_page_is_in_the_module_that_it_names(name: tuple[str, str]) -> None:
    function, path = name
    where = ROOT / path
    source = where if where.is_file() else where / "__init__.py"
    assert re.search(rf"\b{function}\b", source.read_text())
