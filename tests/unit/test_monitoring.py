"""deploy/prometheus and deploy/grafana ask for metrics that there are, and every alert has its lines in the runbook."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

from docs import generate
from tests.unit.test_docs import ROOT, anchors, prose

RUNBOOK: Final = ROOT / "docs" / "operate" / "monitor.md"
ALERTS: Final = [
    rule
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
DASHBOARD: Final = json.loads((ROOT / "deploy" / "grafana" / "streamhub.json").read_text("utf-8"))
PANELS: Final = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
USED: Final = re.compile(r"\b(?:streamhub|process)_\w+")


def told() -> Iterator[str]:
    """Every name that Prometheus stores, of the table of metrics."""
    for name, kind in re.findall(r"^\| `(\w+)` \| (\w+) \|", generate.pages()["metrics.md"], re.MULTILINE):
        yield from (f"{name}_bucket", f"{name}_sum", f"{name}_count") if kind == "histogram" else (name,)


TOLD: Final = frozenset(told())


def expressions(value: Any) -> Iterator[str]:
    """Of a part of the dashboard."""
    if isinstance(value, dict):
        yield from (each for name, each in value.items() if name in ("expr", "definition") and isinstance(each, str))
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from expressions(each)


def test_every_alert_asks_for_metrics_that_there_are() -> None:
    for alert in ALERTS:
        used = set(USED.findall(alert["expr"]))
        assert used, alert["alert"]
        assert used <= TOLD, alert["alert"]


def test_every_alert_has_a_summary_a_severity_and_its_lines_in_the_runbook() -> None:
    found = anchors(RUNBOOK)
    for alert in ALERTS:
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert page.endswith("/docs/operate/monitor.md"), alert["alert"]
        assert anchor == alert["alert"].lower()
        assert anchor in found
        assert alert["annotations"]["summary"], alert["alert"]
        assert alert["labels"]["severity"] in ("critical", "warning", "info"), alert["alert"]


def test_the_runbook_tells_of_no_alert_that_there_is_not() -> None:
    names = re.findall(r"^### (Streamhub\w+)$", prose(RUNBOOK), re.MULTILINE)
    assert names == [alert["alert"] for alert in ALERTS]


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    assert {name for each in expressions(DASHBOARD) for name in USED.findall(each)} <= TOLD


def test_the_dashboard_shows_every_metric() -> None:
    shown = {name for each in expressions(PANELS) for name in USED.findall(each)}
    parts = ("_bucket", "_sum", "_count")
    histograms = {name.removesuffix("_bucket") for name in TOLD if name.endswith("_bucket")}
    plain = {name for name in TOLD if not any(name.removesuffix(part) in histograms for part in parts)}
    assert plain - shown <= {"streamhub_build_info", "process_virtual_memory_bytes", "streamhub_database_up"}
    assert {f"{name}_bucket" for name in histograms} <= shown


def test_each_panel_of_the_dashboard_has_a_unit_thresholds_and_the_data_source_that_is_chosen() -> None:
    for panel in PANELS:
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"], panel["title"]
        assert defaults["thresholds"]["steps"], panel["title"]
        assert {each["datasource"]["uid"] for each in (panel, *panel["targets"])} == {"${datasource}"}, panel["title"]


def test_the_rows_of_the_dashboard_are_the_parts_of_a_hub() -> None:
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == [
        "Overview", "Capture & relay", "History", "Streams", "Replay", "Publishing & API", "Webhooks", "Kafka",
        "Process",
    ]  # fmt: skip
