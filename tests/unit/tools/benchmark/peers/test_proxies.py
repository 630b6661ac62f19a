"""The configs of HAProxy and nginx, read by the programs themselves where they are installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmark.peers.proxies import haproxy_text
from benchmark.peers.service import Agents, Served

_BULK = Served("bulk", 81, ["10.2.0.11:81"])


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="HAProxy is not installed")
def test_haproxy_takes_the_config(tmp_path: Path):
    agents = Agents(7077, tmp_path / "key", 0.5)
    web = Served("web", 80, ["10.2.0.11:80", "10.2.0.12:80"], 8080, "leastconn", agents)
    text = haproxy_text("10.1.0.100", [web, _BULK])
    file = tmp_path / "haproxy.cfg"
    file.write_text(text)
    done = subprocess.run(["haproxy", "-c", "-f", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"balance (\w+)", text) == ["leastconn", "roundrobin"]
    checked = [line for line in text.splitlines() if "check port 8080" in line]
    assert len(checked) == 2
    assert all("weight 100 agent-check agent-port 7077 agent-inter 500ms" in line for line in checked)
    assert text.rstrip().endswith("server bulk1 10.2.0.11:81")
