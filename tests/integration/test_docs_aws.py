"""The pages on AWS, operating and OSML match the template and the code."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import shapely
import yaml
from cfnlint.decode import decode

from deployments.aws.pool import WORK_POOL
from flows import image_runs, sensor
from flows.alive import SILENCE
from tasks.queue.sqs import VISIBILITY
from tasks.reporting.status import JobStatus
from tasks.request import Request
from tasks.settings import Settings
from tests.pages import PAGES, ROOT, commands, json_objects, read, rows
from tests.stacks import TEMPLATE

AWS, OPERATE, OSML = read("aws"), read("operate"), read("from-osml")
MAX_TEMPLATE_BODY = 51_200  # bytes; larger templates must be in S3
WITHOUT_ENDPOINT = {  # services in policies that no task calls over an interface endpoint
    "elasticfilesystem": "mounted in the VPC",
    "iam": "only passed",
    "kms": "called by S3 and Secrets Manager",
}
ENDPOINTS = {"kinesis": "kinesis-streams", "sagemaker": "sagemaker.runtime", "ecr": "ecr.api"}


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    decoded, problems = decode(str(TEMPLATE))
    assert not problems
    return dict(decoded)


def of_type(template: dict[str, Any], *types: str) -> dict[str, dict[str, Any]]:
    """Properties by logical name."""
    found = template["Resources"].items()
    return {name: each.get("Properties", {}) for name, each in found if each["Type"] in types}


def names(cell: str) -> list[str]:
    """The code spans in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def deploys() -> list[dict[str, str]]:
    """The parameters that each `deploy` of the pages overrides."""
    found = []
    for words in [*commands(AWS), *commands(OPERATE)]:
        if words[:3] == ["aws", "cloudformation", "deploy"]:
            given = words[words.index("--parameter-overrides") + 1 :]
            found.append(dict(pair.split("=", 1) for pair in given))
    return found


def test_the_table_of_parameters_matches_the_template(template: dict[str, Any]) -> None:
    table = {names(cells[0])[0]: cells[1].strip("`") for cells in rows(AWS, "parameter")}
    assert list(table) == list(template["Parameters"])
    for name, parameter in template["Parameters"].items():
        default = parameter.get("Default", "required")
        assert table[name] == ("–" if default == "" else str(default)), name


def test_deploy_commands_give_the_required_parameters(template: dict[str, Any]) -> None:
    first, *others = deploys()
    parameters = template["Parameters"]
    assert {name for name, each in parameters.items() if "Default" not in each} <= first.keys()
    assert len(others) > 1
    for given in (first, *others):
        assert given.keys() <= parameters.keys()


def test_deploy_commands_upload_the_template_to_a_bucket() -> None:
    assert TEMPLATE.stat().st_size > MAX_TEMPLATE_BODY, "leave --s3-bucket out of the pages"
    shown = [words for words in commands(AWS + OPERATE) if "deploy" in words[:3]]
    assert shown
    assert all("--s3-bucket" in words for words in shown)


def test_outputs_in_commands_exist_in_the_template(template: dict[str, Any]) -> None:
    asked = re.findall(r"\$\(output (\w+)\)", AWS + OPERATE)
    assert len(asked) > 6
    assert set(asked) <= template["Outputs"].keys()


