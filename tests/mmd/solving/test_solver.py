"""solve(): statuses, limits, one compile for a sweep, and that nothing is claimed that the certificate does not bear
out."""

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import games
import mmd
from games import kuhn_poker
from mmd.algorithms import load
from mmd.algorithms.contract import describe
from mmd.game.game import Game, GameError
from mmd.measure.solution import TRACE_COLUMNS
from mmd.solving import chunk, solver
from tests.claims.reference import BIASED_RPS

ALGORITHMS = [mmd.Auto(), mmd.Anchored(), mmd.MagneticMirrorDescent(eta=0.1, alpha=1.0, magnet=mmd.MovingAverage())]

_CHUNK: Any = chunk.advance


def rps() -> Game:
    return Game.from_matrix(BIASED_RPS)


@contextmanager
def counting_traces() -> Iterator[list[int]]:
    """How many new programs `solve` compiles inside the block."""
    before = _CHUNK._cache_size()
    count = [0]
    yield count
    count[0] = _CHUNK._cache_size() - before


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: a.name)
def test_every_algorithm_finds_the_known_equilibrium(algorithm: mmd.Algorithm) -> None:
    """Biased rock-paper-scissors: (1, 3, 1) / 5 for both, value 0."""
    solution = mmd.solve(rps(), algorithm, tolerance=1e-12)
    assert solution.converged
    assert solution.exploitability <= 1e-12
    assert solution.exploitability == solution.nash_conv / 2
    for probabilities in solution.policy.probabilities:
        np.testing.assert_allclose(probabilities[1:], [0.2, 0.6, 0.2], rtol=0, atol=1e-11)
    np.testing.assert_allclose(solution.value, 0, rtol=0, atol=1e-12)


def test_value_is_in_the_units_of_the_input() -> None:
    game = Game.from_matrix(np.array([[3.0, -1], [-1, 1]]), offset=10.0)
    solution = mmd.solve(game, tolerance=1e-12, polish=False)
    np.testing.assert_allclose(solution.value, 10 + 1 / 3, rtol=0, atol=1e-11)
    np.testing.assert_allclose(solution.trace["value"][-1], 10 + 1 / 3, rtol=0, atol=1e-11)


def test_iteration_limit_is_a_status_and_not_a_success() -> None:
    solution = mmd.solve(kuhn_poker.game(), mmd.Restarted(), tolerance=1e-12, max_iterations=20)
    assert solution.status is mmd.Status.ITERATION_LIMIT
    assert not solution.converged
    assert solution.iterations == 20
    assert solution.exploitability > 1e-12


def test_time_limit() -> None:
    algorithm = mmd.MagneticMirrorDescent(alpha=0.5, magnet=mmd.Halpern())
    solution = mmd.solve(rps(), algorithm, tolerance=0.0, time_limit=0.05, max_iterations=10**9)
    assert solution.status is mmd.Status.TIME_LIMIT


def test_fixed_magnet_reports_the_regularized_equilibrium_and_the_exploitability_apart() -> None:
    solution = mmd.solve(rps(), mmd.MagneticMirrorDescent(alpha=0.5), max_iterations=3000)
    assert solution.status is mmd.Status.REGULARIZED
    assert not solution.converged
    assert solution.regularized_gap is not None
    assert solution.regularized_gap <= 1e-12 * solution.game.description.payoff_range
    assert solution.exploitability > 0.1


def test_a_magnet_that_stays_ends_the_run_when_the_iterate_has_arrived() -> None:
    """Kuhn poker at alpha 1: the gap is under 1e-12 after 10 iterations; it used to run on to 100,000."""
    algorithm = mmd.MagneticMirrorDescent(alpha=1.0)
    found = mmd.solve(kuhn_poker.game(), algorithm, tolerance=1e-9)
    assert found.status is mmd.Status.REGULARIZED
    assert found.iterations <= 30
    assert found.regularized_gap is not None
    assert found.regularized_gap <= 1e-12 * found.game.description.payoff_range
    assert found.exploitability > 0.01
    later = mmd.solve(kuhn_poker.game(), algorithm, regularized_tolerance=1e-4, check_every=1)
    assert later.iterations < found.iterations
    assert later.status is mmd.Status.REGULARIZED
    both = mmd.solve(kuhn_poker.game(), algorithm, tolerance=1.0, regularized_tolerance=1.0)
    assert both.converged  # both are reached at once, and the exploitability comes first
    never = mmd.solve(kuhn_poker.game(), algorithm, tolerance=1e-9, regularized_tolerance=0.0, max_iterations=100)
    assert never.iterations == 100


