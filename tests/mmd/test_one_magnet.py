"""The contract of magnets: every magnet in every method that takes one, against plain NumPy, or a refusal by name.

A magnet says two things: alpha in a step, and the share h of the new policy in the magnet after it. Here both are
written again from the classes' docstrings, and every method's step from its module's.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmd
from games import kuhn_poker, matrix
from mmd import algorithms, magnets
from mmd.algorithms.behavioral import BehavioralMirrorDescent
from tests.claims.reference import dense_payoffs, dilated_kl, plan_of, soft_best_response
from tests.selfplay import CYCLE, LOG_START

STEPS = 12
A = np.random.default_rng(3).uniform(-1, 1, (3, 4))  # a game of two players that have nothing in common
X, Y = np.array([0.5, 0.2, 0.3]), np.array([0.1, 0.4, 0.2, 0.3])
MU, NU = np.array([0.2, 0.3, 0.5]), np.array([0.4, 0.2, 0.3, 0.1])
GAME, KUHN = matrix.game(A), kuhn_poker.game()
ETA, ALPHA = 0.6, 0.3

Pair = tuple[np.ndarray, np.ndarray]
Share = Callable[[int, float, float], float]  # k steps behind, sqrt of KL from the step before over the pull, to magnet
Alpha = Callable[[float, float, int], float]  # alpha, eta, k steps behind


def steady(alpha: float, eta: float, k: int) -> float:
    return alpha


KINDS: dict[str, tuple[Callable[..., magnets.Magnet], Alpha, Share]] = {
    "fixed": (mmd.Fixed, steady, lambda k, step, far: 0.0),
    "refresh": (lambda center: mmd.Refresh(center=center, every=4), steady, lambda k, step, far: float(k % 4 == 0)),
    "refresh, measured": (
        lambda center: mmd.Refresh(center=center, residual=0.8),
        steady,
        lambda k, step, far: float(step <= 0.8 * far),
    ),
    "moving": (lambda center: mmd.MovingAverage(center=center, rate=0.2), steady, lambda k, step, far: 0.2),
    "moving, falling": (
        lambda center: mmd.MovingAverage(center=center, rate=0.8, power=2.0),
        steady,
        lambda k, step, far: min(0.8, 3 / (k + 2)),
    ),
    "halpern": (
        lambda center: mmd.Halpern(center=center),
        lambda alpha, eta, k: 1 / (eta * (k + 1)),
        lambda k, step, far: 0.0,
    ),
    "halpern, weak": (
        lambda center: mmd.Halpern(center=center, strength=0.5),
        lambda alpha, eta, k: 0.5 / (eta * (k + 1)),
        lambda k, step, far: 0.0,
    ),
}
CASES = [(kind, *KINDS[kind]) for kind in KINDS]
ON_TREES = [case for case in CASES if case[0] in ("refresh, measured", "moving, falling", "halpern, weak")]


def with_root(*policies: np.ndarray) -> Pair:
    first, second = (np.log(np.concatenate([[1.0], p])) for p in policies)
    return first, second


def normal(log: np.ndarray) -> np.ndarray:
    return log - np.logaddexp.reduce(log)


Step = Callable[[Pair, Pair, Pair, float, float], Pair]  # logs, magnet's logs, payoffs q, eta, alpha


def magnetic(at: Pair, magnet: Pair, q: Pair, eta: float, alpha: float) -> Pair:
    x, y = (normal((p + eta * alpha * m + eta * g) / (1 + eta * alpha)) for p, m, g in zip(at, magnet, q, strict=True))
    return x, y


def mirror(at: Pair, magnet: Pair, q: Pair, eta: float, alpha: float) -> Pair:
    """The same in the step size of mirror descent."""
    x, y = (normal((1 - eta * alpha) * p + eta * alpha * m + eta * g) for p, m, g in zip(at, magnet, q, strict=True))
    return x, y


def payoffs(at: Pair) -> Pair:
    return A @ np.exp(at[1]), -A.T @ np.exp(at[0])


def gradient_step(at: Pair, magnet: Pair, eta: float, alpha: float) -> Pair:
    def one(p: np.ndarray, m: np.ndarray, q: np.ndarray) -> np.ndarray:
        r, pi = q - alpha * (p - m), np.exp(p)
        return normal(p + eta * pi * (r - pi @ r))

    x, y = map(one, at, magnet, payoffs(at))
    return x, y


def extragradient(at: Pair, magnet: Pair, eta: float, alpha: float) -> Pair:
    return mirror(at, magnet, payoffs(mirror(at, magnet, payoffs(at), eta, alpha)), eta, alpha)


def mixed_first(at: Pair, magnet: Pair, eta: float, alpha: float) -> Pair:
    nothing = (np.zeros_like(at[0]), np.zeros_like(at[1]))
    mixed = mirror(at, magnet, nothing, eta, alpha)
    return mirror(mixed, mixed, payoffs(mixed), eta, 0.0)


METHODS: dict[str, Callable[[Pair, Pair, float, float], Pair]] = {
    "mmd": lambda at, magnet, eta, alpha: magnetic(at, magnet, payoffs(at), eta, alpha),
    "mmd-behavioral": lambda at, magnet, eta, alpha: magnetic(at, magnet, payoffs(at), eta, alpha),
    "mpo": lambda at, magnet, eta, alpha: magnetic(at, magnet, payoffs(at), eta, alpha),
    "inpo": lambda at, magnet, eta, alpha: mirror(at, magnet, payoffs(at), eta, alpha),
    "egpo": extragradient,
    "nash-md": mixed_first,
    "online-ipo": gradient_step,
}


def far(at: Pair, reference: Pair) -> float:
    """Square root of the sum of both players' KL."""
    return float(np.sqrt(sum(np.exp(p) @ (p - r) for p, r in zip(at, reference, strict=True))))


