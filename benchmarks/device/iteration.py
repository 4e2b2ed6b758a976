"""Time of one iteration in float64, compilation apart, beside a plain NumPy/SciPy sequence-form step in the same run.

    python -m benchmarks.device.iteration [--games leduc_poker kuhn_poker] [--repeats 7]

Every contender is timed in turn, `repeats` times over, and the ratio is taken pair by pair: the machine may be noisy,
the ratios are not. Results: benchmarks/results/iteration.json.
"""

import argparse
import time
from typing import Any

import jax
import numpy as np
import scipy.sparse

import games
import mmd
from benchmarks.report import environment, print_table, store
from benchmarks.timing import seconds_per_step
from mmd.game.game import Game
from mmd.game.treeplex import Treeplex
from mmd.measure import theory

ALPHA = 0.1


class SciPyStep:
    """One simultaneous MMD step in the sequence form, in plain NumPy and SciPy: the yardstick.

    CSR products; sweeps by (level, number of actions) blocks in action-major order, so that reductions over actions run
    along contiguous rows.
    """

    def __init__(self, game: Game) -> None:
        order = [self._action_major(player) for player in game.players]
        rows, columns, values = game.payoff.entries()
        shape = (game.row.n_sequences, game.column.n_sequences)
        self.matrix = scipy.sparse.csr_array((values, (order[0][rows], order[1][columns])), shape)
        self.transposed = scipy.sparse.csr_array(self.matrix.T)
        self.blocks = [self._blocks(player, o) for player, o in zip(game.players, order, strict=True)]
        self.order = order
        self.magnet = [np.empty(player.n_sequences) for player in game.players]
        for magnet, player, o in zip(self.magnet, game.players, order, strict=True):
            magnet[o] = player.uniform()
        self.log_policy = [m.copy() for m in self.magnet]
        self.eta = theory.largest_step(game, ALPHA)

    @staticmethod
    def _action_major(player: Treeplex) -> np.ndarray:
        order = np.arange(player.n_sequences)
        for b in player.blocks:
            order[b.sequences] = (
                b.first_sequence + np.arange(b.n_infosets * b.n_actions).reshape(b.n_actions, -1).T.ravel()
            )
        return order

    @staticmethod
    def _blocks(player: Treeplex, order: np.ndarray) -> list[tuple[slice, tuple[int, int], np.ndarray, slice]]:
        blocks = []
        parent = order[np.asarray(player.parent)]
        for b in player.blocks:
            above = player.levels[b.level - 1] if b.level else None
            start, stop = (above[0].first_sequence, above[-1].sequences.stop) if above else (0, 1)
            shape = (b.n_actions, b.n_infosets)
            blocks.append((b.sequences, shape, parent[b.infosets] - start, slice(start, stop)))
        return blocks

    def _plan(self, player: int) -> np.ndarray:
        plan = np.exp(self.log_policy[player])
        for sequences, shape, parent, above in self.blocks[player]:
            block = plan[sequences].reshape(shape)
            block *= plan[above][parent]
        return plan

    def _prox(self, player: int, gradient: np.ndarray) -> np.ndarray:
        eta, denominator = self.eta, 1 + self.eta * ALPHA
        value = self.log_policy[player] + (eta * ALPHA) * self.magnet[player] + eta * gradient
        value /= denominator
        for sequences, shape, parent, above in reversed(self.blocks[player]):
            logits = value[sequences].reshape(shape)
            top = logits.max(axis=0)
            log_z = np.log(np.exp(logits - top).sum(axis=0)) + top
            logits -= log_z
            value[above] += np.bincount(parent, log_z, minlength=above.stop - above.start)
        value[0] = 0
        return value

    def run(self, n_steps: int) -> None:
        """Advance by `n_steps`."""
        for _ in range(n_steps):
            x, y = self._plan(0), self._plan(1)
            self.log_policy = [self._prox(0, self.matrix @ y), self._prox(1, -(self.transposed @ x))]

    def in_treeplex_order(self) -> list[np.ndarray]:
        """The iterate, in our numbering."""
        return [log_policy[order] for log_policy, order in zip(self.log_policy, self.order, strict=True)]


class JaxRun:
    """An algorithm of ours, all steps inside one compiled loop."""

    def __init__(self, game: Game, algorithm: mmd.Algorithm) -> None:
        algorithm = algorithm.resolve(game)
        self.game = game.astype(np.float64)
        self.state = jax.jit(algorithm.init)(self.game, tuple(np.asarray(p.uniform()) for p in game.players))

        def advance(game: Game, state: Any, n_steps: int) -> Any:
            return jax.lax.fori_loop(0, n_steps, lambda _, s: algorithm.step(game, s), state)

        begun = time.perf_counter()
        self.advance = jax.jit(advance).lower(self.game, self.state, 1).compile()
        self.compile_seconds = time.perf_counter() - begun

    def run(self, n_steps: int) -> None:
        """Advance by `n_steps`."""
        self.state = jax.block_until_ready(self.advance(self.game, self.state, n_steps))


def measure(name: str, repeats: int) -> dict[str, Any]:
    """All contenders on one game."""
    game = games.load(name)
    ours = {
        "mmd": JaxRun(game, mmd.MagneticMirrorDescent(alpha=ALPHA, magnet=mmd.Fixed("uniform"))),
        "anchored": JaxRun(game, mmd.Anchored()),
        "restarted": JaxRun(game, mmd.Restarted()),
    }
    yardstick = SciPyStep(game)
    same = JaxRun(game, mmd.MagneticMirrorDescent(alpha=ALPHA, magnet=mmd.Fixed("uniform")))
    yardstick.run(50)
    same.run(50)
    for theirs, log_policy in zip(yardstick.in_treeplex_order(), same.state.iterate.log_policy, strict=True):
        np.testing.assert_allclose(theirs, log_policy, rtol=0, atol=1e-10)  # it is the same iteration
    times: dict[str, list[float]] = {"scipy": [], **{label: [] for label in ours}}
    for _ in range(repeats):
        times["scipy"].append(seconds_per_step(yardstick.run))
        for label, contender in ours.items():
            times[label].append(seconds_per_step(contender.run))
    ratios = {label: np.median(np.array(times["scipy"]) / np.array(times[label])).item() for label in ours}
    return {
        "game": name,
        "sequences": [player.n_sequences for player in game.players],
        "payoffs": len(game.payoff.entries().values),
        "microseconds": {label: 1e6 * np.median(t).item() for label, t in times.items()},
        "times_faster_than_scipy": ratios,
        "compile_seconds": {label: contender.compile_seconds for label, contender in ours.items()},
    }


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description="Time of one iteration, beside NumPy/SciPy.")
    parser.add_argument("--games", nargs="+", default=["kuhn_poker", "leduc_poker"])
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    with jax.enable_x64(True):
        results = [measure(name, arguments.repeats) for name in arguments.games]
    labels = ("scipy", "mmd", "anchored", "restarted")
    print_table(
        ("game", *(f"{label}, us" for label in labels), *(f"scipy / {label}" for label in labels[1:])),
        [
            (
                r["game"],
                *(f"{r['microseconds'][label]:.1f}" for label in labels),
                *(f"{r['times_faster_than_scipy'][label]:.2f}" for label in labels[1:]),
            )
            for r in results
        ],
    )
    store("iteration", {"environment": environment(), "alpha": ALPHA, "results": results})


if __name__ == "__main__":
    main()
