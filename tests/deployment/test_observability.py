"""Prometheus' configuration, alerts and dashboard: every query can be read and asks for metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, Final

import promql_parser
import pytest
import yaml

from scraped import DOCKER, documented

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMTOOL: Final = shutil.which("promtool")
SUFFIXES: Final = ("_bucket", "_sum", "_count")
OWN_OF_PROMETHEUS: Final = {"up", "ALERTS"}
VARIABLES: Final = {"$__rate_interval": "1m", "$__range": "1h", "$instance": ".*"}  # what Grafana puts in

DASHBOARD: Final[dict[str, Any]] = json.loads((DOCKER / "grafana/dashboards/matfn.json").read_text())
RULES: Final[list[dict[str, Any]]] = [
    rule for group in yaml.safe_load((DOCKER / "prometheus/rules.yml").read_text())["groups"] for rule in group["rules"]
]
PANELS: Final[list[dict[str, Any]]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """The name and the text of every query."""
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            text = target["expr"]
            for variable, value in VARIABLES.items():
                text = text.replace(variable, value)
            yield f"{panel['title']} {target['refId']}", text


QUERIES: Final = dict(queries())


def metrics_in(query: str) -> set[str]:
    """The metrics that a query selects, without what histograms add to their names."""
    selectors: list[promql_parser.VectorSelector] = []
    collect(promql_parser.parse(query), selectors)
    names = {str(selector.name) for selector in selectors}
    return {name if name in documented() else base_of(name) for name in names}


def base_of(name: str) -> str:
    """The histogram that a series belongs to."""
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def collect(node: Any, found: list[promql_parser.VectorSelector]) -> None:
    """Every selector of a syntax tree."""
    if isinstance(node, promql_parser.VectorSelector):
        found.append(node)
    for name in ("lhs", "rhs", "expr", "args", "vector_selector"):
        child = getattr(node, name, None)
        for entry in child if isinstance(child, list) else [] if child is None else [child]:
            collect(entry, found)


@pytest.mark.parametrize("name", QUERIES)
def test_query_asks_for_what_there_is(name: str) -> None:
    """The query can be read, and selects metrics of the manual only."""
    metrics = metrics_in(QUERIES[name])

    assert metrics
    assert metrics <= documented() | OWN_OF_PROMETHEUS


@pytest.mark.parametrize("name", QUERIES)
def test_query_asks_for_no_deprecated_name(name: str) -> None:
    """No query selects a metric that the manual calls deprecated."""
    manual = (DOCKER.parent / "docs/operations.md").read_text()
    deprecated = set(re.findall(r"^\| `(\w+)` .* Deprecated", manual, re.MULTILINE))

    assert deprecated
    assert metrics_in(QUERIES[name]).isdisjoint(deprecated)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    """Every alert has a severity, a summary, a test, and a row in the manual."""
    manual = (DOCKER.parent / "docs/operations.md").read_text()
    tests = (DOCKER / "prometheus/rules_test.yml").read_text()

    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert "$labels.instance" in rule["annotations"]["summary"]
    assert f"alertname: {rule['alert']}\n" in tests
    assert f"| `{rule['alert']}` |" in manual


def test_panels_tile_the_page() -> None:
    """Panels have numbers of their own and do not overlap."""
    cells = [
        (place["x"] + column, place["y"] + row)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for column in range(place["w"])
        for row in range(place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(column for column, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_data_source_is_the_provisioned_one() -> None:
    """The dashboard's data source variable starts with the source that Grafana is given."""
    provisioned = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    chosen = next(entry for entry in DASHBOARD["templating"]["list"] if entry["name"] == "datasource")

    assert chosen["current"]["value"] in {source["uid"] for source in provisioned["datasources"]}
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}


def test_files_are_where_containers_look() -> None:
    """What compose mounts and passes on is there, and its secrets are the ones that services read."""
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    mounted = [
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
        if volume.startswith(".")
    ]
    read = re.findall(r"/run/secrets/(\w+)", json.dumps(compose) + (DOCKER / "prometheus/prometheus.yml").read_text())

    assert [path for path in mounted if not (DOCKER / path).is_dir()] == []
    assert set(read) == set(compose["secrets"])


@pytest.mark.parametrize("service", ["matfn", "matfn-gpu", "prometheus", "grafana"])
def test_containers_are_confined(service: str) -> None:
    """No container may write its root, gain privileges, listen to other machines, or take all memory."""
    settings = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"][service]

    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert settings["mem_limit"]
    assert all(port.startswith("127.0.0.1:") for port in settings["ports"])
    assert "latest" not in settings["image"]


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not on this machine")
@pytest.mark.parametrize(
    "check",
    [
        ["check", "config", "--syntax-only", "prometheus.yml"],
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml"],
    ],
    ids=" ".join,
)
def test_promtool_agrees(check: list[str]) -> None:
    """Prometheus' own checks pass."""
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *check], cwd=DOCKER / "prometheus", capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
