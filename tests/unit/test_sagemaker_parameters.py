"""A request's parameters as SageMaker's runtime takes them."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.session import get_session
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import RequestError
from tasks.inference.sagemaker.parameters import (
    ASYNCHRONOUS,
    REAL_TIME,
    arguments,
    parameters_of,
)

OPERATIONS = [REAL_TIME, ASYNCHRONOUS]
SERVICE = get_session().get_service_model("sagemaker-runtime")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_all_parameters_of_an_operation_are_taken_except_those_that_swath_sets(
    operation: str,
) -> None:
    shape = SERVICE.operation_model(operation).input_shape
    assert shape is not None
    own = {"EndpointName", "Body", "InputLocation", "Filename"}
    assert parameters_of(operation) == set(shape.members) - own
    given = {
        name: 60 if shape.members[name].type_name == "integer" else "x"
        for name in parameters_of(operation)
    }
    assert arguments(operation, given) == given


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (REAL_TIME, "EndpointName"),
        (REAL_TIME, "Body"),
        (ASYNCHRONOUS, "InputLocation"),
        (ASYNCHRONOUS, "Filename"),
        (ASYNCHRONOUS, "Body"),
    ],
)
def test_a_parameter_that_swath_sets_is_refused(operation: str, name: str) -> None:
    with pytest.raises(RequestError, match=f"imageProcessorParameters.{name}: is set by Swath"):
        arguments(operation, {name: "x"})


@given(st.text("ABCabc", min_size=1, max_size=9), st.sampled_from(OPERATIONS))
def test_an_unknown_parameter_is_refused_with_the_known_ones(name: str, operation: str) -> None:
    with pytest.raises(RequestError) as refusal:
        arguments(operation, {name: "x"})
    refused = f"imageProcessorParameters.{name}: is not a parameter of {operation}; give"
    assert str(refusal.value).startswith(refused)
    assert all(known in str(refusal.value) for known in parameters_of(operation))


def test_a_parameter_of_the_other_kind_of_call_is_refused() -> None:
    with pytest.raises(
        RequestError, match="TargetVariant: is not a parameter of InvokeEndpointAsync"
    ):
        arguments(ASYNCHRONOUS, {"TargetVariant": "a"})
    with pytest.raises(
        RequestError, match="RequestTTLSeconds: is not a parameter of InvokeEndpoint;"
    ):
        arguments(REAL_TIME, {"RequestTTLSeconds": 60})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("CustomAttributes", "x" * 1025, "has 1025 characters; SageMaker takes 0 to 1024"),
        ("CustomAttributes", "été", "is not ASCII"),
        ("RequestTTLSeconds", 59, "'59' is not a whole number from 60 to 21600"),
        ("RequestTTLSeconds", "soon", "'soon' is not a whole number"),
        ("InvocationTimeoutSeconds", 3601, "from 1 to 3600"),
        ("InvocationTimeoutSeconds", 1.5, "'1.5' is not a whole number"),
    ],
)
def test_a_value_that_sagemaker_would_refuse_is_refused_before_any_tile(
    name: str, value: Any, told: str
) -> None:
    with pytest.raises(RequestError) as refusal:
        arguments(ASYNCHRONOUS, {name: value})
    assert str(refusal.value).startswith(f"imageProcessorParameters.{name}: ")
    assert told in str(refusal.value)


def test_values_get_the_type_of_the_parameter_and_empty_ones_are_left_out() -> None:
    given = {"RequestTTLSeconds": "600", "CustomAttributes": 7, "InferenceId": " "}
    taken = {"RequestTTLSeconds": 600, "CustomAttributes": "7"}
    assert arguments(ASYNCHRONOUS, given) == taken
