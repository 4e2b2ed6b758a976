"""What preference-game methods do on a 3-cycle with known equilibrium (4, 3, 4) / 11, to the printed digits.

The numbers are those of an independent NumPy float64 implementation; none of the methods floors probabilities. The
start, and the magnet where there is one, is (.6, .3, .1): KL to the equilibrium .2613550, gap .4. Gap is NashConv.
"""

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest

import mmd
from games import preference
from mmd import algorithms
from tests.selfplay import CYCLE, LOG_START, MARGINS, NASH, START, gap, iterates, kl, regularized_equilibrium


@cache
def path(name: str, **numbers: Any) -> np.ndarray:
    """10,000 last iterates; `every` is a magnet that is refreshed, from the start."""
    every = numbers.pop("every", None)
    magnet = {} if every is None else {"magnet": mmd.Refresh(every=every, center=LOG_START)}
    rows, columns = iterates(CYCLE, algorithms.load(name)(**numbers, **magnet), 10_000)
    np.testing.assert_array_equal(rows, columns)  # self-play: one policy, to the last bit
    return rows


def check(found: float, printed: str) -> None:
    """As many digits as are printed, and half a unit of the last."""
    digits, _, exponent = printed.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))
    np.testing.assert_allclose(found, float(printed), rtol=0, atol=0.51 * unit, err_msg=printed)


def test_the_start() -> None:
    check(kl(NASH, START), "0.2613550")
    check(gap(MARGINS, START), "0.4")


@pytest.mark.parametrize(("alpha", "printed"), [(0.5, "0.0675391"), (0.1, "0.0244898"), (0.05, "0.0108152")])
def test_a_fixed_uniform_magnet_is_biased(alpha: float, printed: str) -> None:
    """Fact 32, second half (the first is in test_qre): gap of the regularized equilibrium <= 2 alpha log 3."""
    found = regularized_equilibrium(MARGINS, np.full(3, 1 / 3), alpha)
    check(gap(MARGINS, found), printed)
    assert gap(MARGINS, found) <= 2 * alpha * np.log(3)
    inpo = algorithms.load("inpo")(eta=0.05, alpha=alpha)
    np.testing.assert_allclose(iterates(CYCLE, inpo, 20_000)[0][-1], found, rtol=0, atol=1e-12)


def test_magnetic_mirror_descent_towards_the_regularized_equilibrium() -> None:
    """Fact 33: KL to it at alpha = eta = .1, below the theorem's bound."""
    magnet = {"magnet": mmd.Fixed(LOG_START)}
    found = iterates(CYCLE, algorithms.load("mpo")(eta=0.1, alpha=0.1, **magnet), 1000)[0]
    np.testing.assert_allclose(found[1], [0.59462684, 0.30597388, 0.09939928], rtol=0, atol=6e-9)
    target = regularized_equilibrium(MARGINS, START, 0.1)
    start = kl(target, START)
    for k, printed, bound in [
        (1, "0.2063379", "0.2082587"),
        (10, "0.1740817", "0.1904192"),
        (100, "0.0333143", "0.0777655"),
        (1000, "8.22e-10", "1.0e-5"),
    ]:
        check(kl(target, found[k]), printed)
        check(start * 1.01**-k, bound)


def test_mirror_descent_circles_and_its_average_converges() -> None:
    """Fact 34: multiplicative weights, eta = .1."""
    found = path("self-play", eta=0.1)
    for k, last, average in [
        (10, "0.356", "0.3813"),
        (100, "0.381", "0.2387"),
        (1000, "0.202", "0.02874"),
        (10_000, "0.376", "0.002941"),
    ]:
        check(gap(MARGINS, found[k]), last)
        check(gap(MARGINS, found[:k].mean(axis=0)), average)


@pytest.mark.parametrize(
    ("eta", "alpha", "every", "printed"),
    [
        (0.1, 0.1, 100, ("0.301", "0.024", "2.2e-7", "5.5e-14")),
        (0.1, 0.1, 1000, ("0.301", "0.157", "0.00704", "5.7e-5")),
        (0.4, 0.1, 100, ("0.167", "1.3e-4", None, None)),
        (1.0, 0.25, 50, ("0.245", "0.0019", "1.3e-12", None)),
        (2.0, 0.5, 20, ("0.279", "0.0068", "8e-10", None)),
    ],
)
def test_a_refreshed_magnet_reaches_the_original_equilibrium(
    eta: float, alpha: float, every: int, printed: tuple[str | None, ...]
) -> None:
    """Fact 35, after 100, 1,000, 5,000 and 10,000 steps; where nothing is printed rounding decides, below 1e-15."""
    found = path("mpo", eta=eta, alpha=alpha, every=every)
    for k, digits in zip((100, 1000, 5000, 10_000), printed, strict=True):
        if digits is None:
            assert gap(MARGINS, found[k]) < 1e-15
        elif float(digits) > 1e-9:
            check(gap(MARGINS, found[k]), digits)
        else:
            np.testing.assert_allclose(gap(MARGINS, found[k]), float(digits), rtol=0.06)


