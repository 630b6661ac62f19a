import json

import pytest
from click.testing import CliRunner

from simulation.main import main

SHORT = [
    "--scene",
    "recovery",
    "--policy",
    "random",
    "--policy",
    "adaptive",
    "--seconds",
    "10",
    "--seeds",
    "1",
]


def test_a_table_for_people_and_a_picture(tmp_path):
    picture = tmp_path / "shares.svg"
    result = CliRunner().invoke(main, [*SHORT, "--plot", str(picture)])
    assert result.exit_code == 0, result.output
    assert "a slow one recovers" in result.output
    assert "adaptive" in result.output
    assert "<svg" in picture.read_text()


def test_json_for_programs():
    result = CliRunner().invoke(main, [*SHORT, "--backends", "3", "--json"])
    shown = json.loads(result.stdout)
    assert shown["backends"] == 3
    assert set(shown["scenes"]["recovery"]) == {"random", "adaptive"}
    assert shown["scenes"]["recovery"]["adaptive"]["p99"] > 0


def test_clients_of_one_pool_ask_as_others_do_over_fewer_connections():
    keep = [*SHORT[:1], "bursts-keep", *SHORT[2:], "--json"]
    eight, one = (
        json.loads(CliRunner().invoke(main, [*keep, "--pools", pools]).stdout) for pools in ("8", "1")
    )
    assert (eight["pools"], one["pools"]) == (8, 1)
    eight, one = (shown["scenes"]["bursts-keep"]["adaptive"] for shown in (eight, one))
    assert eight["requests"] == pytest.approx(one["requests"], rel=0.05)
    assert eight["p99"] != one["p99"]


def test_a_picture_of_no_known_kind_is_refused(tmp_path):
    result = CliRunner().invoke(main, [*SHORT, "--plot", str(tmp_path / "shares.nonsense")])
    assert result.exit_code == 1
    assert "nonsense" in result.output
