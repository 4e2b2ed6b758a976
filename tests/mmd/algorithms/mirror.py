"""NumPy definitions that `optimistic` and `extragradient` are checked against, and what both tests measure."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import mmd
from mmd.algorithms._mirror import MirrorMethod, MirrorState
from mmd.game.treeplex import Treeplex
from tests.claims.reference import dense_payoffs, kl_to, plan_of, soft_best_response

Logs = tuple[np.ndarray, ...]
CYCLE_START = np.array([0.6, 0.3, 0.1])  # from where the preference cycle's curves are known


def gradients(game: mmd.Game, at: Logs) -> Logs:
    """A y and -A^T x."""
    matrix = dense_payoffs(game)
    return matrix @ plan_of(game.column, at[1]), -matrix.T @ plan_of(game.row, at[0])


def prox(game: mmd.Game, center: Logs, gradient: Logs, eta: float) -> Logs:
    """argmax <z, gradient> - KL(z, center) / eta, by backward induction, one infoset at a time."""
    parts = zip(game.players, gradient, center, strict=True)
    return tuple(soft_best_response(player, g, log, 1 / eta) for player, g, log in parts)


def adapting(
    game: mmd.Game, guess_of: Callable[[Logs, Logs], Logs], smallest: float, n_steps: int
) -> tuple[list[Logs], list[Logs], int]:
    """Mirror-prox with Nemirovski's condition as he writes it, and PDLP's step rule.

    Args:
        guess_of: from the centre and the last point looked at to the next guess of the gradient.
        smallest: admissible step size.

    Returns:
        Centres 0..n, points looked at 1..n, and how many steps were refused.
    """
    centers, ahead, refused = [tuple(p.uniform() for p in game.players)], [], 0
    eta, looked = smallest, centers[0]
    for step in range(n_steps):
        center = centers[-1]
        guess = guess_of(center, looked)
        looked = prox(game, center, guess, eta)
        found = gradients(game, looked)
        moved = prox(game, center, found, eta)
        players = range(2)
        plans = [[plan_of(game.players[p], at[p]) for at in (moved, looked)] for p in players]
        error = sum(float((found[p] - guess[p]) @ (plans[p][0] - plans[p][1])) for p in players)
        room = kl_to(game, looked, center) + kl_to(game, moved, looked)
        taken = eta * error <= room or eta <= smallest
        bar = room / error if error > 0 else np.inf
        n = step + 2
        eta = max(smallest, min((1 - n**-0.3) * bar, (1 + n**-0.6) * eta))
        refused += not taken
        centers.append(moved if taken else center)
        ahead.append(looked)
    return centers, ahead, refused


def largest_divergence(treeplex: Treeplex, log_policy: np.ndarray) -> float:
    """The largest KL of a plan to a policy: its worst pure strategy's -log probability, by backward induction."""
    value = -np.array(log_policy)
    for j in reversed(range(treeplex.n_infosets)):
        first, n = treeplex.first_sequence[j], treeplex.n_actions[j]
        value[treeplex.parent[j]] += value[first : first + n].max()
    return float(value[0])


def ergodic(game: mmd.Game, algorithm: MirrorMethod, n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """NashConv of the average after every step, and the theorem's bound on it, max_u D(u, z_0) / sum eta."""
    algorithm, on_device = algorithm.resolve(game), game.astype(jnp.float64)
    start = tuple(player.uniform() for player in game.players)

    def step(state: MirrorState, _: None) -> tuple[MirrorState, tuple[jax.Array, jax.Array]]:
        state = algorithm.step(on_device, state)
        return state, (algorithm.diagnostics(on_device, state).average_nash_conv, state.eta_sum)

    first = algorithm.init(on_device, tuple(jnp.asarray(s) for s in start))
    _, (gaps, eta_sums) = jax.jit(lambda s: jax.lax.scan(step, s, None, length=n_steps))(first)
    reach = sum(largest_divergence(player, log) for player, log in zip(game.players, start, strict=True))
    return np.asarray(gaps), reach / np.asarray(eta_sums)


def cycle_curve(algorithm: mmd.Algorithm, game: mmd.Game) -> dict[int, float]:
    """Iteration -> NashConv on the preference cycle, both players starting at (6, 3, 1) / 10."""
    plan = np.concatenate([[1.0], CYCLE_START])
    start = mmd.Policy(game, (plan, plan))
    trace = mmd.solve(game, algorithm, tolerance=0.0, max_iterations=10_000, start=start).trace
    return {int(k): float(gap) for k, gap in zip(trace["iteration"], trace["nash_conv"], strict=True)}
