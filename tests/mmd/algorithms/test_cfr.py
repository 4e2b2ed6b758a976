"""CFR, CFR+, DCFR, PCFR+ and PDCFR+ against a walk over histories, known curves, regret bounds and hand calculations.

The curves (exploitability after 100, 1,000 and 10,000 iterations) are those of an independent SciPy sequence-form
implementation of each method; the numbers fix the conventions, since every other order of the players, average or start
of the weights misses them.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import games
import mmd
from games import kuhn_poker, matrix
from games.compile import CHANCE, TERMINAL
from mmd import algorithms
from mmd.algorithms._host_dcfr import HostDiscountedCFR
from mmd.algorithms.contract import Algorithm
from mmd.command.cli import main
from mmd.game import treeplex
from mmd.game.policy import Policy, as_log, normalized
from mmd.measure.run_directory import load_result
from tests.games.poker_rules import KuhnPoker
from tests.mmd.algorithms.plays import by_infoset

FAMILY = ("cfr", "cfr+", "dcfr", "pcfr+", "pdcfr+")
PLAYERS = (0, 1)
AVERAGE, LAST = 0, 1  # in what `exploitabilities` returns
BIASED_RPS = [[0, -1, 3], [1, 0, -1], [-3, 1, 0]]
# RM+ circles here, with alternating updates as well (Cai et al., arXiv:2311.00676). Its value is 1/4.
CIRCLING = [[3, 0, -3], [0, 3, -4], [0, 0, 1]]


def exploitabilities(game: mmd.Game, name: str, iterations: Iterable[int]) -> dict[int, tuple[float, float]]:
    """Iteration -> certified exploitability of the average and of the last iterate, from uniform play."""
    algorithm = algorithms.load(name)()
    advance = jax.jit(
        lambda state, until: jax.lax.while_loop(lambda s: s.iteration < until, lambda s: algorithm.step(game, s), state)
    )
    state, found = start_of(game, algorithm), {}
    for iteration in iterations:
        state = advance(state, iteration)
        seats = jax.device_get(state.seats)
        # 1e-300 makes unreached infosets uniform and moves nothing else
        average = (normalized(seat.average + 1e-300, t) for seat, t in zip(seats, game.players, strict=True))
        last = (seat.policy for seat in seats)
        found[iteration] = tuple(mmd.certify(game, tuple(pair)).exploitability for pair in (average, last))
    return found


def start_of(game: mmd.Game, algorithm: Algorithm) -> Any:
    """The state at uniform play."""
    return algorithm.init(game, tuple(jnp.asarray(player.uniform()) for player in game.players))


def after(game: mmd.Game, algorithm: Algorithm, steps: int, start: mmd.Policy | None = None) -> dict[str, list[float]]:
    """Policy of a matrix game after some steps: player -> probabilities."""
    solution = mmd.solve(game, algorithm, tolerance=0.0, max_iterations=steps, start=start)
    return dict(zip(("row", "column"), (p[1:] for p in solution.policy.probabilities), strict=True))


# ---------------------------------------------------------------- an oracle that walks histories


class Method(NamedTuple):
    """What tells the methods apart, written once more: R from (R, r, t), what is matched, the order, the weights."""

    accumulate: Callable[[np.ndarray, np.ndarray, int], np.ndarray]
    match: Callable[[np.ndarray, np.ndarray, int], np.ndarray]
    simultaneous: bool
    power: int


def plus(total: np.ndarray, r: np.ndarray, t: int) -> np.ndarray:
    return np.maximum(total + r, 0)


def discounted(total: np.ndarray, r: np.ndarray, t: int) -> np.ndarray:
    return np.where(total + r > 0, (total + r) * t**1.5 / (t**1.5 + 1), (total + r) / 2)


def discounted_plus(total: np.ndarray, r: np.ndarray, t: int) -> np.ndarray:
    """After iteration t; before iteration 1 there is nothing to discount."""
    return np.maximum(total / (1 + (t - 1) ** -2.3) + r, 0) if t > 1 else np.maximum(r, 0)


METHODS = {
    "cfr": Method(lambda total, r, t: total + r, lambda total, r, t: total, simultaneous=True, power=0),
    "cfr+": Method(plus, lambda total, r, t: total, simultaneous=False, power=1),
    "dcfr": Method(discounted, lambda total, r, t: total, simultaneous=False, power=2),
    "pcfr+": Method(plus, plus, simultaneous=False, power=2),
    # What is matched is what the same rule would accumulate if r came again.
    "pdcfr+": Method(discounted_plus, lambda total, r, t: discounted_plus(total, r, t + 1), False, power=5),
}


class Walker:
    """CFR as Zinkevich et al. wrote it: counterfactual values by recursion over the histories of Kuhn poker."""

    def __init__(self, method: Method) -> None:
        self.method, self.rules = method, KuhnPoker(3)
        self.policy: dict[str, np.ndarray] = {}
        self.regrets: dict[str, np.ndarray] = {}
        self.summed: dict[str, np.ndarray] = {}

    def iterate(self, t: int) -> None:
        before = dict(self.policy)
        for player in PLAYERS:
            shown = before | {k: v for k, v in self.policy.items() if not self.method.simultaneous}
            observed: dict[str, np.ndarray] = {}
            self.value(player, self.rules.initial(), 1.0, shown, observed)
            for label, r in observed.items():
                self.regrets[label] = self.method.accumulate(self.regrets.get(label, np.zeros(2)), r, t)
                target = np.maximum(self.method.match(self.regrets[label], r, t), 0)
                self.policy[label] = target / target.sum() if target.any() else np.full(2, 0.5)
            self.add(player, self.rules.initial(), 1.0, t**self.method.power, set())

    def value(self, player: int, state: object, others: float, shown: dict, observed: dict) -> float:
        """Value to `player`; adds `others` (chance's and the opponent's reach) times the regrets to `observed`."""
        who = self.rules.player(state)
        if who == TERMINAL:
            return self.rules.utility(state)[player]
        if who == CHANCE:
            return sum(
                p * self.value(player, self.rules.next(state, outcome), others * p, shown, observed)
                for outcome, p in self.rules.chance(state)
            )
        label, actions = self.rules.infoset(state), self.rules.actions(state)
        policy = shown.get(label, np.full(2, 0.5))
        reach = [others if who == player else others * p for p in policy]
        values = np.array(
            [
                self.value(player, self.rules.next(state, action), r, shown, observed)
                for action, r in zip(actions, reach, strict=True)
            ]
        )
        if who == player:
            regret = others * (values - policy @ values)
            observed[label] = observed.get(label, np.zeros(2)) + regret
        return float(policy @ values)

    def add(self, player: int, state: object, own: float, weight: float, seen: set[str]) -> None:
        """Add the player's reach times its policy to the sums, once an infoset."""
        who = self.rules.player(state)
        if who == TERMINAL:
            return
        moves = self.rules.actions(state) if who != CHANCE else [outcome for outcome, _ in self.rules.chance(state)]
        reach = np.full(len(moves), own)
        if who == player:
            label = self.rules.infoset(state)
            reach = own * self.policy[label]
            if label not in seen:
                self.summed[label] = self.summed.get(label, np.zeros(2)) + weight * reach
            seen.add(label)
        for move, r in zip(moves, reach, strict=True):
            self.add(player, self.rules.next(state, move), r, weight, seen)

    def average(self) -> dict[str, np.ndarray]:
        return {label: s / s.sum() if s.any() else np.full(2, 0.5) for label, s in self.summed.items()}


