"""What tools/bench shows, writes and refuses, whatever becomes of the measuring."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark import BenchError, main
from benchmark.alone.micro import Cost
from benchmark.figures.statistics import spread
from benchmark.latency.measure import check
from benchmark.latency.scenes import scenes
from benchmark.report.results import Results
from netlab import LabError


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Those of the command are not left to the test run."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def measured(results: Results) -> None:
    results.costs.append(Cost("clear", "the way is clear", spread([1e-6]), "packet"))


@pytest.mark.parametrize(
    ("error", "status", "why"),
    [
        (BenchError("nginx did not start"), 1, "nginx did not start"),
        (LabError("no more addresses"), 1, "no more addresses"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device"), None, "[Errno 28] No space left on device"),
    ],
)
def test_what_was_measured_before_a_failure_is_shown_and_written(
    error: BaseException,
    status: int | None,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def measure(results: Results, options: object) -> None:
        measured(results)
        raise error

    monkeypatch.setattr(main, "_measure", measure)
    file = tmp_path / "it.json"
    if status is None:  # what nobody has foreseen goes on
        with pytest.raises(type(error)):
            main.main(["micro", "--json", str(file)])
    else:
        assert main.main(["micro", "--json", str(file)]) == status
    written = json.loads(file.read_text())
    assert written["incomplete"] == why
    assert len(written["micro"]) == 1
    said = capsys.readouterr()
    assert f"Incomplete: {why}" in said.out
    assert "the way is clear" in said.out
    assert said.err.count(f"tools/bench: {why}") == (status == 1)


def test_where_nothing_was_measured_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def measure(results: Results, options: object) -> None:
        raise BenchError("no root")

    monkeypatch.setattr(main, "_measure", measure)
    file = tmp_path / "it.json"
    assert main.main(["micro", "--json", str(file)]) == 1
    assert not file.exists()


def test_what_cannot_be_drawn_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("matplotlib", reason="no matplotlib: tools/setup installs it")
    monkeypatch.setattr(main, "_measure", lambda results, options: measured(results))
    picture = tmp_path / "it.png"
    assert main.main(["alone", "--plot", str(picture)]) == 1
    said = f"tools/bench: {picture}: nothing was measured that can be drawn\n"
    assert capsys.readouterr().err.endswith(said)  # the machine may be busy


def test_a_scene_without_players_or_requests_is_refused_before_the_lab_comes_up():
    agents, alike = scenes(1)["agents"], scenes(1)["alike"]
    with pytest.raises(BenchError, match=r"^agents: only haproxy-roundrobin, .* none of them was chosen$"):
        check(agents, ["nginx-least_conn"], 120, 1, 20)
    with pytest.raises(BenchError, match=r"^alike: at 1 requests a second none comes within 1 s$"):
        check(alike, ["nginx-least_conn"], 1, 3, 1)
    check(alike, ["nginx-least_conn"], 120, 3, 20)
