"""The metrics, by a real Prometheus that scrapes the lab's gateway, reads the alerts and evaluates every
expression of the dashboard."""

import json
import shutil
import subprocess
import time
import urllib.parse
from contextlib import contextmanager
from pathlib import Path

import pytest

import l4lb.metrics
from tests.lab.clients import Browser, answers, wait_for
from tests.lab.services import UNCHECKED, VIP, service

pytestmark = pytest.mark.lab

FILES = Path(l4lb.metrics.__file__).parent / "prometheus"
METRICS = "http://127.0.0.1:9717/metrics"
PROMETHEUS = "127.0.0.1:9090"
CONFIG = f"""
global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 1s}}
rule_files: ["{FILES}/alerts.yaml"]
scrape_configs:
  - job_name: l4lb
    static_configs: [{{targets: ["127.0.0.1:9717"]}}]
"""
NAMES = ("web1", "web2", "web3")


@pytest.fixture(scope="module")
def daemon(lab):
    checked = 'check = "http"\ninterval = 0.2\nrise = 1\nfall = 1'
    with lab.daemon(service(scheduler="adaptive", health=checked)) as daemon:
        yield daemon


@contextmanager
def prometheus(lab):
    """A Prometheus on the gateway: asks it, and returns what it has under ``data``."""
    if shutil.which("prometheus") is None:
        pytest.skip("needs prometheus")
    directory = lab.host_directory("gateway") / "prometheus"
    directory.mkdir()
    (directory / "prometheus.yml").write_text(CONFIG)
    with (directory / "log").open("w") as log:
        command = lab.command(
            "gateway",
            "prometheus",
            f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address={PROMETHEUS}",
        )
        process = subprocess.Popen(command, stdout=log, stderr=log)

    def ask(what, **parameters):
        query = urllib.parse.urlencode(parameters)
        done = lab.exec("gateway", "curl", "-sS", f"http://{PROMETHEUS}/api/v1/{what}?{query}", check=False)
        answer = json.loads(done.stdout) if done.returncode == 0 and done.stdout[:1] == "{" else {}
        assert answer.get("status") != "error", answer
        return answer.get("data")

    try:
        wait_for("it to scrape", lambda: (ask("query", query="l4lb_info") or {}).get("result"), 30.0)
        yield ask
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory)


def scraped(lab, *options):
    return lab.exec("gateway", "curl", "-sS", *options, METRICS).stdout


def value(lab, name):
    (line,) = (line for line in scraped(lab).splitlines() if line.startswith(name + " "))
    return float(line.rsplit(" ", 1)[1])


def wait_value(lab, name, expected):
    """What is read may be of a moment ago: see ``MetricsServer``."""
    wait_for(f"{name} to be {expected}", lambda: value(lab, name) == expected)


def test_a_real_prometheus_reads_all_of_it(lab, daemon):
    with prometheus(lab) as ask:
        deadline = time.monotonic() + 4  # the time over which rates are taken here, and some more
        while time.monotonic() < deadline:
            answers(lab, VIP, 12)
        # One scrape may be too late, on a machine that was busy.
        (info,) = wait_for("what it scraped", lambda: ask("query", query="l4lb_info")["result"])
        assert info["metric"]["datapath"] == daemon.api.get("status")["datapath"]["name"]

        def target():
            (target,) = ask("targets")["activeTargets"]
            return target["health"], target["lastError"]

        wait_for("a scrape without an error", lambda: target() == ("up", ""))

        panels = json.loads((FILES / "dashboard.json").read_text())["panels"]
        expressions = [target["expr"] for panel in panels for target in panel.get("targets", ())]
        assert len(expressions) > 25
        empty = [each for each in expressions if not ask("query", query=filled_in(each))["result"]]
        # No agent is asked, and no answer of one refused.
        assert [each for each in empty if "refused" not in each] == []

        (group,) = ask("rules")["groups"]
        assert [rule["name"] for rule in group["rules"] if rule["health"] != "ok"] == []
        # Pending ones too, but for what one slow answer brings about among so few.
        names = [alert["labels"]["alertname"] for alert in ask("alerts")["alerts"]]
        assert [name for name in names if name != "L4lbBackendSlow"] == []


def filled_in(expression):
    for variable, text in (("$__rate_interval", "3s"), ("$instance", ".*"), ("$service", ".*")):
        expression = expression.replace(variable, text)
    return expression


def test_what_it_counts_is_what_happened(lab, daemon):
    label = '{backend="10.2.0.11:80",service="web"}'
    before = value(lab, f"l4lb_backend_connections_opened_total{label}")
    answered = value(lab, f"l4lb_backend_response_seconds_count{label}")
    served = answers(lab, VIP, 30).get("web1", 0)
    wait_value(lab, f"l4lb_backend_connections_opened_total{label}", before + served)
    wait_value(lab, f"l4lb_backend_response_seconds_count{label}", answered + served)
    with Browser(lab, VIP) as browser:
        browser.get()
        labels = [f'backend="10.2.0.{n}:80",service="web",state="established"' for n in (11, 12, 13)]
        wait_for(
            "one connection",
            lambda: sum(value(lab, f"l4lb_backend_connections{{{each}}}") for each in labels) == 1,
        )


def test_openmetrics_for_who_asks_for_it(lab, daemon):
    text = scraped(lab, "-H", "Accept: application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")


def test_a_backend_that_is_drained(lab, daemon):
    wait_value(lab, 'l4lb_backend_up{backend="10.2.0.12:80",service="web"}', 1)
    daemon.cli("backend", "drain", "web", "10.2.0.12:80", "--runtime")
    wait_value(lab, 'l4lb_backend_weight{backend="10.2.0.12:80",service="web"}', 0)
    wait_value(lab, 'l4lb_service_backends_usable{service="web"}', 2)
    daemon.cli("backend", "enable", "web", "10.2.0.12:80", "--runtime")
    wait_value(lab, 'l4lb_service_backends_usable{service="web"}', 3)


def test_a_port_that_is_taken_is_told_and_the_services_serve(lab, daemon):
    holder = lab.popen("gateway", "python3", "-c", HOLD)
    try:
        assert holder.stdout.readline() == "ready\n"
        daemon.configure(f'[gateway.metrics]\naddress = "127.0.0.1:9800"\n{service(health=UNCHECKED)}')
        daemon.cli("reload")
        (line,) = daemon.api.get("status")["warnings"]
        assert line == (
            "no metrics: 127.0.0.1:9800 cannot be listened on: address already in use; "
            "see gateway.metrics.address"
        )
        assert sum(answers(lab, VIP, 3).values()) == 3
        assert lab.exec("gateway", "curl", "-s", METRICS, check=False).returncode == 7, "nobody there"
    finally:
        holder.kill()
        holder.communicate()
    daemon.configure(f"[gateway.metrics]\nenabled = false\n{service(health=UNCHECKED)}")
    daemon.cli("reload")
    assert daemon.api.get("status")["warnings"] == []


HOLD = """
import socket
with socket.create_server(("127.0.0.1", 9800)):
    print("ready", flush=True)
    input()
"""