@pytest.mark.parametrize("name", FAMILY)
def test_ten_iterations_are_those_of_a_walk_over_histories(name: str) -> None:
    """From a random start: from uniform play regrets tie exactly, and rounding would decide."""
    game, oracle, algorithm = kuhn_poker.game(), Walker(METHODS[name]), algorithms.load(name)()
    step, policy = jax.jit(algorithm.step), jax.jit(algorithm.policy)
    start = as_log(Policy.random(game, seed=3))
    oracle.policy = by_infoset(game, start)
    state = algorithm.init(game, tuple(jnp.asarray(log) for log in start))
    for t in range(1, 11):
        oracle.iterate(t)
        state = step(game, state)
        average = by_infoset(game, policy(game, state).log_policy)
        last = by_infoset(game, tuple(np.asarray(jnp.log(seat.policy)) for seat in state.seats))
        assert len(average) == len(oracle.policy) == 12
        for label, expected in oracle.average().items():
            np.testing.assert_allclose(average[label], expected, rtol=0, atol=1e-12, err_msg=f"average {label} at {t}")
            np.testing.assert_allclose(
                last[label], oracle.policy[label], rtol=0, atol=1e-12, err_msg=f"last {label} at {t}"
            )


# ---------------------------------------------------------------- known curves: tolerances are the digits known