def stepped(game: mmd.Game, algorithm: Any, n_steps: int, start: Pair) -> list[Any]:
    """Log-policies of the iterates 0..n_steps. Not compiled: many methods and magnets share few operations."""
    algorithm, on_device = algorithm.resolve(game), game.astype(jnp.float64)
    states = [algorithm.init(on_device, tuple(jnp.asarray(log) for log in start))]
    for _ in range(n_steps):
        states.append(algorithm.step(on_device, states[-1]))
    return [s.log_policy if hasattr(s, "log_policy") else s.iterate.log_policy for s in states]


def written_again(move: Callable[..., Pair], alpha: Alpha, share: Share, n_steps: int) -> list[Pair]:
    at, magnet = (np.log(X), np.log(Y)), (np.log(MU), np.log(NU))
    path = [at]
    for k in range(n_steps):
        now = alpha(ALPHA, ETA, k)
        before, at = at, move(at, magnet, ETA, now)
        h = share(k + 1, far(at, before) / (ETA * now), far(at, magnet))
        mu, nu = (normal((1 - h) * m + h * p) for m, p in zip(magnet, at, strict=True))
        path, magnet = [*path, at], (mu, nu)
    return path


@pytest.mark.parametrize("name", METHODS)
def test_every_method_honours_every_magnet(name: str) -> None:
    for kind, made, alpha, share in CASES:
        expected = written_again(METHODS[name], alpha, share, STEPS)
        algorithm = algorithms.load(name)(eta=ETA, alpha=ALPHA, magnet=made(with_root(MU, NU)))
        found = stepped(GAME, algorithm, STEPS, with_root(X, Y))
        for k, (at, known) in enumerate(zip(found, expected, strict=True)):
            for p in range(2):
                words = f"{name}, {kind}, step {k}"
                np.testing.assert_allclose(at[p][1:], known[p], rtol=0, atol=1e-12, err_msg=words)


def test_no_two_magnets_are_the_same_in_any_method() -> None:
    """Or the test above would pass with a magnet that is another one."""
    for name, move in METHODS.items():
        ends = [written_again(move, alpha, share, STEPS)[-1][0] for _, _, alpha, share in CASES]
        apart = [np.abs(ends[i] - ends[j]).max() for i in range(len(ends)) for j in range(i)]
        assert min(apart) > 1e-3, name


def test_on_a_tree_the_magnet_moves_infoset_by_infoset() -> None:
    """Magnetic mirror descent on Kuhn poker: a step is a soft best response of temperature alpha + 1 / eta."""
    matrix, players = dense_payoffs(KUHN), KUHN.players
    start: Any = tuple(np.log(p) for p in mmd.Policy.random(KUHN, 1).probabilities)
    center = tuple(np.asarray(player.dilated_center()) for player in players)

    def logs(player: Any, log: np.ndarray) -> np.ndarray:
        log = np.array(log)
        for first, n in zip(player.first_sequence, player.n_actions, strict=True):
            log[first : first + n] = normal(log[first : first + n])
        return log

    def apart(at: Any, reference: Any) -> float:
        return float(np.sqrt(sum(map(dilated_kl, players, at, reference))))

    for kind, made, alpha, share in ON_TREES:
        algorithm = mmd.MagneticMirrorDescent(eta=ETA, alpha=ALPHA, magnet=made("dilated"))
        found = stepped(KUHN, algorithm, STEPS, start)
        at, magnet = start, center
        for k in range(STEPS):
            now = alpha(ALPHA, ETA, k)
            heat, x, y = now + 1 / ETA, plan_of(players[0], at[0]), plan_of(players[1], at[1])
            gradients = (matrix @ y, -matrix.T @ x)
            before, pulled = at, tuple((now * m + p / ETA) / heat for m, p in zip(magnet, at, strict=True))
            at = tuple(map(soft_best_response, players, gradients, pulled, (heat, heat)))
            h = share(k + 1, apart(at, before) / (ETA * now), apart(at, magnet))
            magnet = tuple(map(logs, players, ((1 - h) * m + h * p for m, p in zip(magnet, at, strict=True))))
            for p in range(2):
                np.testing.assert_allclose(found[k + 1][p], at[p], rtol=0, atol=1e-12, err_msg=f"{kind}, step {k + 1}")


