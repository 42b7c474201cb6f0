"""Metrics, rules, dashboard and runbook say the same, and name nobody."""

import json
import re
import shutil
import subprocess
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from orchestrator.meaning import Alarm
from orchestrator.metrics import reference
from orchestrator.metrics.catalogue import FAMILIES, Kind
from orchestrator.metrics.collector import Metrics
from orchestrator.model import Stage
from orchestrator.store.tallies import RESULT_BUCKETS_S, STATES, moves_to
from orchestrator.transitions import TRANSITIONS, Step
from tests.services import in_ci

ROOT = Path(__file__).parents[2]
RULES = ROOT / "config" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "config" / "grafana" / "counterfoil.json"
RUNBOOK = ROOT / "docs" / "runbook.md"

ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
PARTS = {Kind.HISTOGRAM: ("_bucket", "_sum", "_count")}
NAMES = {family.full_name + part for family in FAMILIES for part in PARTS.get(family.kind, ("",))}
LABELS = {family.full_name + part: family.labels for family in FAMILIES for part in PARTS.get(family.kind, ("",))}


def named_in(expression: str) -> set[str]:
    return set(re.findall(r"\bcounterfoil_\w+", expression))


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    found = shutil.which("promtool")
    if found is None:
        if in_ci():
            pytest.fail("no promtool; it is in Debian's package prometheus", pytrace=False)
        pytest.skip("no promtool, so the rules are not checked; it is in Debian's package prometheus")
    return subprocess.run([found, *arguments], capture_output=True, text=True, timeout=60, check=False)


def panels() -> list[dict[str, Any]]:
    found = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
    assert found
    return found


# -- the catalogue -----------------------------------------------------------------------------------------------------


def test_the_documentation_of_the_metrics_is_current() -> None:
    current = (ROOT / "docs" / "metrics.md").read_text()
    assert current == reference.render(), "run `python -m orchestrator.metrics.reference`"


def test_every_metric_has_one_name() -> None:
    assert [name for name, count in Counter(family.full_name for family in FAMILIES).items() if count > 1] == []


def test_no_label_tells_payments_terminals_or_merchants_apart() -> None:
    few = {
        "state", "stage", "outcome", "currency", "source", "transport", "problem", "op", "result", "reason", "kind",
        "queue", "name", "trouble", "feed", "version", "schema",
    }  # fmt: skip
    assert {label for family in FAMILIES for label in family.labels} == few


def test_what_begins_at_nothing_has_a_value_for_each_label() -> None:
    for family in FAMILIES:
        assert {len(labels) for labels in family.begin} <= {len(family.labels)}, family.name


def test_what_contradicts_is_told_by_a_line_of_the_journal_alone() -> None:
    """A line has states, not stages: no step that ends elsewhere may read the same as one that ends in a dispute."""
    conflicts = moves_to(Stage.DISPUTED)
    assert conflicts
    assert not conflicts & moves_to(*(stage for stage in Stage if stage is not Stage.DISPUTED))
    still = {
        f"{event.value} {word} {word}"
        for (stage, event), cell in TRANSITIONS.items()
        if isinstance(cell, Step) and cell.after is None
        for word in [STATES[stage]]
    }
    assert not conflicts & still


# -- the collector -----------------------------------------------------------------------------------------------------


class Read:
    """A store that says how often it was read."""

    def __init__(self, *rows: tuple[str, list[str], float | None]) -> None:
        self.rows = [dict(zip(("name", "labels", "value"), row, strict=True)) for row in rows]
        self.times = self.counted = 0

    def count(self) -> None:
        self.counted += 1

    def read(self, **_: Any) -> list[dict[str, Any]]:
        self.times += 1
        return self.rows


def told(tallies: Read, figures: Read) -> str:
    return generate_latest(Metrics(tallies, figures, "1.2.3", canaries=True).registry()).decode()  # type: ignore[arg-type]


def test_a_flood_of_scrapes_reads_the_database_once_and_counts_once() -> None:
    tallies, figures = Read(), Read()
    metrics = Metrics(tallies, figures, "1.2.3", canaries=True)  # type: ignore[arg-type]
    barrier = threading.Barrier(20)

    def scrape(_: int) -> bytes:
        barrier.wait(10)
        answer = generate_latest(metrics.registry())
        metrics.count()
        return answer

    with ThreadPoolExecutor(20) as threads:
        answers = set(threads.map(scrape, range(20)))

    assert len(answers) == 1
    assert (tallies.times, figures.times, tallies.counted) == (1, 1, 1)


def test_buckets_add_up_to_all_that_ended() -> None:
    past_the_last = str(len(RESULT_BUCKETS_S))
    stored = [("time_to_result_bucket", [bucket], 2.0) for bucket in ("0", "3", past_the_last)]
    text = told(Read(*stored, ("time_to_result_sum", [], 9000.0)), Read())

    found = dict(re.findall(r'counterfoil_time_to_result_seconds_bucket{le="([^"]+)"} (\S+)', text))
    assert [found[bound] for bound in ("1", "5", "10", "3600", "+Inf")] == ["2.0", "2.0", "4.0", "4.0", "6.0"]
    assert "counterfoil_time_to_result_seconds_count 6.0" in text
    assert "counterfoil_time_to_result_seconds_sum 9000.0" in text