def test_cfr_on_kuhn_poker() -> None:
    found = exploitabilities(kuhn_poker.game(), "cfr", (100, 1_000, 10_000))
    for iteration, average in {100: 0.024208, 1_000: 0.0071092, 10_000: 0.0022952}.items():
        np.testing.assert_allclose(found[iteration][AVERAGE], average, rtol=2.5e-5)


def test_cfr_plus_on_kuhn_poker() -> None:
    found = exploitabilities(kuhn_poker.game(), "cfr+", (100, 1_000, 10_000))
    for iteration, average, last in ((100, 1.2840e-3, 0.0406), (1_000, 7.408e-5, 0.0194), (10_000, 9.717e-6, 0.00854)):
        np.testing.assert_allclose(found[iteration][AVERAGE], average, rtol=7e-5)
        np.testing.assert_allclose(found[iteration][LAST], last, rtol=3e-3)


def test_predictive_cfr_plus_on_kuhn_poker() -> None:
    found = exploitabilities(kuhn_poker.game(), "pcfr+", (100, 1_000, 10_000))
    np.testing.assert_allclose(found[1_000][AVERAGE], 1.76e-8, rtol=3e-3)
    np.testing.assert_allclose(found[10_000][AVERAGE], 1.8e-11, rtol=0.03)
    np.testing.assert_allclose(found[100][LAST], 9e-13, rtol=0.06)


def test_predictive_discounted_cfr_plus_on_kuhn_poker() -> None:
    """Once the last iterate has arrived, only the early iterates' share of the average errs: it falls as t^-6."""
    found = exploitabilities(kuhn_poker.game(), "pdcfr+", (100, 1_000))
    assert found[1_000][LAST] < 1e-15
    assert found[1_000][AVERAGE] < 1e-12  # PCFR+ is at 1.8e-8
    np.testing.assert_allclose(found[1_000][AVERAGE] / found[100][AVERAGE], 1e-6, rtol=0.05)


def test_cfr_on_leduc_poker() -> None:
    found = exploitabilities(games.load("leduc_poker"), "cfr", (100, 1_000))
    np.testing.assert_allclose(found[100][AVERAGE], 0.16507, rtol=5e-5)
    np.testing.assert_allclose(found[1_000][AVERAGE], 0.039123, rtol=5e-5)


def test_cfr_plus_on_leduc_poker() -> None:
    found = exploitabilities(games.load("leduc_poker"), "cfr+", (100, 1_000))
    np.testing.assert_allclose(found[100][AVERAGE], 0.013183, rtol=5e-5)
    np.testing.assert_allclose(found[100][LAST], 0.0482, rtol=2e-3)
    # From here on rounding decides ties: with payoffs changed by 1e-15 five runs ended between 2.39e-4 and 2.52e-4, an
    # independent program at 2.4393e-4.
    np.testing.assert_allclose(found[1_000][AVERAGE], 2.4393e-4, rtol=0.1)


