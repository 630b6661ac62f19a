import json
from typing import Any

import pytest

from benchmark.compare.loads import read_iperf3, read_wrk


def test_iperf3_counts_what_was_received_and_what_the_sender_sent_again():
    end = {"sum_sent": {"bits_per_second": 9e9, "retransmits": 7}, "sum_received": {"bits_per_second": 8e9}}
    outcome = read_iperf3("bulk_upload", json.dumps({"end": end}))
    assert (outcome.values, outcome.retransmits, outcome.errors) == ({"bulk_upload": 8.0}, 7, {})


def test_an_error_of_iperf3_is_an_error_and_no_figure():
    outcome = read_iperf3("bulk_upload", json.dumps({"error": "unable to connect", "end": {}}))
    assert (outcome.values, outcome.errors) == ({}, {"iperf3: unable to connect": 1})


def test_an_iperf3_that_was_cut_off_is_an_error():
    assert read_iperf3("bulk_upload", '{"start": {').errors == {"iperf3 printed no report": 1}


def wrk(requests: int = 3_000, **errors: int) -> str:
    report: dict[str, Any] = {"requests": requests, "microseconds": 1_500_000, "p50": 90, "p99": 700}
    kinds = ("connect", "read", "write", "status", "timeout")
    report["errors"] = {kind: errors.get(kind, 0) for kind in kinds}
    return f"Running 2s test @ http://10.1.0.100/\n  3 threads\n\n{json.dumps(report)}\n"


def test_wrk_gives_a_rate_over_the_time_it_really_took():
    assert read_wrk(wrk()) == ({"rate": 2_000.0, "p50": 90, "p99": 700}, {})


def test_every_kind_of_error_of_wrk_counts():
    assert read_wrk(wrk(timeout=2, status=1))[1] == {"wrk: timeout": 2, "wrk: status": 1}


def test_no_answer_at_all_is_an_error_even_if_wrk_counts_none():
    assert read_wrk(wrk(requests=0))[1] == {"wrk: no answer at all": 1}


def test_a_wrk_without_results_is_refused():
    with pytest.raises(ValueError, match="no results"):
        read_wrk("unable to connect to 10.1.0.100:80 Connection refused\n")
