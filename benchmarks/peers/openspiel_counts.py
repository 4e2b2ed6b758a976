"""Our families against OpenSpiel's trees: sizes, payoffs, and what the game and the uniform policy are worth.

    make peers && .peers/openspiel/bin/python -m benchmarks.peers.openspiel_counts

OpenSpiel's tree is walked state by state (`games.readers.openspiel`), ours comes from the family's own builder. Equal
are the infosets and sequences of each player, the payoffs of the sequence form as a multiset, the value by linear
programming, and value and NashConv of the uniform policy; the last as OpenSpiel itself computes it, too, where that
takes seconds.
Results: benchmarks/results/openspiel_counts.json.
"""

import importlib
import importlib.metadata
import time
from typing import Any

import numpy as np
import pyspiel

import games
import mmd
from benchmarks.report import environment, print_table, store
from games.compile import TERMINAL, compile_tree
from games.readers import openspiel
from mmd.game.game import Game

BATTLESHIP = "board_height=2,board_width=2,num_shots=2"
PAIRS = {  # ours -> OpenSpiel's
    "kuhn_poker": "kuhn_poker",
    "leduc_poker": "leduc_poker",
    "liars_dice:faces=3": "liars_dice(dice_sides=3)",
    "liars_dice:faces=4": "liars_dice(dice_sides=4)",
    "liars_dice:faces=5": "liars_dice(dice_sides=5)",
    "liars_dice:faces=6": "liars_dice(dice_sides=6)",
    "liars_dice:faces=2,dice=2": "liars_dice(dice_sides=2,numdice=2)",
    "goofspiel:cards=4": "goofspiel(num_cards=4,imp_info=True,points_order=descending)",
    "goofspiel:cards=5": "goofspiel(num_cards=5,imp_info=True,points_order=descending)",
    "battleship": f"battleship({BATTLESHIP},ship_sizes=[1;2],ship_values=[1;2],allow_repeated_shots=False)",
    "battleship:ships=1,values=1,repeats=True": f"battleship({BATTLESHIP},ship_sizes=[1],ship_values=[1])",
    "dark_hex:rules=abrupt": "dark_hex(num_rows=2,num_cols=2,gameversion=adh)",
    "dark_hex:rules=classical": "dark_hex(num_rows=2,num_cols=2,gameversion=cdh)",
}
TOLERANCE = 1e-10
PYTHON_NODES = 60_000  # OpenSpiel's Python best response takes seconds up to here


def sizes(game: Game) -> dict[str, list[int]]:
    """Counts of the sequence form, the row player's first."""
    return {
        "infosets": [player.n_infosets for player in game.players],
        "sequences": [player.n_sequences for player in game.players],
        "payoffs": [len(game.payoff.entries().values)],
    }


def worth(game: Game) -> np.ndarray:
    """The value of the game, and value and NashConv of the uniform policy."""
    row, column = (player.uniform() for player in game.players)
    uniform = mmd.certify(game, (np.exp(row), np.exp(column)))
    return np.array([mmd.solve_exactly(game).value, uniform.value, uniform.nash_conv])


def differences(game: Game, theirs: Any, n_nodes: int) -> dict[str, float | None]:
    """NashConv as OpenSpiel computes it less ours: of the uniform policy in C++, of a random one after export."""
    row, column = (np.exp(player.uniform()) for player in game.players)
    uniform = (
        pyspiel.nash_conv(theirs, pyspiel.UniformRandomPolicy(theirs)) - mmd.certify(game, (row, column)).nash_conv
    )
    exported = None
    if n_nodes <= PYTHON_NODES:
        policy = mmd.Policy.random(game, seed=0)
        tabular = openspiel.tabular_policy(policy)
        python = importlib.import_module("open_spiel.python.algorithms.exploitability")
        exported = python.nash_conv(tabular.game, tabular) - mmd.certify(game, policy.probabilities).nash_conv
    return {"uniform": uniform, "exported": exported}


def compare(name: str, spec: str) -> dict[str, Any]:
    """One game, from both sides."""
    theirs = pyspiel.load_game_as_turn_based(spec)
    begun = time.perf_counter()
    tree = openspiel.walk(theirs.new_initial_state(), openspiel.PREFIX + spec)
    seconds = time.perf_counter() - begun
    walked, built = compile_tree(tree), games.load(name)
    values = [np.sort(game.payoff.entries().values) for game in (walked, built)]
    ours, n_nodes = worth(built), len(tree.parent)
    away = differences(walked, theirs, n_nodes)
    return {
        "game": name,
        "openspiel": spec,
        "nodes": n_nodes,
        "plays": np.count_nonzero(tree.infoset == TERMINAL),
        **sizes(built),
        "value": ours[0],
        "uniform_nash_conv": ours[2],
        "openspiel_nash_conv_less_ours": away,
        "nodes_per_second": n_nodes / seconds,
        "equal": {
            "counts": sizes(walked) == sizes(built),
            "payoffs": values[0].shape == values[1].shape and np.abs(values[0] - values[1]).max() <= TOLERANCE,
            "values": np.abs(worth(walked) - ours).max() <= TOLERANCE,
            "nash_conv": max(abs(gap) for gap in away.values() if gap is not None) <= TOLERANCE,
        },
    }


def main() -> None:
    """Compare, print, store."""
    results = [compare(name, spec) for name, spec in PAIRS.items()]
    counts = ("infosets", "sequences", "payoffs")
    print_table(
        ("game", "nodes", *counts, "value", "nodes/s", "equal"),
        [
            (
                r["game"],
                f"{r['nodes']:,}",
                *(" + ".join(f"{n:,}" for n in r[kind]) for kind in counts),
                f"{r['value']:.12f}",
                f"{r['nodes_per_second']:,.0f}",
                "yes" if all(r["equal"].values()) else ", ".join(k for k, v in r["equal"].items() if not v) + " DIFFER",
            )
            for r in results
        ],
    )
    versions = {"open_spiel": importlib.metadata.version("open_spiel")}
    store("openspiel_counts", {"environment": environment(), "peers": versions, "results": results})


if __name__ == "__main__":
    main()
