"""Lines through measured points, and what is said of sizes beyond them."""

import pytest
from bench import fit
from hypothesis import given
from hypothesis import strategies as st

NUMBERS = st.integers(1, 10**6)


@given(NUMBERS, NUMBERS, st.lists(st.integers(0, 10**4), min_size=2, unique=True))
def test_a_line_is_found_again(start, slope, sizes):
    found = fit.line([(x, start + slope * x) for x in sizes])
    assert found[:2] == pytest.approx((start, slope), rel=1e-4, abs=start * 1e-4)
    assert found[2] < 1e-4


def test_a_cost_does_not_fall_with_the_size_of_an_estate():
    start, slope, worst = fit.line([(16, 1.66), (50, 1.51), (100, 1.57)])
    assert slope == 0 and 1.5 < start < 1.7 and worst < 0.1
    assert fit.at([(16, 1.66), (50, 1.51), (100, 1.57)], 5000)[0] == start


def test_a_small_size_counts_as_much_as_a_large_one():
    start, _, worst = fit.line([(1, 1), (10, 10), (100, 200)])
    # The largest alone would draw the line to less than nothing at the smallest.
    assert -0.5 < start < 0.5 and worst < 0.5


@pytest.mark.parametrize("points", [[], [(1, 1)], [(1, 1), (1, 2)], [(1, 1), (2, 0)]])
def test_what_gives_no_line_is_an_error(points):
    with pytest.raises(ValueError, match="no line"):
        fit.line(points)


def test_what_was_measured_is_told_as_it_was():
    points = [(2, 10.0), (50, 70.0), (500, 510.0)]
    assert fit.at(points, 50) == (70.0, True)
    value, known = fit.at(points, 5000)
    assert not known and 4500 < value < 6500


def test_a_ratio_is_that_of_medians():
    rows = [{"n": 1, "seconds": [9, 10, 30]}, {"n": 2, "seconds": [15, 5, 14, 16]}]
    assert [row["ratio"] for row in fit.ratios(rows)] == [1.0, 1.45]
    assert [row["seconds"] for row in fit.ratios(rows)] == [[9, 10, 30], [15, 5, 14, 16]]
