"""docs/guarantees.md names, for each line, tests that exist."""

from __future__ import annotations

import re

import pytest

from tests.pages import ROOT, read

PAGE = read("guarantees")
LINES = [
    [cell.strip() for cell in re.split(r" \|", line.strip("| "))]
    for table in re.findall(r"^\| what happens \|.*?(?=\n\n)", PAGE, re.MULTILINE | re.DOTALL)
    for line in table.splitlines()[2:]
]
TESTS = {
    name
    for path in ROOT.glob("tests/**/test_*.py")
    for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE)
}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
def test_a_line_names_tests_that_exist(line: list[str]) -> None:
    named = re.findall(r"`(test_\w+)`", line[-1])
    assert named
    assert set(named) <= TESTS


def test_every_fault_that_has_a_number_is_on_the_page() -> None:
    numbered = {name for name in TESTS if re.match(r"test_\d\d_", name)}
    assert numbered <= set(re.findall(r"`(test_\w+)`", PAGE))