def test_the_device_stops_by_the_regularized_gap_and_not_only_the_host() -> None:
    """A chunk may have 256 rows; the trace ends with the first that has arrived."""
    bound = 1e-7
    found = mmd.solve(rps(), mmd.MagneticMirrorDescent(alpha=0.5), tolerance=0.0, regularized_tolerance=bound)
    gaps = found.trace["regularized_gap"]
    assert len(gaps) > 3
    assert gaps[-1] <= bound < gaps[:-1].min()


@pytest.mark.parametrize("magnet", [mmd.Refresh(every=100), mmd.MovingAverage(rate=0.05), mmd.Halpern()])
def test_a_magnet_that_moves_or_fades_never_ends_a_run_by_its_gap(magnet: mmd.Fixed) -> None:
    algorithm = mmd.MagneticMirrorDescent(alpha=0.1, magnet=magnet)
    found = mmd.solve(games.load("preference:cycle"), algorithm, tolerance=1e-9, max_iterations=110)
    assert found.iterations == 110
    with pytest.raises(mmd.GameError, match="expected a regularized_tolerance only with a magnet that stays"):
        mmd.solve(games.load("preference:cycle"), algorithm, regularized_tolerance=1e-9)


def test_a_regularized_tolerance_without_use_or_out_of_range_is_refused() -> None:
    behavioral = load("mmd-behavioral")(magnet=mmd.Fixed("uniform"))
    for algorithm in (None, load("comal")(), behavioral):
        with pytest.raises(mmd.GameError, match="expected a regularized_tolerance only with a magnet that stays"):
            mmd.solve(rps(), algorithm, regularized_tolerance=1e-9)
    for bad in (-1.0, float("nan")):
        with pytest.raises(mmd.GameError, match="expected a regularized_tolerance >= 0"):
            mmd.solve(rps(), mmd.MagneticMirrorDescent(), regularized_tolerance=bad)


def test_in_float32_a_gap_of_rounding_noise_is_called_so() -> None:
    """The gap falls to about 1e-7 there and below 0; that is no regularized equilibrium to 1e-12."""
    solution = mmd.solve(rps(), mmd.MagneticMirrorDescent(alpha=0.5), dtype="float32", max_iterations=3000)
    assert solution.status is mmd.Status.PRECISION
    wide = mmd.solve(rps(), mmd.MagneticMirrorDescent(alpha=0.5), dtype="float32", regularized_tolerance=1e-4)
    assert wide.status is mmd.Status.REGULARIZED


MOVING = {
    "moving": (mmd.MagneticMirrorDescent(magnet=mmd.MovingAverage(rate=0.05)), 250),
    "refresh": (mmd.MagneticMirrorDescent(magnet=mmd.Refresh(every=200)), 390),
    "comal": (load("comal")(first=1e-12, shrink=0.99), 600),
}


@pytest.mark.parametrize("name", MOVING)
def test_a_regularized_game_whose_magnet_moves_is_no_end(name: str) -> None:
    """The game of now is solved, the original one is not yet; more iterations come closer to it."""
    algorithm, iterations = MOVING[name]
    found, later = (
        mmd.solve(games.load("preference:cycle"), algorithm, tolerance=1e-9, max_iterations=n)
        for n in (iterations, 2 * iterations)
    )
    assert found.status is mmd.Status.MAGNET_MOVING
    assert found.regularized_gap is not None
    assert found.regularized_gap < 1e-9 < found.exploitability
    assert later.exploitability < found.exploitability / 3
    assert "while the magnet was moving" in found.status.value
    assert "allow more iterations" in found.status.value


def test_a_diverging_run_returns_the_last_finite_policy() -> None:
    game = Game.from_matrix(BIASED_RPS * 1e300)
    solution = mmd.solve(game, mmd.MagneticMirrorDescent(eta=1e300, alpha=0.0), max_iterations=100)
    assert solution.status is mmd.Status.NONFINITE
    for probabilities in solution.policy.probabilities:
        assert np.isfinite(probabilities).all()


