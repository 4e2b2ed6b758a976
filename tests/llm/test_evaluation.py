"""Standard errors over clusters, and win rates among answers of the same length, against known values."""

import math

import numpy as np
import pytest

import llm_bridge as bridge
from llm_bridge.evaluation import matched, nash, tournament
from llm_bridge.intervals import clustered
from llm_bridge.judges.callable import PairFunction


def test_a_clustered_error_is_that_of_the_clusters() -> None:
    """Clusters of one case: the mean's error. A case repeated within its cluster tells nothing new."""
    values = [0.2, 0.9, 0.4, 0.4, 0.7]
    mean, error = clustered(values, [1] * 5)
    assert mean == pytest.approx(0.52, abs=1e-12)
    assert error == pytest.approx(np.std(values, ddof=1) / math.sqrt(5), abs=1e-12)
    assert clustered([3 * v for v in values], [3] * 5) == pytest.approx((mean, error), abs=1e-12)
    assert clustered([*values, 0.0], [1] * 5 + [0]) == (mean, error)
    # Two clusters, 1 of 1 and 0 of 3: mean 1/4, residuals 3/4 and -3/4, error sqrt(2 (9/16 + 9/16)) / 4.
    assert clustered([1, 0], [1, 3]) == pytest.approx((0.25, 0.375), abs=1e-12)
    assert math.isnan(clustered([0.5], [1])[1])
    assert all(map(math.isnan, clustered([], [])))


@pytest.mark.parametrize(
    ("lengths", "alike"),
    [((10, 13), True), ((10, 14), False), ((40, 44), True), ((40, 45), False), ((0, 3), True), ((50, 50), True)],
)
def test_lengths_match_within_a_tenth_or_three_units(lengths: tuple[int, int], alike: bool) -> None:
    same = matched(len)
    a, b = ("x" * n for n in lengths)
    assert same(a, b) is alike
    assert same(b, a) is alike


def test_a_judge_of_length_alone_is_undecided_where_lengths_match() -> None:
    """The longer answer wins by its length, so of three pairs the two that match are ties or nearly so."""
    answers = {"short": [["a" * 10], ["b" * 10], ["c" * 10]], "long": [["a" * 40], ["b" * 10], ["c" * 12]]}
    judge = PairFunction(lambda prompt, a, b: 0.5 + (len(a) - len(b)) / 100)
    found = tournament(judge, ["x", "y", "z"], answers, alike=matched(len))
    assert found.wins[1, 0] == pytest.approx((0.8 + 0.5 + 0.52) / 3, abs=1e-12)
    assert found.error[0, 1] == pytest.approx(np.std([0.8, 0.5, 0.52], ddof=1) / math.sqrt(3), abs=1e-12)
    assert found.similar[1, 0] == pytest.approx(0.51, abs=1e-12)
    assert found.similar[0, 1] == pytest.approx(0.49, abs=1e-12)
    assert found.similar_frac[0, 1] == pytest.approx(2 / 3, abs=1e-12)
    assert found.similar_error[1, 0] == pytest.approx(0.01, abs=1e-12)
    assert set(found.as_dict()) >= {"error", "similar_error"}


CYCLE = {("a", "b"): 0.1, ("b", "c"): 0.1, ("a", "c"): 0.8}


def cyclic(prompt: str, a: str, b: str) -> float:
    return CYCLE[a, b] if (a, b) in CYCLE else 1 - CYCLE[b, a] if (b, a) in CYCLE else 0.5


def test_a_cycle_of_models_has_the_lottery_that_is_known() -> None:
    """P[b > a] = P[c > b] = .9, P[a > c] = .8: the Nash lottery is (4, 3, 4) / 11, and no model is the best."""
    found = tournament(PairFunction(cyclic), ["p"] * 50, {name: [[name]] * 50 for name in "abc"})
    np.testing.assert_allclose(list(found.lottery.values()), np.array([4, 3, 4]) / 11, rtol=0, atol=1e-9)
    assert found.exploitability < 1e-12
    assert found.wins[1, 0] == pytest.approx(0.9)
    assert found.low[1, 0] < 0.9 < found.high[1, 0]
    np.testing.assert_allclose(found.low + found.high.T, np.where(np.eye(3), np.nan, 1), rtol=0, atol=1e-12)
    assert found.order_flip_frac == 0
    assert nash(np.array([[0.5, 0.6], [0.4, 0.5]]), "xy")[0] == pytest.approx({"x": 1, "y": 0}, abs=1e-9)


def test_position_ties_failures_and_length_in_a_tournament() -> None:
    answers = {"short": [["aa"], ["aaaa"]], "long": [["aaaaaaaa"], ["aaaab"]]}
    first = tournament(lambda p, a, b: np.ones(len(a)), ["x", "y"], answers)
    assert (first.wins == 0.5).all()  # R11: who always takes the first says nothing
    assert first.order_flip_frac == 1
    longer = tournament(PairFunction(lambda p, a, b: 0.5 + 0.5 * np.sign(len(a) - len(b))), ["x", "y"], answers)
    assert longer.wins[1, 0] == 1
    assert longer.similar_frac[1, 0] == 0.5
    assert longer.lengths["short"]["mean"] == 3
    some = tournament(PairFunction(lambda p, a, b: None if p == "x" else float(len(a) > len(b))), ["x", "y"], answers)
    assert (some.wins[1, 0], some.failed_frac) == (1, 0.5)
    with pytest.raises(bridge.BridgeError, match=r"every comparison of .* has failed"):
        tournament(PairFunction(lambda *_: None), ["x", "y"], answers)
