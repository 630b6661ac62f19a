"""The alert rules and the dashboard: promtool's word on the rules, and that every metric in them exists."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import l4lb.metrics
from l4lb.metrics.exposition import families
from tests.unit.metrics.test_exposition import SNAPSHOT

FILES = Path(l4lb.metrics.__file__).parent / "prometheus"
ALERTS, DASHBOARD = FILES / "alerts.yaml", FILES / "dashboard.json"
TESTS = Path(__file__).parents[2] / "data/alerts_test.yaml"


def known():
    """Names as they are in queries."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    return {
        family.name + suffix for family in families(SNAPSHOT) for suffix in suffixes.get(family.type, ("",))
    }


@pytest.mark.parametrize("file", [ALERTS, DASHBOARD], ids=["alerts", "dashboard"])
def test_no_metric_is_named_that_does_not_exist(file):
    named = set(re.findall(r"\bl4lb_[a-z_]+", file.read_text()))
    assert len(named) > 5
    assert named - known() == set()


def test_every_metric_is_on_the_dashboard_or_in_an_alert():
    named = set(re.findall(r"\bl4lb_[a-z_]+", ALERTS.read_text() + DASHBOARD.read_text()))
    # What is for other tables than these, or says the same in another way.
    elsewhere = {
        "l4lb_start_time_seconds",
        "l4lb_probe_answers_ignored_total",
        "l4lb_health_checks_total",
        "l4lb_backend_outstanding_wait_seconds",
        "l4lb_backend_packets_total",
    }
    parts = {name for name in known() if re.search("_(sum|count|bucket)$", name)}
    assert known() - named - elsewhere - parts == set()


def test_panels_do_not_lie_on_each_other():
    taken = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.fixture
def promtool():
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs promtool, of the package prometheus")
    return found


def test_every_alert_fires_when_it_should_and_not_before(promtool, tmp_path):
    names = re.findall(r"alert: (\w+)", ALERTS.read_text())
    tried = re.findall(r"alertname: (\w+)\n +exp_alerts", TESTS.read_text())
    assert sorted(names) == sorted(set(tried))
    for file in (ALERTS, TESTS):
        shutil.copy(file, tmp_path)
    done = subprocess.run(
        [promtool, "test", "rules", tmp_path / TESTS.name], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
