"""Secrets that a message names: in which words, where, and that no text is taken for one amiss."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import RequestError
from tasks.inference.secrets import reveal
from tasks.request import Request
from tasks.request.secret_references import (
    ManagedSecret,
    SecretBlock,
    find_references,
    replace_references,
)

ARN = "arn:aws:secretsmanager:us-west-2:123456789012:secret:models/ships-AbCdEf"
BLOCK = "{{ prefect.blocks.secret.ships-token.value }}"


def parse(value: object, type: str = "HTTP_ENDPOINT", name: str = "https://models.example/") -> Any:  # noqa: A002 - its name there
    message = {
        "jobId": "job-1",
        "imageUrls": ["s3://images/harbour.tif"],
        "outputs": [{"type": "S3", "bucket": "results"}],
        "imageProcessor": {"name": name, "type": type},
        "imageProcessorParameters": {"Authorization": value},
    }
    return Request.parse(json.dumps(message))


def refusal(*args: str) -> str:
    with pytest.raises(RequestError) as refused:
        parse(*args)
    return str(refused.value)


@pytest.mark.parametrize(
    ("inner", "secret", "key"),
    [
        ("prefect.blocks.secret.ships", SecretBlock("ships"), "value"),
        ("prefect.blocks.secret.ships-2.token", SecretBlock("ships-2"), "token"),
        (ARN, ManagedSecret(ARN, "us-west-2"), "value"),
        (f"{ARN}:token", ManagedSecret(ARN, "us-west-2"), "token"),
        (f"{ARN}:token::", ManagedSecret(ARN, "us-west-2"), "token"),
        (f"{ARN}:token:AWSPREVIOUS:", ManagedSecret(ARN, "us-west-2", "AWSPREVIOUS"), "token"),
        (f"{ARN}:::ab-12", ManagedSecret(ARN, "us-west-2", "", "ab-12"), "value"),
        (ARN.replace("aws", "aws-us-gov", 1), None, "value"),
    ],
)
@pytest.mark.parametrize("form", ["{{ %s }}", "{{%s}}", "Bearer {{ %s }}", "a {{%s}}{{ b }}"])
def test_a_reference_is_written_as_in_prefect_or_ecs(
    inner: str, secret: object, key: str, form: str
) -> None:
    (reference,) = find_references(form % inner)
    assert (reference.text, reference.key) == (inner, key)
    assert secret is None or reference.secret == secret
    assert parse(form % inner).image_processor_parameters == {"Authorization": form % inner}


def test_references_are_replaced_by_the_values_of_secrets() -> None:
    text = f"a {BLOCK}, b {{{{ {ARN}:k }}}}, c {{{{ d }}}}"
    assert (
        replace_references(text, lambda secret: f"<{secret.key}>") == "a <value>, b <k>, c {{ d }}"
    )


@given(st.text(st.sampled_from("{} prefect.blocks.secret.arn:aws")))
def test_a_text_without_references_stays_as_it_is(text: str) -> None:
    try:
        found = list(find_references(text))
    except ValueError:
        assert "{{" in text
        return
    if not found:
        assert reveal({"X": text}, "https://models.example/").parameters == {"X": text}


def test_parameters_without_secrets_are_sent_as_they_are() -> None:
    given_ = {"Authorization": "Bearer abc", "X": 0.4, "Y": "{{ user }}", "Z": "arn:aws:s3:::b"}
    revealed = reveal(given_, "https://models.example/")
    assert revealed.parameters == given_
    assert revealed.secrets == frozenset()


@pytest.mark.parametrize(
    "inner",
    [
        "prefect.blocks.secret",
        "prefect.blocks.secret.Ships_Token.value",
        "prefect.blocks.secrets.ships",
        "prefect.variables.ships",
        "prefect.blocks.secret.ships.a.b",
        "arn:aws:ssm:us-west-2:123456789012:parameter/ships",
        "arn:aws:secretsmanager:us-west-2:123:secret:ships",
        f"{ARN}:a:b:c:d",
    ],
)
def test_a_malformed_reference_is_refused_with_the_valid_forms(inner: str) -> None:
    told = refusal(f"Bearer {{{{ {inner} }}}}")
    assert told.startswith("imageProcessorParameters.Authorization: 'Bearer {{ ")
    assert "is not a reference to a secret; give {{ prefect.blocks.secret.NAME.KEY }}" in told


@pytest.mark.parametrize(
    ("type", "name"),
    [("SM_ENDPOINT", "ships"), ("BUILTIN", "centerpoint"), ("ONNX", "s3://models/a.onnx")],
)
def test_only_a_header_may_refer_to_a_secret(type: str, name: str) -> None:  # noqa: A002
    told = refusal(BLOCK, type, name)
    assert told.startswith("imageProcessorParameters: refers to a secret in Authorization, but")
    assert f"but only HTTP headers may, and {type} has none" in told
    assert "ships-token" not in told


def test_headers_of_http_and_of_the_open_inference_protocol_may_refer_to_secrets() -> None:
    for kind in ("HTTP_ENDPOINT", "OIP_ENDPOINT"):
        asked = parse(BLOCK, kind, "https://models.example/v2/models/a")
        assert asked.image_processor_parameters["Authorization"] == BLOCK


NO_PREFECT = f"""
import sys
from tasks.errors import RequestError
from tasks.inference.secrets import reveal
try:
    reveal({{"Authorization": "{BLOCK}"}}, "https://models.example/")
except RequestError as error:
    print(error)
assert "prefect" not in sys.modules
"""


def test_a_process_without_prefect_refuses_secret_blocks() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_PREFECT], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"imageProcessorParameters.Authorization: {BLOCK}: ")
    assert "'ships-token' is kept by Prefect" in done.stdout
    assert "name a secret of AWS Secrets Manager" in done.stdout
