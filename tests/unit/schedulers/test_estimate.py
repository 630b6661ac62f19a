from math import inf, nan

import pytest

from l4lb.model import Load
from l4lb.schedulers.estimate import PRICES, PRIOR, Estimate, Usual, observe
from l4lb.schedulers.measured import Measured, between

LOOK = 0.1
USUAL = Usual(0.1)
NEW = Estimate(0.0, 0.0, 0.0)


def after(looks, measured, estimate=NEW, usual=USUAL):
    """The estimate after so many looks that all say the same."""
    for _ in range(looks):
        estimate = observe(estimate, measured, usual, estimate.looked + LOOK)
    return estimate


def served(answers, each):
    """What a look counts of that many answers that took so long each."""
    return Measured(answers=answers, answer_time=answers * each)


def price(estimate):
    return estimate.price(estimate.looked)


def test_nothing_is_known_of_a_new_one():
    assert NEW.belief == PRIOR
    assert NEW.response_time is None
    assert NEW.dispersion is None


def test_who_answers_as_usual_costs_nearly_the_least():
    assert price(after(20, served(3, 0.1))) < 1.1


@pytest.mark.parametrize("times", [4, 10, 1000])
def test_who_is_slow_costs_nearly_the_most(times):
    assert price(after(20, served(1, 0.1 * times))) > 0.9 * max(PRICES)


def test_who_answers_at_once_costs_no_less_than_the_usual():
    assert price(after(20, served(100, 1e-6))) >= 1


def test_the_slower_the_dearer():
    prices = [price(after(10, served(2, 0.1 * times))) for times in (0.5, 1, 1.5, 2, 3, 5, 8)]
    assert prices == sorted(prices)


def test_requests_that_wait_tell_before_any_answer():
    estimate = after(20, served(3, 0.1))
    for look in (1, 2, 3):  # five connections; nobody answers any more
        estimate = observe(
            estimate, Measured(outstanding=5, waiting=5 * LOOK * look), USUAL, estimate.looked + LOOK
        )
    assert price(estimate) > 3


@pytest.mark.parametrize("half_open", [1, 1_000])
def test_that_clients_take_their_time_says_nothing_of_a_backend(half_open):
    """Its answer was the SYN/ACK, or UDP's first datagram: it is the client that is waited for."""
    load = Load(half_open=half_open)
    before = after(20, served(3, 0.1))
    estimate = after(20, between(load, load), before)
    assert price(estimate) == price(after(20, Measured(), before))
    assert estimate.response_time == pytest.approx(before.response_time)


def test_syns_that_it_does_not_answer_speak_against_a_backend():
    good = after(20, served(3, 0.1))
    estimate = after(1, Measured(silences=2), good)
    assert price(estimate) > 2 * price(good)
    assert not after(9, Measured(silences=2), good).failing


def test_a_change_for_the_better_is_believed_after_a_few_answers():
    slow = after(1000, served(1, 1.0))
    assert price(after(10, served(3, 0.1), slow)) < 1.5


def test_what_was_believed_counts_no_more_where_nothing_happened():
    long_ago = after(200, Measured(), after(20, served(1, 1.0)))
    assert price(long_ago) == pytest.approx(1, abs=1e-3)
    again = after(1, served(1, 0.1), long_ago)
    assert again.belief == pytest.approx(after(1, served(1, 0.1)).belief, abs=1e-3)


def test_who_is_not_asked_becomes_no_dearer():
    idle = after(20, served(3, 0.1))
    for _ in range(100):
        before, idle = idle, after(1, Measured(), idle)
        assert price(idle) <= price(before) < 1.1


def hanging(looks, estimate, *, answers=0, requests=1, since=0):
    """So many looks at which requests hang, since so many looks, and others are answered as usual."""
    for look in range(since + 1, since + looks + 1):
        waiting = requests * look * LOOK
        seen = Measured(requests, waiting=waiting, answers=answers, answer_time=answers * 0.1)
        estimate = observe(estimate, seen, USUAL, estimate.looked + LOOK)
    return estimate


