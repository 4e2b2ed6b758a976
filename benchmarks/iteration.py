"""Time of one iteration in float64, compilation apart, beside a plain NumPy/SciPy sequence-form step in the same run.

    python -m benchmarks.iteration [--games leduc_poker kuhn_poker] [--repeats 7]

Every contender is timed in turn, `repeats` times over, and the ratio is taken pair by pair: the machine may be noisy,
the ratios are not. Results: benchmarks/results/iteration.json.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import scipy.sparse

import games
import mmd
from benchmarks.report import environment, print_table, store
from mmd import theory
from mmd.game import Game
from mmd.treeplex import Treeplex

ALPHA = 0.1


class SciPyStep:
    """One simultaneous MMD step in the sequence form, with CSR products and vectorised level sweeps: the yardstick."""

    def __init__(self, game: Game) -> None:
        rows, columns, values = game.payoff.entries()
        shape = (game.row.n_sequences, game.column.n_sequences)
        self.matrix = scipy.sparse.csr_array((values, (rows, columns)), shape)
        self.transposed = scipy.sparse.csr_array(self.matrix.T)
        self.levels = [self._levels(player) for player in game.players]
        self.magnet = [np.asarray(player.uniform()) for player in game.players]
        self.log_policy = [m.copy() for m in self.magnet]
        self.eta = theory.largest_step(game, ALPHA)

    @staticmethod
    def _levels(player: Treeplex) -> list[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
        levels = []
        first, counts = player.first_sequence, player.n_actions
        for blocks in player.levels:
            infosets = slice(blocks[0].infosets.start, blocks[-1].infosets.stop)
            sequences = slice(blocks[0].sequences.start, blocks[-1].sequences.stop)
            starts = first[infosets] - sequences.start
            levels.append((sequences, starts, counts[infosets], np.asarray(player.parent)[infosets]))
        return levels

    def _plan(self, player: int) -> np.ndarray:
        policy = np.exp(self.log_policy[player])
        plan = np.empty_like(policy)
        plan[0] = 1
        for sequences, _, counts, parent in self.levels[player]:
            plan[sequences] = np.repeat(plan[parent], counts) * policy[sequences]
        return plan

    def _prox(self, player: int, gradient: np.ndarray) -> np.ndarray:
        eta, denominator = self.eta, 1 + self.eta * ALPHA
        value = gradient.copy()
        out = np.zeros_like(gradient)
        for sequences, starts, counts, parent in reversed(self.levels[player]):
            logits = self.log_policy[player][sequences] + eta * ALPHA * self.magnet[player][sequences]
            logits += eta * value[sequences]
            logits /= denominator
            top = np.repeat(np.maximum.reduceat(logits, starts), counts)
            log_z = np.log(np.add.reduceat(np.exp(logits - top), starts)) + top[starts]
            out[sequences] = logits - np.repeat(log_z, counts)
            value += np.bincount(parent, log_z * denominator / eta, minlength=len(value))
        return out

    def run(self, n_steps: int) -> None:
        """Advance by `n_steps`."""
        for _ in range(n_steps):
            x, y = self._plan(0), self._plan(1)
            self.log_policy = [self._prox(0, self.matrix @ y), self._prox(1, -(self.transposed @ x))]


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


def seconds_per_step(run: Callable[[int], None], at_least: float = 0.25) -> float:
    """Time a run long enough to trust the clock."""
    n_steps = 16
    while True:
        begun = time.perf_counter()
        run(n_steps)
        elapsed = time.perf_counter() - begun
        if elapsed >= at_least:
            return elapsed / n_steps
        n_steps = int(n_steps * min(10, max(2, 1.2 * at_least / max(elapsed, 1e-9))))


def measure(name: str, repeats: int) -> dict[str, Any]:
    """All contenders on one game."""
    game = games.load(name)
    ours = {
        "mmd": JaxRun(game, mmd.MagneticMirrorDescent(alpha=ALPHA, magnet=mmd.Fixed("uniform"))),
        "anchored": JaxRun(game, mmd.Anchored()),
        "auto": JaxRun(game, mmd.Auto()),
    }
    yardstick = SciPyStep(game)
    same = JaxRun(game, mmd.MagneticMirrorDescent(alpha=ALPHA, magnet=mmd.Fixed("uniform")))
    yardstick.run(50)
    same.run(50)
    for theirs, log_policy in zip(yardstick.log_policy, same.state.iterate.log_policy, strict=True):
        np.testing.assert_allclose(theirs, log_policy, atol=1e-10)  # it is the same iteration
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
    labels = ("scipy", "mmd", "anchored", "auto")
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
