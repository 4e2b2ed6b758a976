"""Trees that the first version answered wrongly or not at all: extreme payoffs, nobody to decide, many levels."""

from pathlib import Path

import numpy as np
import pytest

import games
import mmd
from games.compile import CHANCE, TERMINAL, InfosetInfo, Tree, compile_tree
from mmd.measure.exact import solve_exactly

TWO_BY_TWO = (
    'p "" 1 1 "" { "T" "B" } 0 p "" 2 1 "" { "L" "R" } 0 t "" {a} t "" {b} p "" 2 1 "" { "L" "R" } 0 t "" {c} t "" {d}'
)


def efg(folder: Path, body: str) -> mmd.Game:
    path = folder / "game.efg"
    path.write_text(f'EFG 2 R "" {{ "A" "B" }} {body}')
    return games.load(str(path))


def two_by_two(*payoffs: float, first: int = 1) -> str:
    """Both players choose at once; outcomes are numbered from `first`."""
    body = TWO_BY_TWO
    for i, (letter, payoff) in enumerate(zip("abcd", payoffs, strict=True)):
        body = body.replace("{" + letter + "}", f'{first + i} "" {{ {payoff!r} {-payoff!r} }}')
    return body


def test_a_payoff_that_chance_cannot_reach_counts_for_nothing(tmp_path: Path) -> None:
    """1,-1 / -1,2 is worth 1/5 to a row player who plays (3, 2) / 5."""
    reached = two_by_two(1, -1, -1, 2)
    game = efg(tmp_path, f'c "" 1 "" {{ "y" 1 "n" 0 }} 0 {reached} t "" 9 "" {{ 1e12 -1e12 }}')
    solution = mmd.solve(game)
    assert solution.converged
    np.testing.assert_allclose(solution.value, 0.2, rtol=0, atol=1e-11)
    np.testing.assert_allclose(solution.policy.probabilities[0][1:], [0.6, 0.4], rtol=0, atol=1e-9)
    assert game.description.payoff_range == 3


def test_one_extreme_payoff_does_not_loosen_the_rest(tmp_path: Path) -> None:
    solution = mmd.solve(efg(tmp_path, two_by_two(1, -1, -1e12, 1)))
    assert solution.converged
    np.testing.assert_allclose(solution.value, -0.999999999996, rtol=0, atol=1e-15)


def test_a_common_constant_is_taken_out(tmp_path: Path) -> None:
    solution = mmd.solve(efg(tmp_path, two_by_two(1e9 + 1, 1e9, 1e9, 1e9 + 3)))
    assert solution.converged
    np.testing.assert_allclose(solution.value, 1e9 + 0.75, rtol=0, atol=1e-6)
    np.testing.assert_allclose(solution.policy.probabilities[0][1:], [0.75, 0.25], rtol=0, atol=1e-9)


def test_nobody_decides(tmp_path: Path) -> None:
    game = efg(tmp_path, 'c "" 1 "" { "a" 1/3 "b" 2/3 } 0 t "" 1 "" { 1 -1 } t "" 2 "" { -1 1 }')
    solution = mmd.solve(game)
    assert solution.converged
    np.testing.assert_allclose([solution.value, solve_exactly(game).value], -1 / 3, rtol=0, atol=1e-15)
    assert mmd.exploitability(game, solution.policy) == 0


@pytest.mark.parametrize("algorithm", ["auto", "anchored", "mmd", "cfr+", "pcfr+"])
def test_one_player_decides_alone(algorithm: str) -> None:
    """Chance hides which of two boxes has 3 and which has 1; a look tells. The best is to look and take 3."""
    from mmd.algorithms import load

    infosets = (InfosetInfo(0, "left", ("take", "leave")), InfosetInfo(0, "right", ("take", "leave")))
    tree = Tree(
        name="boxes",
        players=("A", "B"),
        parent=np.array([-1, 0, 0, 1, 1, 2, 2]),
        action=np.array([0, 0, 1, 0, 1, 0, 1]),
        infoset=np.array([CHANCE, 0, 1, TERMINAL, TERMINAL, TERMINAL, TERMINAL]),
        probability=np.array([1, 0.5, 0.5, 1, 1, 1, 1]),
        payoffs=np.array([[0, 0], [0, 0], [0, 0], [3, -3], [1, -1], [1, -1], [3, -3.0]]),
        infosets=infosets,
    )
    game = compile_tree(tree)
    assert [player.n_infosets for player in game.players] == [2, 0]
    solution = mmd.solve(game, load(algorithm)(), tolerance=1e-6)
    np.testing.assert_allclose(solution.value, 3.0, rtol=0, atol=0.3 if algorithm == "mmd" else 3e-6)
    np.testing.assert_allclose(solution.value + 2 * solution.exploitability, 3.0, rtol=0, atol=1e-12)


def test_a_tree_of_a_thousand_levels(tmp_path: Path) -> None:
    """Stopping at level k pays (7919 k mod 13) - 6; who stops first follows by backward induction."""
    depth = 1_000
    pays = [(7919 * k) % 13 - 6 for k in range(depth)] + [1]
    lines, expected = [], pays[-1]
    for k in range(depth):
        lines += [f'p "" {1 + k % 2} {k + 1} "" {{ "stop" "go" }} 0', f't "" {k + 1} "" {{ {pays[k]} {-pays[k]} }}']
    for k in reversed(range(depth)):
        expected = max(pays[k], expected) if k % 2 == 0 else min(pays[k], expected)
    game = efg(tmp_path, "\n".join([*lines, f't "" {depth + 1} "" {{ 1 -1 }}']))
    solution = mmd.solve(game)
    assert solution.converged
    np.testing.assert_allclose(solution.value, expected, rtol=0, atol=1e-12)


def test_every_file_of_the_real_data_ends_in_an_answer_or_a_sentence(data: Path) -> None:
    solved = 0
    for path in sorted((data / "efg").rglob("*.?fg")):
        try:
            game = games.load(str(path))
        except mmd.GameError:
            continue
        solved += 1
        if max(player.n_sequences for player in game.players) < 50:
            assert mmd.solve(game).converged, path
    assert solved >= 8