def test_a_request_that_is_never_answered_speaks_for_a_while():
    good = after(20, served(3, 0.1))
    hung = hanging(10, good)
    assert price(hung) > 5
    assert price(hanging(100, hung, since=10)) < 1.3


def test_one_that_hangs_is_heard_once_where_looks_are_far_apart():
    """Between two of them it has waited for as long as counts."""
    quick = Usual(0.001)
    hung = observe(after(20, served(3, 0.001), usual=quick), Measured(1, waiting=0.08), quick, 2.1)
    assert hung.held.requests == 1
    assert price(hung) > 5


@pytest.mark.parametrize("requests", [1, 3])
def test_those_that_are_held_leave_the_others_their_word(requests):
    held = hanging(200, after(20, served(3, 0.1)), answers=3, requests=requests)
    assert held.held.requests == requests
    assert price(held) < 1.2
    assert held.response_time == pytest.approx(0.1, rel=0.1)
    slow = observe(
        held, Measured(requests + 4, waiting=requests * 20.1 + 4 * 0.4), USUAL, held.looked + LOOK
    )
    assert price(slow) > 3


def test_the_end_of_one_that_was_held_is_no_failure_and_no_slow_answer():
    held = hanging(100, after(20, served(3, 0.1)), answers=3)
    given_up = observe(held, served(3, 0.1), USUAL, held.looked + LOOK)
    assert (given_up.held.requests, given_up.failures) == (0, 0)
    answered = observe(held, Measured(answers=4, answer_time=10.4), USUAL, held.looked + LOOK)
    assert (answered.held.requests, answered.failures) == (0, 0)
    assert price(given_up) < 1.2
    assert price(answered) < 1.2


def test_giving_up_is_not_taken_for_an_answer():
    stalled = after(1, Measured(outstanding=5, waiting=3.0), after(20, served(3, 0.1)))
    given_up = after(1, Measured(), stalled)
    assert given_up.failures == 1
    assert price(given_up) == pytest.approx(price(stalled), rel=0.1)
    assert given_up.waited > 5


def test_who_refuses_is_failing_until_it_answers():
    refusing = after(1, Measured(failures=3))
    assert refusing.failing
    assert after(5, Measured(), refusing).failing
    assert not after(1, served(1, 0.1), refusing).failing


def test_what_a_client_can_bring_about_once_or_twice_is_no_failing():
    """Half a request and no more; a handshake whose end is forged, so that the backend resets it."""
    twice = after(1, Measured(failures=1), after(1, Measured(failures=1)))
    assert not twice.failing
    assert after(1, Measured(failures=1), twice).failing
    assert not after(2, Measured(failures=1), after(1, served(1, 0.1), twice)).failing


def test_resets_after_the_answers_are_no_failures():
    estimate = after(5, Measured(answers=3, answer_time=0.3, failures=3))
    assert not estimate.failing
    assert price(estimate) == pytest.approx(price(after(5, served(3, 0.1))))


def test_in_doubt_a_look_says_less():
    doubted = after(3, served(1, 0.5), usual=Usual(0.1, doubt=10.0))
    assert price(doubted) < price(after(3, served(1, 0.5)))


def test_one_look_however_full_convinces_nobody_for_ever():
    full = after(1, served(1_000_000, 0.5))
    assert price(after(10, served(3, 0.1), full)) < 1.5


def test_without_anything_usual_only_averages_are_kept():
    estimate = after(5, served(2, 0.3), usual=None)
    assert estimate.belief == PRIOR
    assert estimate.response_time == pytest.approx(0.3)


@pytest.mark.parametrize("value", [nan, inf, -inf, -1.0, 1e300])
def test_figures_that_cannot_be_count_as_nothing(value):
    nonsense = Measured(value, value, value, value, value, value, value, value)
    assert after(3, nonsense) == after(3, Measured())


def test_a_clock_that_goes_back_changes_nothing():
    estimate = after(5, served(2, 0.1))
    assert observe(estimate, Measured(), USUAL, 0.0).looked == estimate.looked
    assert observe(estimate, Measured(), USUAL, 0.0).belief == pytest.approx(estimate.belief)
