"""docs/accounts.md: policies of other accounts allow what the template's roles are allowed."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.pages import ROOT, blocks, read
from tests.stacks import TEMPLATE

PAGE = read("accounts")
TEXT = TEMPLATE.read_text()


def actions(sid: str) -> set[str]:
    """The actions of a statement of the template."""
    found = re.search(rf"Sid: {sid}\b.*?Action: (.*?)\n", TEXT, re.DOTALL)
    assert found is not None
    return set(found[1].strip("[]").split(", "))


def of_page(title: str) -> list[set[str]]:
    """The actions of each statement below a heading."""
    (policy,) = blocks(PAGE.split(f"\n## {title}\n")[1].partition("\n## ")[0], "json")
    document: dict[str, Any] = json.loads(policy)
    given = [each["Action"] for each in document.get("Statement", [document])]
    return [{each} if isinstance(each, str) else set(each) for each in given]


def test_bucket_policies_allow_what_the_roles_do() -> None:
    assert of_page("Images by a bucket policy") == [actions("OtherImages"), actions("OtherFolders")]
    assert of_page("Results") == [actions("OtherResults"), actions("OtherBucketsExist")]
    assert of_page("Images by a role") == [actions("Roles")]


def test_the_policy_of_a_key_allows_what_the_roles_do() -> None:
    assert of_page("Keys") == [actions("Encrypted") | actions("EncryptedResults")]


def test_every_parameter_output_and_test_that_is_named_exists() -> None:
    for name in re.findall(r"`([A-Z][A-Za-z]+(?:Arns?|Hosts))\b", PAGE):
        assert re.search(rf"^  {name}:$", TEXT, re.MULTILINE), name
    for role in re.findall(r"`([A-Z][A-Za-z]+Role)`", PAGE):
        assert re.search(rf"^  {role}:", TEXT, re.MULTILINE), role
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", PAGE)
    assert len(named) == 5
    for path, test in named:
        assert f"def {test}(" in (ROOT / path).read_text()