def test_the_certificate_overrules_a_kind_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the loop's own NashConv were too small, nothing would be called converged."""
    monkeypatch.setattr(
        mmd.MagneticMirrorDescent,
        "policy",
        lambda self, game, state: mmd.algorithms.contract.Candidate(
            state.iterate.log_policy, jnp.zeros(()), jnp.zeros(()), jnp.zeros((), int)
        ),
    )
    _CHUNK.clear_cache()
    solution = mmd.solve(rps(), mmd.MagneticMirrorDescent(alpha=0.5), tolerance=1e-9, max_iterations=50)
    _CHUNK.clear_cache()
    assert not solution.converged
    assert solution.exploitability > 0.1


def test_float32_says_so_and_does_not_certify_below_its_floor() -> None:
    solution = mmd.solve(kuhn_poker.game(), tolerance=1e-12, dtype="float32", polish=False)
    assert solution.dtype == "float32"
    assert solution.status is mmd.Status.PRECISION
    assert not solution.converged
    assert 1e-12 < solution.exploitability < 1e-4
    easy = mmd.solve(kuhn_poker.game(), tolerance=1e-3, dtype="float32", polish=False)
    assert easy.converged
    polished = mmd.solve(kuhn_poker.game(), tolerance=1e-12, dtype="float32")  # in float64, from a float32 iterate
    assert polished.converged
    assert polished.iterate == "polished"


def test_ctrl_c_keeps_the_run_so_far() -> None:
    rows = []

    def interrupt(row: dict[str, float]) -> None:
        rows.append(row)
        if len(rows) == 3:
            raise KeyboardInterrupt

    solution = mmd.solve(kuhn_poker.game(), tolerance=0.0, on_check=interrupt)
    assert solution.status is mmd.Status.INTERRUPTED
    assert solution.iterations == rows[-1]["iteration"] > 0
    assert np.isfinite(solution.exploitability)


def test_ctrl_c_while_compiling_returns_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(chunk, "advance", interrupt)
    solution = mmd.solve(kuhn_poker.game(), mmd.Restarted())
    assert solution.status is mmd.Status.INTERRUPTED
    assert solution.iterations == 0
    np.testing.assert_allclose(solution.exploitability, 11 / 24, rtol=0, atol=1e-15)  # uniform play, certified


def test_trace_is_the_run() -> None:
    solution = mmd.solve(kuhn_poker.game(), tolerance=1e-10, polish=False)
    trace = solution.trace
    assert tuple(trace.columns) == TRACE_COLUMNS
    assert trace["iteration"][0] == 0
    np.testing.assert_allclose(trace["exploitability"][0], 11 / 24, rtol=0, atol=1e-12)  # uniform play
    assert (np.diff(trace["iteration"]) > 0).all()
    assert (np.diff(trace["gradient_evaluations"]) > 0).all()
    assert (np.diff(trace["seconds"]) >= 0).all()
    assert (np.diff(trace["exploitability"]) <= 0).all()  # the best policy so far
    np.testing.assert_allclose(trace["exploitability"][-1], solution.exploitability, rtol=0, atol=1e-15)
    np.testing.assert_allclose(trace["nash_conv"], 2 * trace["exploitability"])


def test_a_given_magnet_is_described_where_the_players_have_different_numbers_of_actions() -> None:
    game = Game.from_matrix(np.arange(6.0).reshape(2, 3))
    magnet = mmd.Fixed((game.row.uniform(), game.column.uniform()))
    described = describe(mmd.MagneticMirrorDescent(eta=0.1, alpha=0.5, magnet=magnet).resolve(game))
    assert described["magnet"] == {"kind": "Fixed", "center": "a given policy"}