def test_refreshed_every_step_it_is_mirror_descent_and_diverges() -> None:
    """Fact 35, K = 1: the same iterates as mirror descent with step eta / (1 + eta alpha), ever further away."""
    found = path("mpo", eta=2.0, alpha=0.5, every=1)
    for k, printed in [(100, "0.69"), (1000, "0.80"), (5000, "0.80")]:  # at 10,000 rounding decides
        check(gap(MARGINS, found[k]), printed)
    distances = [kl(NASH, found[k]) for k in range(0, 10_001, 1000)]
    assert all(after > before for before, after in itertools.pairwise(distances))
    mirror = iterates(CYCLE, algorithms.load("self-play")(eta=2.0 / (1 + 2.0 * 0.5)), 200)[0]
    np.testing.assert_allclose(found[:201], mirror, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("alpha", "known"),
    [
        (
            0.5,
            {
                1: ("0.2932", "0.2269"),
                5: ("0.279", "0.1327"),
                10: ("0.1891", "0.0657"),
                20: ("0.0885", "0.01465"),
                50: ("0.00682", "1.2e-4"),
            },
        ),
        (
            0.1,
            {1: ("0.1569", "0.0510"), 5: ("0.00703", "6.1e-5"), 10: ("5.7e-5", "1.4e-8"), 20: ("2.0e-8", None)},
        ),
    ],
)
def test_exact_conceptual_prox(alpha: float, known: dict) -> None:
    """Fact 36: gap and KL to the equilibrium after n magnets; KL falls every time, the gap need not."""
    magnet, distances, gaps = START, [kl(NASH, START)], [gap(MARGINS, START)]
    for _ in range(max(known)):
        magnet = regularized_equilibrium(MARGINS, magnet, alpha)
        distances.append(kl(NASH, magnet))
        gaps.append(gap(MARGINS, magnet))
    for n, (gap_digits, kl_digits) in known.items():
        check(gaps[n], gap_digits)
        if kl_digits is not None:
            check(distances[n], kl_digits)
    assert all(after <= before + 1e-15 for before, after in itertools.pairwise(distances))
    assert (np.array(gaps[1:]) <= 2 * alpha * kl_reach(START)).all()


def kl_reach(magnet: np.ndarray) -> float:
    """The largest KL of a strategy to the magnet."""
    return float(np.log(1 / magnet.min()))


@pytest.mark.parametrize(
    ("eta", "printed"),
    [
        (0.1, ("0.37", "0.37", "0.0525")),
        (0.5, ("0.198", "0.00121", None)),
        (1.0, ("0.0531", "2.3e-11", None)),
    ],
)
def test_optimistic_multiplicative_weights(eta: float, printed: tuple[str | None, ...]) -> None:
    """Fact 37, after 100, 1,000 and 10,000 steps."""
    found = path("omwu", eta=eta)
    for k, digits in zip((100, 1000, 10_000), printed, strict=True):
        if digits is None:
            assert gap(MARGINS, found[k]) < 1e-15
        elif float(digits) > 1e-9:
            check(gap(MARGINS, found[k]), digits)
        else:
            np.testing.assert_allclose(gap(MARGINS, found[k]), float(digits), rtol=0.03)


@pytest.mark.parametrize(("eta", "printed"), [(0.5, ("0.197", "0.0014")), (1.0, ("0.0597", "2.8e-10"))])
def test_mirror_prox(eta: float, printed: tuple[str, str]) -> None:
    """Fact 37: extragradient with a constant step, two evaluations each."""
    algorithm = algorithms.load("extragradient")(eta=eta, adaptive=False)
    start = mmd.Policy.from_log(CYCLE, LOG_START)
    trace = mmd.solve(CYCLE, algorithm, tolerance=0.0, max_iterations=1000, start=start).trace
    at = dict(zip(trace["iteration"].tolist(), trace["nash_conv"].tolist(), strict=True))
    for k, digits in zip((100, 1000), printed, strict=True):
        np.testing.assert_allclose(at[k], float(digits), rtol=0.04)


def test_inpo_stalls_where_nash_md_and_egpo_do() -> None:
    """Every method with a fixed magnet ends at the regularized equilibrium, whose gap in the original game is .157."""
    target = regularized_equilibrium(MARGINS, START, 0.1)
    for name, numbers in [("inpo", {"eta": 0.5}), ("egpo", {"eta": 0.5}), ("online-ipo", {"eta": 1.0})]:
        magnet = {"magnet": mmd.Fixed(LOG_START)}
        found = iterates(CYCLE, algorithms.load(name)(alpha=0.1, **numbers, **magnet), 6000)[0]
        np.testing.assert_allclose(found[-1], target, rtol=0, atol=1e-9, err_msg=name)
    check(gap(MARGINS, target), "0.156919")


@pytest.mark.parametrize("alpha", [0.1, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_nash_md_and_inpo_keep_their_published_bounds(alpha: float, seed: int) -> None:
    """Theorem 1 of Nash-MD and Theorem 4 of INPO, from the magnet, at every step."""
    rng = np.random.default_rng(seed)
    above = np.triu(rng.uniform(-0.5, 0.5, (6, 6)), 1)
    game, magnet = preference.game(0.5 + above - above.T), rng.dirichlet(np.ones(6))
    start = tuple(np.log(np.concatenate([[1.0], magnet])) for _ in range(2))
    target = regularized_equilibrium(above - above.T, magnet, alpha)
    t = np.arange(1, 2001)
    for name, bound in (("nash-md", 8 / (alpha**2 * (t + 1))), ("inpo", None)):
        algorithm = algorithms.load(name)(alpha=alpha, magnet=mmd.Fixed(start))
        found = iterates(game, algorithm, 2000, start)[0][1:]
        if bound is None:
            largest = np.abs(np.log(found / magnet)).max()
            bound = 32 * max(largest * alpha, 1.0) ** 2 / (alpha**2 * (t + 1))
        distances = np.array([kl(target, x) for x in found])
        assert (distances <= bound).all(), name
        assert distances[-1] < 0.02 * distances[0], name
