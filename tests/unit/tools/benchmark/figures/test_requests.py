import pytest

from benchmark.figures.requests import avoided, deviation, percentile, settled


def test_a_percentile_is_one_of_the_values():
    values = [float(number) for number in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([3.0], 0.99) == 3.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@pytest.mark.parametrize(
    ("counts", "expected"), [([5, 5, 5], 0.0), ([6, 5, 4], 0.2), ([9, 9, 0], 1.0), ([0, 0], 0.0)]
)
def test_the_deviation_is_that_of_the_backend_furthest_from_even(counts: list[int], expected: float):
    assert deviation(counts) == pytest.approx(expected)


def test_a_share_is_back_where_the_first_window_that_has_it_begins():
    times = [number / 10 for number in range(200)]
    # Every tenth request until 13 s, then every fifth.
    chosen = [number % (5 if time >= 13 else 10) == 0 for number, time in enumerate(times)]
    assert settled(times, chosen, 10.0, lambda share: share >= 0.1) == 0.0
    back = settled(times, chosen, 10.0, lambda share: share >= 0.2)
    assert back is not None
    assert 2.0 < back <= 3.0


def test_a_share_that_is_not_back_in_a_whole_window_is_not_back():
    times = [number / 10 for number in range(200)]
    chosen = [time >= 18.5 for time in times]
    assert settled(times, chosen, 10.0, lambda share: share >= 0.8) is None
    assert settled([], [], 10.0, lambda share: share >= 0.8) is None


def test_a_backend_is_avoided_after_the_last_request_that_it_got():
    times = [number / 10 for number in range(200)]
    early = [time in (9.0, 10.2, 10.4, 15.0) for time in times]
    assert avoided(times, early, 10.0, 0.05) == pytest.approx(0.4)
    assert avoided(times, [False] * 200, 10.0, 0.05) == 0.0
    assert avoided(times, [number % 5 == 0 for number in range(200)], 10.0, 0.05) is None