def test_checks_of_a_long_run_get_rarer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A trace that takes long to write keeps Ctrl-C waiting. However a run is cut into chunks, rows are the same."""
    monkeypatch.setattr(solver, "MANY_ROWS", 20)
    monkeypatch.setattr(solver, "MORE_ROWS", 4)
    arguments: dict[str, Any] = {"tolerance": 0.0, "polish": False, "check_every": 3}
    trace = mmd.solve(rps(), max_iterations=300, **arguments).trace
    rows = [*range(0, 58, 3), 60, 66, 72, 78, 84, 96, 108, 120, 144, 168, 192, 216, 240, 288, 300]
    np.testing.assert_array_equal(trace["iteration"], rows)
    mmd.solve(rps(), max_iterations=120, checkpoint=tmp_path / "run.npz", **arguments)
    again = mmd.solve(rps(), max_iterations=300, checkpoint=tmp_path / "run.npz", resume=True, **arguments).trace
    np.testing.assert_array_equal(again["iteration"], rows)


def test_one_compile_for_a_sweep_of_step_sizes_and_games() -> None:
    games = [rps(), Game.from_matrix(2 * BIASED_RPS, name="another")]
    jax.clear_caches()  # another test may have compiled this program
    with counting_traces() as count:
        for eta in (0.01, 0.02, 0.03, 0.04, 0.05):
            for game in games:
                mmd.solve(game, mmd.MagneticMirrorDescent(eta=eta, alpha=0.5), max_iterations=7)
    assert count[0] == 1


def test_a_sweep_of_alphas_is_one_vmap() -> None:
    """64 regularizations at once, each as if alone, each at its own QRE."""
    game, alphas = rps(), np.geomspace(0.2, 2.0, 64)
    algorithms = mmd.MagneticMirrorDescent(eta=jnp.asarray(alphas / 9), alpha=jnp.asarray(alphas))
    start = tuple(jnp.asarray(player.uniform()) for player in game.players)

    def final(algorithm: mmd.MagneticMirrorDescent) -> tuple[jax.Array, jax.Array]:
        state = algorithm.init(game.astype(jnp.float64), start)
        step = lambda _, s: algorithm.step(game.astype(jnp.float64), s)  # noqa: E731
        state = jax.lax.fori_loop(0, 6000, step, state)
        return state.iterate.log_policy[0], algorithm.diagnostics(game.astype(jnp.float64), state).regularized_gap

    policies, gaps = jax.jit(jax.vmap(final))(algorithms)
    assert (gaps < 1e-12).all()
    for i in (0, 31, 63):
        one = dataclasses.replace(algorithms, eta=alphas[i] / 9, alpha=alphas[i])
        alone = mmd.solve(game, one, tolerance=0.0, regularized_tolerance=0.0, max_iterations=6000)
        np.testing.assert_allclose(np.exp(policies[i]), alone.policy.probabilities[0], rtol=0, atol=1e-12)


def test_start_is_used_and_checked() -> None:
    start = tuple(np.log([1.0, 0.2, 0.6, 0.2]) for _ in range(2))
    at_nash = mmd.solve(rps(), start=start, tolerance=1e-12)
    assert at_nash.converged
    assert at_nash.iterations == 0
    assert mmd.solve(rps(), start=tuple(map(np.exp, start)), tolerance=1e-12).iterations == 0
    with pytest.raises(GameError, match="probability 0"):
        mmd.solve(rps(), start=tuple(np.array([0.0, 0.0, -np.inf, -np.inf]) for _ in range(2)))
    with pytest.raises(GameError, match=r"shape \(4,\) and \(4,\), got \(3,\)"):
        mmd.solve(rps(), start=(np.zeros(3), np.zeros(3)))


def test_a_policy_of_another_game_is_refused() -> None:
    policy = mmd.solve(kuhn_poker.game(), tolerance=1e-3).policy
    with pytest.raises(GameError, match=r"expected a policy of shape \(4,\) and \(4,\), got \(13,\) and \(13,\)"):
        mmd.exploitability(rps(), policy)


def test_all_ties_are_solved_at_once() -> None:
    solution = mmd.solve(Game.from_matrix(np.full((4, 3), 2.5)))
    assert solution.converged
    assert solution.value == pytest.approx(2.5, abs=1e-15)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"tolerance": -1.0}, "tolerance >= 0"),
        ({"tolerance": float("nan")}, "tolerance >= 0"),
        ({"max_iterations": -1}, "max_iterations >= 0"),
        ({"max_iterations": 10**20}, "at most 2147483647"),
        ({"time_limit": 0.0}, "time limit > 0"),
        ({"dtype": "float16"}, "float64 or float32"),
        ({"check_every": 0}, "check_every >= 1"),
        ({"algorithm": mmd.MagneticMirrorDescent(alpha=-1.0)}, "alpha >= 0"),
        ({"algorithm": mmd.MagneticMirrorDescent(alpha=0.0)}, "give eta"),
        ({"algorithm": mmd.MagneticMirrorDescent(eta=-1.0)}, "eta > 0"),
        ({"algorithm": mmd.MagneticMirrorDescent(magnet=mmd.Fixed("center"))}, "dilated, uniform"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments: dict, sentence: str) -> None:
    with pytest.raises(GameError, match=sentence):
        mmd.solve(rps(), **arguments)


def test_payoffs_too_far_apart_for_float64_are_refused() -> None:
    with np.errstate(over="ignore"):
        game = Game.from_matrix(np.array([[1e308, -1e308], [-1e308, 1e308]]))
    with pytest.raises(GameError, match="range float64 can hold"):
        mmd.solve(game)


def test_probabilities_are_not_taken_for_their_logarithms() -> None:
    solution = mmd.solve(kuhn_poker.game(), tolerance=1e-12)
    assert mmd.exploitability(solution.game, solution.policy) < 1e-12
    assert mmd.exploitability(solution.game, solution.policy.probabilities) < 1e-12


TRACED = {
    "vmap over matrices": lambda: jax.vmap(lambda payoffs: mmd.solve(games.matrix.game(payoffs)))(np.ones((2, 3, 3))),
    "vmap over preferences": lambda: jax.vmap(lambda p: mmd.solve(games.preference.game(p)))(np.ones((2, 3, 3))),
    "jit of a number": lambda: jax.jit(lambda a: mmd.solve(Game.from_matrix([[a, 1.0], [1.0, a]])))(2.0),
    "jit of a game": lambda: jax.jit(mmd.solve)(rps()),
    "grad": lambda: jax.grad(lambda alpha: mmd.solve(rps(), mmd.MagneticMirrorDescent(alpha=alpha)).value)(0.1),
}


@pytest.mark.parametrize("how", TRACED)
def test_tracing_solve_is_refused_with_the_name_of_what_does_it(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the types of arguments, which only tests check
    with pytest.raises(GameError, match=r"outside jit, vmap and grad: .* mmd\.solve_many, or trace .* init and step"):
        TRACED[how]()


def test_a_loop_by_hand_is_in_float64_or_says_so() -> None:
    """In float32 the fixed point is missed by 1e-8 of rounding, and nothing else would tell."""
    game, algorithm = rps(), mmd.MagneticMirrorDescent(eta=0.1, alpha=1.0).resolve(rps())
    uniform = tuple(player.uniform() for player in game.players)
    with (
        jax.enable_x64(False),
        pytest.warns(UserWarning, match=r"float32 here: loop .* under `with mmd\.float64\(\):`"),
    ):
        algorithm.init(game, tuple(jnp.asarray(log, jnp.float32) for log in uniform))
    with jax.enable_x64(False), mmd.float64():
        state = algorithm.init(game, tuple(map(jnp.asarray, uniform)))
        state = jax.lax.fori_loop(0, 400, lambda _, state: algorithm.step(game, state), state)
        assert algorithm.diagnostics(game, state).regularized_gap < 1e-15


def test_a_deep_tree_is_solved_by_the_scanned_sweeps() -> None:
    """A ladder of 120 levels in which stopping later pays more: the row player goes to the end and earns 1."""
    from mmd.game.game import Description
    from mmd.game.payoff import Entries
    from mmd.game.treeplex import Treeplex

    depth = 120
    row, order = Treeplex.build(np.concatenate([[0], 2 * np.arange(1, depth)]), np.full(depth, 2))
    column = Treeplex.simplex(1)
    stops = order.sequences[np.concatenate([2 * np.arange(depth) + 1, [2 * depth]])]
    payoffs = np.arange(1, depth + 2) / (depth + 1)
    game = Game.from_entries(
        (row, column), Entries(stops, np.ones(depth + 1, int), payoffs), Description("ladder", 1.0)
    )
    solution = mmd.solve(game, tolerance=1e-9)
    assert solution.converged
    np.testing.assert_allclose(solution.value, 1.0, rtol=0, atol=2e-9)


def test_solving_leaves_the_callers_precision_alone() -> None:
    """In a process with JAX's defaults: solve runs in float64, and the caller's arrays stay float32."""
    code = (
        "import jax, jax.numpy as jnp, numpy as np, mmd, games\n"
        "s = mmd.solve(games.load('kuhn_poker'), tolerance=1e-12)\n"
        "assert s.converged and s.dtype == 'float64', s.status\n"
        "assert jnp.zeros(1).dtype == np.float32 and not jax.config.jax_enable_x64\n"
        "assert abs(mmd.exploitability(s.game, s.policy) - s.exploitability) < 1e-15\n"
        "print(s.game, s, s.policy, s.trace)\n"
        "for wrong in ((3,), (s.game, 'auto'), (s.game, mmd.Auto)):\n"
        "    try:\n"
        "        mmd.solve(*wrong)\n"
        "    except mmd.GameError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "6 + 6 infosets, 13 + 13 sequences" in done.stdout
    assert done.stdout.count("expected") == 3
    assert len(done.stdout) < 2000  # nothing prints its arrays
