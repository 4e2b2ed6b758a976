"""Independent NumPy/SciPy definitions that the claims are checked against; nothing here uses the package's sweeps."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from mmd.game.game import Game
from mmd.game.treeplex import Treeplex

BIASED_RPS = np.array([[0.0, -1, 3], [1, 0, -1], [-3, 1, 0]])
PERTURBED_RPS = np.array([[0.0, -3, 3], [3, 0, -1], [-3, 1, 0]])  # game 13 of the MMD authors' repository


def dense_payoffs(game: Game) -> np.ndarray:
    """The sequence-form matrix A."""
    matrix = np.zeros((game.row.n_sequences, game.column.n_sequences))
    rows, columns, values = game.payoff.entries()
    matrix[rows, columns] = values
    return matrix


def plan_of(treeplex: Treeplex, log_policy: np.ndarray) -> np.ndarray:
    """Realisation probabilities, one infoset at a time."""
    plan = np.ones(treeplex.n_sequences)
    for parent, first, n in zip(treeplex.parent, treeplex.first_sequence, treeplex.n_actions, strict=True):
        plan[first : first + n] = plan[parent] * np.exp(log_policy[first : first + n])
    return plan


def dilated_kl(treeplex: Treeplex, log_p: np.ndarray, log_q: np.ndarray) -> float:
    """KL of the plans, dilated, unit weights."""
    return float(np.sum((plan_of(treeplex, log_p) * (log_p - log_q))[1:]))


def kl_to(game: Game, target: tuple[np.ndarray, ...], at: tuple[np.ndarray, ...]) -> float:
    """Sum of both players' `KL(target, at)`."""
    return sum(dilated_kl(t, np.asarray(p), np.asarray(q)) for t, p, q in zip(game.players, target, at, strict=True))


def soft_best_response(treeplex: Treeplex, gradient: np.ndarray, log_magnet: np.ndarray, alpha: float) -> np.ndarray:
    """argmax <x, g> - alpha KL(x, magnet) by backward induction, one infoset at a time; a log-policy."""
    value = np.array(gradient, np.float64)
    log_policy = np.zeros_like(value)
    for j in reversed(range(treeplex.n_infosets)):
        first, n = treeplex.first_sequence[j], treeplex.n_actions[j]
        at = slice(first, first + n)
        logits = log_magnet[at] + value[at] / alpha
        log_z = np.logaddexp.reduce(logits)
        log_policy[at] = logits - log_z
        value[treeplex.parent[j]] += alpha * log_z
    return log_policy


def quantal_response_equilibrium(
    game: Game, alpha: float, log_magnet: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, ...]:
    """The regularized equilibrium: the root of `log z - softBR(z)`, followed from a large alpha down to the one
    asked."""
    matrix = dense_payoffs(game)
    split = game.row.n_sequences
    magnet = [np.asarray(m) for m in log_magnet]

    def residual(logs: np.ndarray, at_alpha: float) -> np.ndarray:
        x, y = plan_of(game.row, logs[:split]), plan_of(game.column, logs[split:])
        row = soft_best_response(game.row, matrix @ y, magnet[0], at_alpha)
        column = soft_best_response(game.column, -matrix.T @ x, magnet[1], at_alpha)
        return logs - np.concatenate([row, column])

    logs = np.concatenate(magnet)
    for factor in np.geomspace(30, 1, 20):
        logs = scipy.optimize.root(residual, logs, args=(alpha * factor,), tol=1e-15).x
    assert np.abs(residual(logs, alpha)).max() < 1e-12
    return logs[:split], logs[split:]


def trajectory(game: Game, algorithm: Any, n_steps: int, start: tuple | None = None) -> list[tuple]:
    """Log-policies of an algorithm's iterates 0..n_steps, from uniform play unless a start is given."""
    start = tuple(np.asarray(s) for s in start or (player.uniform() for player in game.players))
    length = 2 ** (n_steps - 1).bit_length()  # so that runs of about one length share a program
    rows, columns = _iterates(algorithm.resolve(game), game.astype(jnp.float64), start, length)
    return [start, *zip(np.asarray(rows)[:n_steps], np.asarray(columns)[:n_steps], strict=True)]


@partial(jax.jit, static_argnames="n_steps")
def _iterates(algorithm: Any, game: Game, start: tuple, n_steps: int) -> tuple[jax.Array, jax.Array]:
    def step(state: object, _: None) -> tuple:
        moved = algorithm.step(game, state)
        return moved, moved.iterate.log_policy

    return jax.lax.scan(step, algorithm.init(game, start), None, length=n_steps)[1]
