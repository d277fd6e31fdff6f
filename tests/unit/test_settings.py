"""Settings are read from the environment, and stand in the documentation."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

import pytest
from pydantic import ValidationError

from deployments.settings_problem import settings_problem
from tasks.settings import Settings, settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SWATH_")]:
        monkeypatch.delenv(name)


def test_by_default_everything_runs_on_this_machine() -> None:
    found = Settings()
    assert found.queue_url is None
    assert found.status_topic_arn is None
    assert found.local_roots == []
    assert found.region_deployment is None
    assert found.dem_uri is None
    assert Path(found.work_uri).is_absolute()
    assert (found.sensors_per_queue, found.region_attempts, found.tile_attempts) == (1, 3, 4)


def test_each_setting_is_read_from_the_variable_of_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {
        "queue_url": "http://127.0.0.1/q",
        "urgent_queue_url": "http://127.0.0.1/urgent",
        "status_topic_arn": "arn:aws:sns:us-east-1:1:t",
        "local_roots": ["/data", "/more data"],
        "dem_uri": "s3://dem/world.vrt",
        "work_uri": "s3://work/here",
        "keep_by_job": False,
        "storage_patience": 2.0,
        "foreign_results": "replace",
        "keep_after_success": 12.0,
        "keep_answers": 30.0,
        "keep_runs": 7,
        "image_deployment": "image/image-ecs",
        "region_deployment": "region/region-ecs",
        "onnx_region_deployment": "region/region-ecs-gpu",
        "sensors_per_queue": 2,
        "look_ahead": 50,
        "owner_quotas": {"maritime": {"images": 4, "regions": 20, "calls": 32}},
        "region_size": 8192,
        "region_seconds": 120.0,
        "region_workers": 20,
        "read_patience": 30.0,
        "prices": {
            "call": 0.0,
            "instance_hour": 0.0,
            "instances": 1,
            "currency": "EUR",
            "vcpu_hour": 0.04,
            "gb_read": 0.0,
            "gb_stored": 0.02,
            "models": {"ships": {"call": 0.001, "instance_hour": 1.5, "instances": 2}},
        },
        "max_tiles": 1000,
        "image_attempts": 2,
        "region_attempts": 5,
        "region_timeout": 1.5,
        "start_timeout": 2.0,
        "batch_size": 3,
        "endpoint_concurrency": 9,
        "instance_concurrency": 2,
        "endpoint_timeout": 0.5,
        "async_timeout": 2.5,
        "async_uri": "s3://work/async",
        "endpoint_patience": 1.5,
        "tile_attempts": 1,
        "endpoint_hosts": ["models.example:8080", "*.example.org"],
        "endpoint_roles": ["arn:aws:iam::123456789012:role/Invoke"],
        "metrics_emf": True,
        "metrics_folder": "/var/metrics",
        "metrics_port": 9464,
        "log_format": "json",
        "ecs_cluster": "arn:aws:ecs:us-east-1:1:cluster/swath",
        "ecs_family": "prod",
        "ecs_subnets": ["subnet-1", "subnet-2"],
        "ecs_security_groups": ["sg-1"],
        "ecs_public_ip": True,
        "ecs_gpu_instances": 4,
        "kubernetes_image": "registry.example.org/swath:1",
        "kubernetes_namespace": "imagery",
        "kubernetes_gpu_image": "registry.example.org/swath:1-gpu",
        "kubernetes_gpus": 2,
    }
    assert set(given) == set(Settings.model_fields)
    for name, value in given.items():
        text = json.dumps(value) if isinstance(value, list | dict) else str(value)
        monkeypatch.setenv(f"SWATH_{name.upper()}", text)
    assert Settings().model_dump(mode="json") == given


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", "0"),
        ("region_size", "-1"),
        ("tile_attempts", "many"),
        ("endpoint_timeout", "0"),
        ("region_attempts", "1.5"),
        ("dem_uri", ""),
    ],
)
def test_an_invalid_value_is_refused_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"SWATH_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name) as refused:
        Settings()
    assert refused.value.errors()[0]["input"] == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "{a}",
            r" is '\{a\}', no JSON .*; give a JSON object with an object for each owner, such as",
        ),
        (
            "[4]",
            r" is \[4\], no JSON object; give a JSON object with an object for each owner, such",
        ),
        ('{"a": 4}', ": the jobs of owner 'a' have 4; give a JSON object with an object for each"),
        (
            '{"a": {"places": 4}}',
            ": the jobs of owner 'a' have an unknown quota 'places'; give images, regions or calls",
        ),
        (
            '{"a": {"calls": 0}}',
            ": 'calls' of the jobs of owner 'a' is 0; give a whole number from 1, or leave it out",
        ),
        (
            '{"*": {"images": true}}',
            r": 'images' of the owners that are not named, '\*', is True; give a whole number from",
        ),
        (
            '{"": {"regions": "2"}}',
            ": 'regions' of the jobs without an owner, '', is '2'; give a whole number from 1",
        ),
    ],
)
def test_quotas_that_cannot_be_are_refused_with_setting_owner_value_and_remedy(
    monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    monkeypatch.setenv("SWATH_OWNER_QUOTAS", text)
    with pytest.raises(ValidationError, match=f"SWATH_OWNER_QUOTAS{problem}"):
        Settings()


@pytest.mark.parametrize(
    ("variable", "text", "problem"),
    [
        ("PRICES", '{"instances": 2}', ".instances: 2 of them cost nothing without instanceHour; "),
        ("PRICES", '{"models": {"a": {"instances": 2}}}', ".models.a.instances: 2 of them cost "),
        ("PRICES", '{"currency": "US D"}', ".currency: 'US D' has a space; give a name without "),
        ("PRICES", '{"call": NaN}', ".call: nan is not a finite number; give one"),
        (
            "LOCAL_ROOTS",
            "/data",
            ": '/data' is not JSON (Expecting value: line 1 ",
        ),
        ("LOCAL_ROOTS", "[5]", "[0]: 5 is not a path; give a string in quotes"),
    ],
)
def test_a_wrong_setting_is_told_in_words_with_value_and_remedy(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, problem: str
) -> None:
    monkeypatch.setenv(f"SWATH_{variable}", text)
    with pytest.raises(ValueError) as refused:
        Settings()
    told = settings_problem(refused.value)
    assert told.startswith(f"SWATH_{variable}{problem}")
    assert "; give " in told


def test_an_owner_that_is_not_named_has_the_quota_of_all_others() -> None:
    found = Settings(owner_quotas={"a": {"calls": 1, "regions": 3}, "*": {"images": 2}})
    assert [found.quota(owner).images for owner in ("a", "b", "")] == [None, 2, 2]
    assert [found.quota(owner).calls for owner in ("a", "b", "")] == [1, None, None]
    assert [found.quota(owner).regions for owner in ("a", "b", "")] == [3, None, None]


def test_settings_are_read_once_and_do_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    settings.cache_clear()
    first = settings()
    monkeypatch.setenv("SWATH_BATCH_SIZE", "99")
    assert settings() is first
    with pytest.raises(ValidationError, match="frozen"):
        first.batch_size = 99  # type: ignore[misc]
    settings.cache_clear()
    assert settings().batch_size == 99
    settings.cache_clear()


def test_the_documentation_lists_every_setting_with_its_default_and_description() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        default = "–" if field.default is None else field.default
        if name == "work_uri":  # depends on the machine
            default = "a temporary folder"
        assert f"| `SWATH_{name.upper()}` | {default} | {field.description} |" in page


def test_a_job_has_settings_of_its_own_in_its_thread_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SWATH_BATCH_SIZE", "99")
    settings.cache_clear()
    before = settings()
    with (
        settings.override(local_roots=[Path("/data")], work_uri="/work"),
        ThreadPoolExecutor(1) as thread,
    ):
        assert (settings().local_roots, settings().work_uri) == ([Path("/data")], "/work")
        assert settings().batch_size == 99
        assert thread.submit(settings).result() is before
        assert thread.submit(copy_context().run, settings).result() is settings()
    assert settings() is before
    settings.cache_clear()
