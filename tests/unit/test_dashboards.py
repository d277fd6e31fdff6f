"""Dashboards, alarms and alerts use only metrics and dimensions that the code declares."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cfnlint.decode import decode

from tasks.reporting.status import JobStatus
from tasks.results.coverage import TileState
from tasks.telemetry.catalogue import METRICS, Kind, Metric, Namespace, Operation, snake_case
from tasks.telemetry.prometheus import name_of
from tests.stacks import TEMPLATE

GRAFANA = Path(__file__).parents[2] / "deployments" / "grafana"
BY_NAME = {(metric.namespace.value, metric.name): metric for metric in METRICS}
VALUES: dict[str, set[str]] = {  # of the dimensions that have a known set of values
    "Operation": {each.value for each in Operation},
    "Status": {JobStatus.SUCCESS.value, JobStatus.PARTIAL.value, JobStatus.FAILED.value},
    "State": {each.value for each in TileState},
    "Reason": {"throttled", "timeout", "unreachable", "refused", "error", "answer"},
}
SEARCH = re.compile(r"SEARCH\('\{([^}]+)\} ([^']+)', '(\w+)', (\d+)\)")
TERM = re.compile(r'(\w+)="([^"]+)"')


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return dict(decode(str(TEMPLATE))[0])


@pytest.fixture(scope="module")
def widgets(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The properties of each widget by its title."""
    body, variables = template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    for name in variables:
        body = body.replace(f"${{{name}}}", "")
    document = json.loads(re.sub(r"\$\{[^}]+\}", "X", body))
    return {each["properties"]["title"]: each["properties"] for each in document["widgets"]}


def dimensions_of(metric: Metric) -> list[set[str]]:
    """The sets of dimensions that a metric has in CloudWatch."""
    if metric.namespace is Namespace.SWATH:
        return [set(metric.dimensions)]
    model, image = {"Operation", "ModelName"}, {"Operation", "ModelName", "InputFormat"}
    return [{"Operation"}, {"Operation", "InputFormat"}, model, image]


def prometheus_names() -> dict[str, set[str]]:
    """The labels of each series by its name in Prometheus."""
    found: dict[str, set[str]] = {}
    for metric in METRICS:
        name = name_of(metric)
        labels = {snake_case(each) for each in metric.dimensions}
        if metric.kind is Kind.DURATION:
            found |= {f"{name}_{end}": labels | {"le"} for end in ("bucket", "count", "sum")}
        else:
            found[name + ("_total" if metric.kind is Kind.COUNTER else "")] = labels
    return found


def test_every_search_of_the_dashboard_finds_a_metric(widgets: dict[str, dict[str, Any]]) -> None:
    found = 0
    for title, widget in widgets.items():
        for [each, *_] in widget.get("metrics", []):
            expression = each["expression"] if isinstance(each, dict) else ""
            assert expression.count("SEARCH(") == len(SEARCH.findall(expression)), title
            for schema, terms, _, period in SEARCH.findall(expression):
                namespace, *dimensions = schema.split(",")
                given = dict(TERM.findall(terms))
                metric = BY_NAME[namespace, given.pop("MetricName")]
                assert set(dimensions) in dimensions_of(metric), title
                assert given.keys() <= set(dimensions), title
                for name, value in given.items():
                    assert value in VALUES[name], title
                assert int(period) == widget["period"], title
                found += 1
    assert found > 20


def test_every_other_metric_of_the_dashboard_exists(widgets: dict[str, dict[str, Any]]) -> None:
    for title, widget in widgets.items():
        before: list[str] = []
        for line in widget.get("metrics", []):
            words = [each for each in line if isinstance(each, str)]
            if words[:1] == ["..."]:
                words = [*before[: len(before) - len(words) + 1], *words[1:]]
            words = [before[n] if word == "." else word for n, word in enumerate(words)]
            before = words
            if words and words[0] in set(Namespace):
                assert dimensions_of(BY_NAME[words[0], words[1]]) == [set(words[2::2])], title
            else:
                assert words[:1] in ([], ["AWS/SQS"]), title


