import json

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


def test_a_picture_of_no_known_kind_is_refused(tmp_path):
    result = CliRunner().invoke(main, [*SHORT, "--plot", str(tmp_path / "shares.nonsense")])
    assert result.exit_code == 1
    assert "nonsense" in result.output