def test_predictive_cfr_plus_on_leduc_poker() -> None:
    found = exploitabilities(games.load("leduc_poker"), "pcfr+", (100, 1_000))
    np.testing.assert_allclose(found[100], (0.0192616864, 0.155717552), rtol=1e-6)
    # From here on rounding decides ties: with payoffs changed by 1e-15 five runs ended between 7.313e-4 and 7.358e-4,
    # an independent program at 7.31e-4.
    np.testing.assert_allclose(found[1_000][AVERAGE], 7.31e-4, rtol=0.02)
    np.testing.assert_allclose(found[1_000][LAST], 0.0413, rtol=5e-3)


# ---------------------------------------------------------------- matrix games


@pytest.mark.parametrize("seed", range(3))
def test_regret_matching_keeps_its_bound(seed: int) -> None:
    """The average after T: NashConv <= D (sqrt m + sqrt n) sqrt(T + 1) / T + 2 D / T, D the range of payoffs.

    Hart & Mas-Colell's potential bounds the regret of T + 1 plays by D sqrt(m (T + 1)); leaving the first play out of
    the average costs each player at most D.
    """
    m, n = 4 + 3 * seed, 9 - 2 * seed
    game = matrix.game(np.random.default_rng(seed).uniform(-1, 1, (m, n)))
    trace = mmd.solve(game, algorithms.load("cfr")(), tolerance=0.0, max_iterations=5_000).trace
    t = trace["iteration"][1:]
    bound = ((np.sqrt(m) + np.sqrt(n)) * np.sqrt(t + 1) + 2) / t * game.description.payoff_range
    assert (trace["nash_conv"][1:] <= bound).all()


@pytest.mark.parametrize("name", FAMILY)
def test_one_step_by_hand(name: str) -> None:
    """From uniform play A y = (2, 0, -2)/3, so the row player's regrets are (2, 0, -2)/3.

    Simultaneously, -A^T x = (2, 0, -2)/3. Against the row's new (1, 0, 0) it is (0, 1, -3), and the column player's
    regrets are (2, 5, -7)/3. Discount and prediction only scale them.
    """
    found = after(matrix.game(BIASED_RPS), algorithms.load(name)(), 1)
    np.testing.assert_allclose(found["row"], (1, 0, 0), rtol=0, atol=1e-15)
    column = (1, 0, 0) if name == "cfr" else (2 / 7, 5 / 7, 0)
    np.testing.assert_allclose(found["column"], column, rtol=0, atol=1e-15)


