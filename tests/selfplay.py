"""What the tests of the self-play methods share: the known game and start, and iterates as plain probabilities."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

import games
import mmd
from mmd.algorithms._selfplay import SelfPlay

CYCLE = games.load("preference:cycle")
MARGINS = np.array([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]]) - 0.5
START = np.array([0.6, 0.3, 0.1])
LOG_START = tuple(np.log(np.concatenate([[1.0], START])) for _ in range(2))
NASH = np.array([4, 3, 4]) / 11


def iterates(game: mmd.Game, algorithm: SelfPlay, n_steps: int, start: Any = LOG_START) -> tuple[np.ndarray, ...]:
    """Probabilities [n + 1, A] of the row player's and the column player's last iterates, the start first."""
    algorithm, on_device = algorithm.resolve(game), game.astype(jnp.float64)

    def step(state: Any, _: None) -> tuple[Any, Any]:
        return algorithm.step(on_device, state), state.log_policy

    first = jax.jit(algorithm.init)(on_device, tuple(jnp.asarray(s) for s in start))
    _, path = jax.jit(lambda s: jax.lax.scan(step, s, None, length=n_steps + 1))(first)
    return tuple(np.exp(np.asarray(log))[:, 1:] for log in path)


def gap(payoffs: np.ndarray, x: np.ndarray, y: np.ndarray | None = None) -> float:
    """NashConv of a profile, of a symmetric one if only x is given."""
    y = x if y is None else y
    return float((payoffs @ y).max() - (x @ payoffs).min())


def kl(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p, q)."""
    seen = p > 0
    return float(np.sum(p[seen] * np.log(p[seen] / q[seen])))


def regularized_equilibrium(payoffs: np.ndarray, magnet: np.ndarray, alpha: float) -> np.ndarray:
    """The equilibrium of an antisymmetric game regularized towards a magnet: the root of its fixed point equation.

    Followed from a large alpha down to the one asked.
    """

    def residual(log: np.ndarray, at: float) -> np.ndarray:
        target = np.log(magnet) + payoffs @ np.exp(log) / at
        return log - target + np.logaddexp.reduce(target)

    log = np.log(magnet)
    for factor in np.geomspace(10, 1, 6):
        log = scipy.optimize.root(residual, log, args=(alpha * factor,), tol=1e-15).x
    assert np.abs(residual(log, alpha)).max() < 1e-13
    return np.exp(log)