def test_the_dashboard_shows_every_alarm_and_metrics_for_every_question(
    template: dict[str, Any], widgets: dict[str, dict[str, Any]]
) -> None:
    resources = template["Resources"]
    alarms = {n for n, each in resources.items() if each["Type"] == "AWS::CloudWatch::Alarm"}
    body, variables = resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    shown = set(re.findall(r"\$\{(\w+)\.Arn\}", body + json.dumps(variables)))
    assert shown == alarms
    shown_metrics = {name for text in map(json.dumps, widgets.values()) for name in names_in(text)}
    ours = {metric.name for metric in METRICS if metric.namespace is Namespace.SWATH}
    assert ours - shown_metrics == {"RefusedMessages"}  # these are on the dead-letter queue


def names_in(text: str) -> set[str]:
    """The names of our metrics in a widget."""
    searched = re.findall(r'MetricName=\\*"(\w+)', text)
    return {*searched, *re.findall(r'"(?:Swath|\.)", "(\w+)"', text)}


def test_the_alarms_read_metrics_of_the_log_that_is_written(template: dict[str, Any]) -> None:
    resources = template["Resources"]
    made = {}
    for name, each in resources.items():
        if each["Type"] == "AWS::Logs::MetricFilter":
            pattern = each["Properties"]["FilterPattern"]
            (transformation,) = each["Properties"]["MetricTransformations"]
            value = transformation["MetricValue"].removeprefix("$.")
            metric = BY_NAME["Swath", value]
            assert f"$.{value} >" in pattern, name
            fields = set(re.findall(r"\$\.(\w+)", pattern)) - {value}
            assert fields <= set(metric.dimensions), name
            assert transformation["Unit"] == metric.unit, name
            made[transformation["MetricName"]] = transformation["MetricNamespace"]
    read = set(re.findall(r"'MetricName': '(\w+)'", str(alarms_of(resources)))) & made.keys()
    assert read == made.keys() == {"ImagesEnded", "ImagesIncomplete", "ModelsGivenUp", "OldestJob"}
    assert len({str(namespace) for namespace in made.values()}) == 1


def test_the_processes_write_metrics_to_the_log(template: dict[str, Any]) -> None:
    for process in ("Sensor", "Image", "Region", "RegionGpu"):
        (container,) = template["Resources"][f"{process}Task"]["Properties"]["ContainerDefinitions"]
        assert {"Name": "SWATH_METRICS_EMF", "Value": "true"} in container["Environment"]


def alarms_of(resources: dict[str, Any]) -> list[dict[str, Any]]:
    """The properties of all alarms, as plain dictionaries."""
    return [
        json.loads(json.dumps(each["Properties"]))
        for each in resources.values()
        if each["Type"] == "AWS::CloudWatch::Alarm"
    ]


def promql() -> dict[str, str]:
    """Every expression of Grafana's dashboard and of the alerts, by what it is for."""
    dashboard = json.loads((GRAFANA / "swath.json").read_text())
    rules = yaml.safe_load((GRAFANA / "alerts.yaml").read_text())["groups"][0]["rules"]
    shown = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }
    return shown | {rule["alert"]: rule["expr"] for rule in rules}


@pytest.mark.parametrize(("about", "expression"), promql().items())
def test_every_series_and_label_in_promql_exists(about: str, expression: str) -> None:
    known = prometheus_names()
    used = re.findall(r"\b((?:osml|swath)_\w+)(?:\{([^}]*)\})?", expression)
    assert used
    for name, selector in used:
        assert name in known, name
        for label, value in re.findall(r'(\w+)(?:=~|!=|=)"([^"]*)"', selector):
            assert label in known[name], (name, label)
            values = {snake_case(dimension): each for dimension, each in VALUES.items()}.get(label)
            assert values is None or value in values, (name, value)
    labels = {each for name, _ in used for each in known[name]}
    for group in re.findall(r"(?:by|on) \(([^)]*)\)", expression):
        assert set(re.findall(r"\w+", group)) <= labels, group


def test_no_series_of_our_own_is_missing_in_grafana() -> None:
    text = " ".join(promql().values())
    ours = {name_of(metric) for metric in METRICS if metric.namespace is Namespace.SWATH}
    assert {name for name in ours if not re.search(rf"\b{name}(_total|_bucket)?\b", text)} == set()