def test_a_method_that_moves_the_magnet_itself_refuses_one_that_moves_or_fades() -> None:
    for kind, made, *_ in CASES:
        algorithm = algorithms.load("comal")(magnet=made("dilated"))
        if kind == "fixed":
            assert algorithm.resolve(GAME).magnet == mmd.Fixed()
            continue
        with pytest.raises(mmd.GameError, match="comal moves the magnet itself"):
            algorithm.resolve(GAME)


@pytest.mark.parametrize("name", ["inpo", "nash-md", "egpo", "online-ipo"])
def test_a_pull_past_the_magnet_is_refused_by_name(name: str) -> None:
    for eta in (None, 0.3):
        algorithm = algorithms.load(name)(eta=eta, magnet=mmd.Halpern(strength=1.5))
        with pytest.raises(mmd.GameError, match=rf"^{name} ends past the magnet: expected eta alpha <= 1 .* got 1\.5"):
            algorithm.resolve(GAME)
        assert algorithms.load(name)(eta=eta, magnet=mmd.Halpern()).resolve(GAME)


def test_a_magnet_of_ones_own_needs_the_two_methods_only() -> None:
    """One that follows every third step by a half and pulls twice as hard."""

    class Third(magnets.Magnet):
        def alpha(self, alpha: Any, eta: Any, k: Any) -> Any:
            return jnp.asarray(2 * alpha)

        def share(self, k: Any, measured: magnets.Measured | None = None) -> Any:
            return jnp.where(k % 3 == 0, 0.5, 0.0)

    own = Third(center=with_root(MU, NU))
    assert own.travels
    assert not own.regularizes
    found = stepped(GAME, algorithms.load("mpo")(eta=ETA, alpha=ALPHA, magnet=own), STEPS, with_root(X, Y))
    known = written_again(METHODS["mpo"], lambda alpha, eta, k: 2 * alpha, lambda k, *_: 0.5 * (k % 3 == 0), STEPS)
    for at, expected in zip(found, known, strict=True):
        for p in range(2):
            np.testing.assert_allclose(at[p][1:], expected[p], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["mmd", "mpo"])
def test_a_pull_that_fades_leads_to_the_original_equilibrium(name: str) -> None:
    """It was `Fixed` in all methods but one: exploitability 1.22e-2, regularized gap 1e-17."""
    algorithm = algorithms.load(name)(eta=0.4, alpha=0.1, magnet=mmd.Halpern())
    found = mmd.solve(CYCLE, algorithm, tolerance=0.0, max_iterations=500)
    assert found.regularized_gap is None
    assert found.status is mmd.Status.ITERATION_LIMIT
    np.testing.assert_allclose(found.exploitability, 5.22e-3, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["mmd", "mpo", "inpo", "nash-md", "egpo", "online-ipo"])
def test_a_pull_that_fades_has_no_regularized_gap(name: str) -> None:
    on_device, start = CYCLE.astype(jnp.float64), tuple(jnp.asarray(log) for log in LOG_START)
    for magnet, has_gap in ((mmd.Halpern(), False), (mmd.Fixed(), True)):
        algorithm = algorithms.load(name)(eta=0.4, alpha=0.1, magnet=magnet).resolve(CYCLE)
        found = algorithm.diagnostics(on_device, algorithm.init(on_device, start)).regularized_gap
        assert (float(found) > 0.01) if has_gap else np.isnan(found)


def test_the_behavioral_form_on_a_tree_honours_magnets_as_well() -> None:
    """On Kuhn poker: the step is that of a fixed magnet with the alpha of now, and the magnet goes by its share."""
    start = tuple(jnp.asarray(np.log(p)) for p in mmd.Policy.random(KUHN, 2).probabilities)
    on_device, players = KUHN.astype(jnp.float64), KUHN.players
    once = jax.jit(lambda method, state: method.step(on_device, state))

    for kind, made, alpha, share in ON_TREES:
        own = BehavioralMirrorDescent(eta=ETA, alpha=ALPHA, magnet=made("uniform")).resolve(KUHN)
        state = own.init(on_device, start)
        for k in range(6):
            before, state = state, once(own, state)
            now, at = alpha(ALPHA, ETA, k), tuple(map(np.asarray, state.iterate.log_policy))
            fixed = replace(own, alpha=now, magnet=mmd.Fixed("uniform"))
            expected = once(fixed, before).iterate.log_policy
            gone, left = (
                np.sqrt(sum(map(dilated_kl, players, at, map(np.asarray, reference))))
                for reference in (before.iterate.log_policy, before.log_magnet)
            )
            h = share(k + 1, gone / (ETA * now), left)
            for p, player in enumerate(players):
                mixed = player.normalized((1 - h) * before.log_magnet[p] + h * at[p])
                np.testing.assert_allclose(at[p], expected[p], rtol=0, atol=1e-12, err_msg=kind)
                np.testing.assert_allclose(state.log_magnet[p], mixed, rtol=0, atol=1e-12, err_msg=kind)