def test_the_start_is_replied_to_and_not_averaged() -> None:
    """Against y = (6, 1, 1)/8, A y = (2, 5, -17)/8; from x = (1, 1, 2)/4 the regrets are (35, 47, -41)/32."""
    game = matrix.game(BIASED_RPS)
    start = Policy(game, (np.array([1, 1 / 4, 1 / 4, 1 / 2]), np.array([1, 3 / 4, 1 / 8, 1 / 8])))
    found = after(game, algorithms.load("cfr+")(), 1, start)
    np.testing.assert_allclose(found["row"], (35 / 82, 47 / 82, 0), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", FAMILY)
def test_the_scale_of_payoffs_does_not_matter(name: str) -> None:
    """Regret matching is a function of ratios; a power of two leaves every digit."""
    payoffs = np.random.default_rng(5).uniform(-1, 1, (6, 5))
    one, other = (after(matrix.game(scale * payoffs), algorithms.load(name)(), 300) for scale in (1.0, 2.0**-30))
    np.testing.assert_array_equal(one["row"], other["row"])
    np.testing.assert_array_equal(one["column"], other["column"])


def test_the_average_converges_where_the_last_iterate_circles() -> None:
    trace = mmd.solve(
        matrix.game(CIRCLING), algorithms.load("cfr+")(iterate="last"), tolerance=0.0, max_iterations=50_000
    ).trace
    late = trace["iteration"] > 25_000
    assert trace["exploitability"][late].min() > 0.01
    assert trace["average_exploitability"][late].max() < 1e-3


@pytest.mark.parametrize("name", FAMILY)
def test_averages_reach_the_value(name: str) -> None:
    solution = mmd.solve(matrix.game(CIRCLING), algorithms.load(name)(), tolerance=2e-2)
    assert solution.converged
    assert solution.iterate == "average"
    assert solution.gradient_evaluations == solution.iterations > 0
    np.testing.assert_allclose(
        solution.value, 1 / 4, rtol=0, atol=4e-2
    )  # the value is within NashConv of the equilibrium's


# ---------------------------------------------------------------- the contract


def test_deep_trees_take_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Padded levels, with missing infosets and actions, change nothing."""
    game, algorithm = games.load("leduc_poker"), algorithms.load("cfr")()

    def policies() -> Iterator[np.ndarray]:
        state, step = start_of(game, algorithm), jax.jit(lambda state: algorithm.step(game, state))
        for _ in range(3):
            state = step(state)
        return (seat.policy for seat in state.seats)

    unrolled = tuple(policies())
    monkeypatch.setattr(treeplex, "MAX_UNROLLED_LEVELS", 0)
    for expected, found in zip(unrolled, policies(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_float32_follows_float64() -> None:
    solution = mmd.solve(
        kuhn_poker.game(), algorithms.load("cfr+")(), dtype="float32", tolerance=0.0, max_iterations=100
    )
    np.testing.assert_allclose(solution.exploitability, 1.2840e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("chosen", "message"), [({"averaging": -1.0}, "averaging >= 0"), ({"iterate": "best"}, "'average' or 'last'")]
)
def test_refusals(chosen: dict, message: str) -> None:
    with pytest.raises(mmd.GameError, match=message):
        mmd.solve(kuhn_poker.game(), algorithms.load("cfr+")(**chosen))


def test_compare_draws_them_beside_the_default(tmp_path) -> None:
    line = ["compare", "kuhn_poker", "--algorithms", "auto,cfr+,pcfr+", "--max-iterations", "200", "--quiet"]
    assert main([*line, "--out", str(tmp_path)]) == 0
    assert [load_result(tmp_path / name)["iterate"] for name in ("cfr+", "pcfr+")] == ["average", "average"]
    assert (tmp_path / "compare.png").is_file()


@pytest.mark.parametrize("name", ["kuhn_poker", "leduc_poker"])
def test_discounted_cfr_on_the_host_takes_the_compiled_steps(name: str) -> None:
    """Policies after 25 iterations are those of `dcfr`, from which every other order or weight differs by 1e-3."""
    game = games.load(name)
    host = mmd.solve(game, HostDiscountedCFR(), tolerance=0.0, max_iterations=25, check_every=25)
    compiled = mmd.solve(game, algorithms.load("dcfr")(), tolerance=0.0, max_iterations=25)
    assert (host.iterations, host.gradient_evaluations, host.iterate) == (25, 25, "average")
    assert host.status is mmd.Status.ITERATION_LIMIT
    np.testing.assert_allclose(host.exploitability, compiled.exploitability, rtol=1e-9)
    for mine, theirs in zip(host.policy.probabilities, compiled.policy.probabilities, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-9)


def test_discounted_cfr_on_the_host_ends_when_it_may() -> None:
    game = games.load("leduc_poker")
    found = mmd.solve(game, HostDiscountedCFR(), tolerance=1e-2)
    assert found.converged
    assert 1e-3 < found.exploitability <= 1e-2
    assert abs(found.value + 0.085606424078) <= 2e-2
    stopped = mmd.solve(game, HostDiscountedCFR(), tolerance=1e-9, max_iterations=7)
    assert (stopped.status, stopped.iterations) == (mmd.Status.ITERATION_LIMIT, 7)
