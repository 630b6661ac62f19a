from pathlib import Path

import pytest

from benchmark.arguments import chosen, parse


@pytest.mark.parametrize(
    ("words", "command"), [([], "all"), (["--rounds", "2"], "all"), (["micro"], "micro")]
)
def test_without_a_command_all_is_measured(words: list[str], command: str):
    assert parse(words).command == command


def test_naming_peers_leaves_the_loads_alone():
    only = parse(["compare", "--only", "haproxy,tc"]).only
    assert chosen(only, ["tc", "nginx", "haproxy"]) == ["tc", "haproxy"]
    assert chosen(only, ["keepalive", "connections"]) == ["keepalive", "connections"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["compare", "--only", "haproxi"], "no peer or load 'haproxi'"),
        (["profile", "--only", "haproxy"], "no load 'haproxy'"),
        (["compare", "--only", "redirect"], "no peer or load 'redirect'"),
        (["packets", "--only", "haproxy"], "no peer 'haproxy'"),
        (["latency", "--only", "haproxy"], "no balancer 'haproxy'"),
        (["latency", "--scenes", "alike,slo"], "no scene 'slo'"),
        (["latency", "--rate", "0"], "'0' is not a whole number"),
        (["latency", "--datapath", "auto"], "invalid choice: 'auto'"),
        (["flood", "--only", "raw"], "no datapath 'raw'"),
        (["packets", "--flows", "0"], "'0' is not a whole number"),
        (["--rounds", "0"], "'0' is not a whole number"),
        (["micro", "--sizes", "1k"], "'1k' is not a whole number"),
        (["micro", "--seconds", "2"], "unrecognized arguments"),
        (["all", "--only", "haproxy"], "unrecognized arguments"),  # what would it be of the others?
        (["--json", "/no/such/place/it.json"], "cannot write"),
        (["--plot", "it.txt"], "has to end in .png"),
    ],
)
def test_wrong_usage_is_refused(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        parse(words)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_latency_takes_its_time():
    options = parse(["latency", "--scenes", "slow,alike", "--only", "haproxy-leastconn,l4lb-round_robin"])
    assert (options.seconds, options.rounds, options.rate, options.datapath) == (20, 3, 120, "tc")
    assert options.scenes == ["slow", "alike"]


def test_sizes_are_in_order_and_each_once():
    assert parse(["micro", "--sizes", "100000,1000,100000"]).sizes == [1_000, 100_000]


def test_an_output_that_exists_is_written_over(tmp_path: Path):
    file = tmp_path / "figures.json"
    file.write_text("{}")
    assert parse(["micro", "--json", str(file)]).json == file