def test_names_of_resources_exist_in_the_template(template: dict[str, Any]) -> None:
    known = {name for part in ("Parameters", "Outputs", "Resources") for name in template[part]}
    for page in (AWS, OPERATE):
        named = re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)(?:=\w+)?`", page)
        assert len(named) > 15
        assert set(named) - known == set()


def test_the_table_of_alarms_matches_the_template(template: dict[str, Any]) -> None:
    alarms = of_type(template, "AWS::CloudWatch::Alarm")
    table = {names(cells[0])[0]: cells[1] for cells in rows(OPERATE, "alarm")}
    assert table.keys() == alarms.keys()
    for name, alarm in alarms.items():
        minutes = alarm["Threshold"] / 60 if alarm["Threshold"] == 300 else 0
        if "Period" not in alarm:  # of an expression, over an hour
            assert "within an hour" in table[name], name
            continue
        minutes = minutes or alarm["Period"] / 60 * alarm["EvaluationPeriods"]
        assert minutes == 1 or f"for {minutes:.0f} minutes" in table[name], name


def test_the_table_of_roles_matches_the_template(template: dict[str, Any]) -> None:
    table = [name for cells in rows(AWS, "role") for name in names(cells[0])]
    assert sorted(table) == sorted(of_type(template, "AWS::IAM::Role"))


def test_every_service_that_a_role_may_call_has_a_vpc_endpoint(template: dict[str, Any]) -> None:
    text = json.dumps(of_type(template, "AWS::IAM::ManagedPolicy", "AWS::IAM::Role"))
    services = set(re.findall(r'"([a-z]+):[A-Z]\w+"', text)) - {"aws", *WITHOUT_ENDPOINT}
    listed = {name for cells in rows(AWS, "VPC endpoint") for name in names(cells[0])}
    assert {ENDPOINTS.get(service, service) for service in services} <= listed
    assert len(services) > 6


def test_the_table_of_deployments_matches_prefect_yaml() -> None:
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    table = {names(cells[0])[0]: cells[1:3] for cells in rows(AWS, "deployment")}
    assert table.pop("region/region-ecs-gpu") == ["4 vCPU, 12 GiB, a GPU", "`GpuMaxInstances`"]
    for each in declared:
        if each["name"].endswith("-ecs"):
            given = each["work_pool"]["job_variables"]
            size = f"{given['cpu'] / 1024:g} vCPU, {given['memory'] / 1024:g} GiB"
            limit = each.get("concurrency_limit", 1)
            assert table.pop(f"{given['task']}/{each['name']}") == [size, str(limit)]
    assert not table
    assert f"work pool `{WORK_POOL}`" in AWS


def test_times_match_the_code_and_the_template(template: dict[str, Any]) -> None:
    prose = " ".join(OPERATE.split())
    expires = {
        rule["Prefix"]: rule["ExpirationInDays"]
        for bucket in of_type(template, "AWS::S3::Bucket").values()
        for rule in bucket["LifecycleConfiguration"]["Rules"]
        if "ExpirationInDays" in rule
    }
    parameters = {name: each.get("Default") for name, each in template["Parameters"].items()}
    queues = of_type(template, "AWS::SQS::Queue")
    kept = timedelta(seconds=queues["RequestQueue"]["MessageRetentionPeriod"]).days
    waits = timedelta(seconds=queues["ObserverQueue"]["MessageRetentionPeriod"]).days
    database = of_type(template, "AWS::RDS::DBInstance")["Database"]
    receives = queues["RequestQueue"]["RedrivePolicy"]["maxReceiveCount"]
    for told in (
        f"under `work/async/`, are removed after {expires['work/async/']} days",
        f"`WorkExpirationDays` ({parameters[expires['work/']['Ref']]})",
        f"`KeepAnswersDays` ({parameters['KeepAnswersDays']})",
        f"refused ones, for {kept} days",
        f"state changes of tasks are kept for up to {waits} days",
        f"RDS keeps {database['BackupRetentionPeriod']} days",
        f"`it was tried {receives} times: …`",
        f"its slot is free after {sensor.LEASE:.0f} s",
        f"its message is delivered again after {VISIBILITY} s",
        f"[shows no life](how-it-works.md#runs-whose-process-dies) for {SILENCE:.0f} s",
        "if no sensor runs for a day",
    ):
        assert told in prose, told
    assert image_runs.FIRST_CHECK.days == 1
    assert queues["DeadLetterQueue"]["MessageRetentionPeriod"] == kept * 86400


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_on_a_page_exist_and_have_the_given_values(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    fields = {name.upper(): field for name, field in Settings.model_fields.items()}
    known = fields.keys() | {""}  # `SWATH_…`
    assert set(re.findall(r"\bSWATH_(\w*)", text)) <= known
    for name, value in re.findall(r"`SWATH_(\w+)` \(([\d.,]+)(?: s)?\)", text):
        assert float(value.replace(",", "")) == fields[name].default, name


def test_the_page_gives_values_of_settings() -> None:
    assert len(re.findall(r"`SWATH_\w+` \([\d.,]+(?: s)?\)", OPERATE)) > 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_requests_of_a_page_are_valid(page: Path) -> None:
    given = {"jobId": "page", "imageUrls": ["s3://images/scene.tif"]}
    for fields in json_objects(page.read_text(encoding="utf-8")):
        if "outputs" in fields:
            Request.parse(json.dumps(given | fields))


def test_every_field_of_a_request_is_compared_with_osml() -> None:
    table = [name for cells in rows(OSML, "field") for name in names(cells[0])]
    assert sorted(table) == sorted(str(each.alias) for each in Request.model_fields.values())


def test_every_status_and_attribute_is_compared_with_osml() -> None:
    statuses = {cells[0] for cells in rows(OSML, "status |")}
    assert {str(status) for status in JobStatus} <= statuses
    attributes = [name for cells in rows(OSML, "attribute") for name in names(cells[0])]
    assert sorted(attributes) == [
        "failed_tiles",
        "image_id",
        "image_status",
        "job_id",
        "processing_duration",
        "region_id",
        "status",
    ]


def test_the_comparison_script_finds_features_of_one_result_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", OSML, re.MULTILINE | re.DOTALL)
    both, moved, piece = [10, 10, 50, 20], [11, 10, 51, 20], [200, 0, 230, 8]
    for name, boxes in (("osml", [both, piece]), ("swath", [moved])):
        features = [{"properties": {"imageBBox": box}} for box in boxes]
        (tmp_path / f"{name}.geojson").write_text(json.dumps({"features": features}))
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert capsys.readouterr().out.splitlines() == [
        "2 in OSML, 1 in Swath",
        f"in OSML alone: [{shapely.box(*piece).bounds}]",
        "in Swath alone: []",
    ]