def test_a_counter_whose_labels_are_known_begins_at_zero_so_that_its_first_rise_is_seen() -> None:
    text = told(Read(), Read())

    assert "counterfoil_conflicting_evidence_total 0.0" in text
    for alarm in Alarm:
        assert f'counterfoil_alarms_raised_total{{name="{alarm.value}"}} 0.0' in text


def test_a_figure_that_the_database_has_no_answer_to_is_nothing_or_absent() -> None:
    nothing = told(Read(), Read(("outbox_oldest_age_seconds", [], None), ("first_payment_timestamp_seconds", [], None)))

    assert "\ncounterfoil_outbox_oldest_age_seconds 0.0" in nothing
    assert "\ncounterfoil_first_payment_timestamp_seconds " not in nothing


# -- rules, dashboard, runbook -----------------------------------------------------------------------------------------


def test_promtool_passes_the_rules_and_the_scrape_configuration() -> None:
    for arguments in (("check", "rules", str(RULES)), ("check", "config", str(RULES.parent / "prometheus.yml"))):
        checked = promtool(*arguments)
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_each_alert_says_how_bad_it_is_in_a_sentence_and_where_the_runbook_goes_on(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["annotations"]["summary"].endswith(".")
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert (page, anchor) == ("docs/runbook.md", alert["alert"].lower())
    [section] = re.findall(rf"^## {alert['alert']}$(.*?)^#", RUNBOOK.read_text(), re.MULTILINE | re.DOTALL)
    assert section.strip().startswith(f"{alert['labels']['severity'].title()}. ")
    assert "Look:" in section
    assert "Do:" in section


def test_every_section_about_an_alert_has_one() -> None:
    sections = re.findall(r"^## (Counterfoil\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert sorted(sections) == sorted(alert["alert"] for alert in ALERTS)


def test_rules_ask_for_metrics_that_there_are() -> None:
    asked = {name for alert in ALERTS for name in named_in(alert["expr"])}
    assert asked
    assert asked - NAMES == set()


def test_no_rule_adds_up_what_several_processes_tell_alike() -> None:
    """Each API process tells the same: a sum over them would be the truth times their number."""
    for alert in ALERTS:
        summed = re.findall(r"sum(?: by \((.*?)\))?", alert["expr"])
        assert [labels for labels in summed if "instance" not in labels] == [], alert["alert"]


#: Alarms about something that a metric of its own shows for as long as it lasts.
SHOWN_BY_STATE = {
    Alarm.CONTRADICTION: "CounterfoilConflictingEvidence",
    Alarm.CALLBACK_PARKED: "CounterfoilCallbacksParked",
    Alarm.DIFFERENCES_FOUND: "CounterfoilDifferencesOpen",
    Alarm.TERMINAL_OUT_OF_ORDER: "CounterfoilTerminalInTrouble",
}


@pytest.mark.parametrize("alarm", Alarm)
def test_every_alarm_reaches_somebody_by_one_alert(alarm: Alarm) -> None:
    reached = []
    for alert in ALERTS:
        for sign, names in re.findall(r'alarms_open{name(=~|!~|=)"([^"]+)"}', alert["expr"]):
            matched = alarm.value in names.split("|")
            reached += [alert["alert"]] if matched is (sign != "!~") else []

    assert reached == [] if alarm in SHOWN_BY_STATE else len(reached) == 1
    assert SHOWN_BY_STATE.get(alarm, reached[0] if reached else "") in {alert["alert"] for alert in ALERTS}


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: str(panel["title"]))
def test_each_panel_asks_for_metrics_and_labels_that_there_are(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["targets"]
    for target in panel["targets"]:
        names = named_in(target["expr"])
        assert names
        assert names - NAMES == set()
        labels = {label for name in names for label in LABELS[name]} | {"le", "instance"}
        asked = re.findall(r"(?:by|without) \(([\w, ]+)\)", target["expr"])
        asked += re.findall(r"{{(\w+)}}", target["legendFormat"])
        assert {label for each in asked for label in each.split(", ")} <= labels


def test_panels_neither_overlap_nor_hang_over_the_edge() -> None:
    taken = Counter(
        (x, y)
        for panel in panels()
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    )
    assert max(taken.values()) == 1
    assert max(x for x, _ in taken) < 24


def test_every_metric_is_on_the_dashboard_or_in_a_rule_but_those_that_only_describe() -> None:
    shown = {name for panel in panels() for target in panel["targets"] for name in named_in(target["expr"])}
    shown |= {name for alert in ALERTS for name in named_in(alert["expr"])}
    unseen = {family.full_name for family in FAMILIES if not any(name.startswith(family.full_name) for name in shown)}
    assert unseen == {
        "counterfoil_late_results_total",  # the alarm late_approval is
        "counterfoil_submissions_rejected_total",
        "counterfoil_refunds_accepted_total",
        "counterfoil_refund_oldest_open_age_seconds",  # the books may take days
    }


def test_grafana_is_provisioned_with_the_source_that_the_dashboard_asks() -> None:
    folder = ROOT / "config" / "grafana" / "provisioning"
    [source] = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((folder / "dashboards" / "counterfoil.yml").read_text())["providers"]
    asked = {target["datasource"]["uid"] for panel in panels() for target in panel["targets"]}
    assert asked == {source["uid"]}
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]["volumes"]
    assert f"./config/grafana/counterfoil.json:{provider['options']['path']}/counterfoil.json:ro" in compose
