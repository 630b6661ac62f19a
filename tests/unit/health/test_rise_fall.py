"""Rise and fall as a table: results in, states out."""

import pytest

from l4lb.health.rise_fall import Health, HealthState, Outcome, Result, advance, initial

PASSED = Result(Outcome.PASSED, latency=0.002)
FAILED = Result(Outcome.FAILED, "connection refused")
UNDECIDED = Result(Outcome.UNDECIDED, "the gateway cannot check: too many open files")

RESULT = {"+": PASSED, "-": FAILED, "?": UNDECIDED}
LETTER = {HealthState.UNKNOWN: ".", HealthState.UP: "U", HealthState.DOWN: "D"}


def run(results: str, rise: int = 2, fall: int = 3) -> list[Health]:
    """The health after each result; the n-th check, counted from 1, ends at second n."""
    history = [initial(0.0)]
    for second, letter in enumerate(results, 1):
        history.append(advance(history[-1], RESULT[letter], rise=rise, fall=fall, now=float(second)))
    return history[1:]


@pytest.mark.parametrize(
    ("what", "rise", "fall", "results", "states"),
    [
        ("the first good check counts at once", 2, 3, "+", "U"),
        ("of an unknown one fall in a row are needed too", 2, 3, "---", "..D"),
        ("until then the first good check counts at once", 2, 3, "--+", "..U"),
        ("fall in a row take it down", 2, 3, "+---", "UUUD"),
        ("fewer than fall do not", 2, 3, "+--+--+", "UUUUUUU"),
        ("rise in a row bring it up", 2, 1, "-++", "DDU"),
        ("fewer than rise do not", 2, 1, "-+-+-", "DDDDD"),
        ("a full streak is needed each time", 2, 3, "+---++---++", "UUUDDUUUDDU"),
        ("rise and fall of one follow every check", 1, 1, "+-+-", "UDUD"),
        ("an undecided check leaves unknown unknown", 2, 1, "??-", "..D"),
        ("an undecided check does not break a streak", 2, 3, "+-?-?-", "UUUUUD"),
        ("an undecided check does not count", 2, 2, "+-???", "UUUUU"),
    ],
)
def test_states(what: str, rise: int, fall: int, results: str, states: str):
    assert "".join(LETTER[health.state] for health in run(results, rise, fall)) == states, what


def test_since_is_when_the_state_was_entered():
    assert [health.since for health in run("+---++")] == [1, 1, 1, 4, 4, 6]
    assert initial(7.0).since == 7.0


def test_reason_says_why_the_last_check_failed_and_stays_while_down():
    reasons = [health.reason for health in run("+--+---++")]
    why = FAILED.reason
    assert reasons == ["", why, why, "", why, why, why, why, ""]


def test_reason_is_that_of_the_latest_failure():
    down = run("-", fall=1)[0]
    later = advance(down, Result(Outcome.FAILED, "no route to host"), rise=2, fall=3, now=2.0)
    assert (later.reason, later.since) == ("no route to host", 1.0)


def test_undecided_check_is_shown():
    health = run("+?")[-1]
    assert (health.state, health.reason, health.latency) == (HealthState.UP, UNDECIDED.reason, None)
    assert health.last_check == 2.0


def test_streak_counts_the_checks_against_the_state():
    assert [health.streak for health in run("+--+---+-")] == [0, 1, 2, 0, 1, 2, 0, 1, 0]


def test_latency_is_that_of_the_last_check():
    assert [health.latency for health in run("+-+")] == [0.002, None, 0.002]


def test_lower_fall_counts_from_the_next_check():
    doubtful = run("+--", fall=5)[-1]
    assert doubtful.state is HealthState.UP
    assert advance(doubtful, FAILED, rise=2, fall=2, now=9.0).state is HealthState.DOWN


@pytest.mark.parametrize(
    ("what", "results", "usable"),
    [
        ("what is down is not usable", "+---+", [True, True, True, True, False, False]),
        ("nor is what was never up, from its first bad check on", "?--+", [True, True, False, False, True]),
        ("also if a later one could not be made", "-?", [True, False, False]),
    ],
)
def test_usable_is_what_nothing_is_known_against(what: str, results: str, usable: list[bool]):
    history = [initial(0.0), *run(results)]
    assert [health.usable for health in history] == usable, what
    assert [not health.against for health in history] == usable


def test_what_is_against_a_backend():
    why = FAILED.reason
    assert [health.against for health in run("---")] == [
        *[f"no check has passed yet: {why}"] * 2,
        f"down: {why}",
    ]
