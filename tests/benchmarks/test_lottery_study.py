"""The study of lotteries on tables whose answers are known, and its page against the stored numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

import mmd
from benchmarks.claims.lottery_study import (
    ARENA,
    BEGIN,
    PAGE,
    Table,
    borda,
    bradley_terry,
    condorcet_winner,
    copeland,
    elo,
    payoffs,
    rank,
    rendered,
    resampled,
    study,
    table,
)
from benchmarks.report import RESULTS

STRENGTHS = np.array([0.9, 0.2, -0.1, -1.0])


def table_of(wins: np.ndarray, unit: str = "battle") -> Table:
    return Table("a table", tuple("abcdefgh"[: len(wins)]), wins, wins + wins.T, unit)


def transitive(battles: float) -> np.ndarray:
    """Wins that are exactly those of a Bradley-Terry model."""
    shares = 1 / (1 + np.exp(STRENGTHS - STRENGTHS[:, None]))
    return battles * shares * (1 - np.eye(len(shares)))


def test_a_clear_condorcet_winner_has_all_the_weight_in_every_resample(rng: np.random.Generator) -> None:
    """b beats everyone 950 to 50, the others form a cycle."""
    wins = np.array([[0, 50, 700, 300], [950, 0, 950, 950], [300, 50, 0, 700], [700, 50, 300, 0.0]])
    result = study(table_of(wins), 50, rng)
    assert result["condorcet_winner"] == result["bradley_terry_winner"] == "b"
    assert result["unique"]
    assert result["resampled"]["converged"] == 50
    assert result["resampled"]["condorcet_winner_has_largest_weight"] == 1
    for row in result["rows"]:
        assert row["interval"] == pytest.approx([float(row["option"] == "b")] * 2, abs=1e-9)


def test_strengths_of_transitive_wins_are_recovered() -> None:
    """So the order by Bradley-Terry is the order by Elo, and 400 points are a factor of ten."""
    found = bradley_terry(transitive(500))
    np.testing.assert_allclose(found, STRENGTHS - STRENGTHS.mean(), rtol=0, atol=1e-5)
    assert rank(found) == rank(elo(found)) == [1, 2, 3, 4]
    np.testing.assert_allclose(np.diff(elo(np.array([0.0, np.log(10)]))), 400, rtol=1e-12)


def test_scores_of_a_small_table_by_hand() -> None:
    """a beats b 3 : 1, b beats c 3 : 1, c and a are even."""
    payoff = payoffs(np.array([[0, 3, 2], [1, 0, 3], [2, 1, 0.0]]), np.full((3, 3), 4.0))
    np.testing.assert_allclose(payoff, [[0, 0.25, 0], [-0.25, 0, 0.25], [0, -0.25, 0]], rtol=0, atol=0)
    np.testing.assert_allclose(borda(payoff), [0.625, 0.5, 0.375], rtol=1e-15)
    np.testing.assert_allclose(copeland(payoff), [1.5, 1.0, 0.5], rtol=0, atol=0)
    assert condorcet_winner(payoff) is None
    assert condorcet_winner(payoff + np.array([[0, 0, 0.1], [0, 0, 0], [-0.1, 0, 0]])) == 0


def test_resampled_tables_are_games_around_the_table(rng: np.random.Generator) -> None:
    """Antisymmetric; on average the table itself, within five standard errors, whatever the unit."""
    wins = np.round(transitive(400))
    prompts = np.stack([wins, 2 * wins.T, wins])
    total = prompts.sum(axis=0)
    cases = [
        table_of(wins),
        Table("an election", tuple("abcd"), wins, np.full((4, 4), 500.0), "ballot"),
        Table("judged", tuple("abcd"), total, total + total.T, "prompt", prompts),
    ]
    for case in cases:
        draws = resampled(case, 400, rng)
        np.testing.assert_allclose(draws, -draws.transpose(0, 2, 1), rtol=0, atol=1e-15)
        error = np.abs(draws.mean(axis=0) - payoffs(case.wins, case.compared))
        assert (error <= 5 * draws.std(axis=0) / np.sqrt(400) + 1e-12).all(), case.unit
        assert draws.std(axis=0)[~np.eye(4, dtype=bool)].min() > 0.005


def test_a_table_of_one_prompt_does_not_move(rng: np.random.Generator) -> None:
    wins = transitive(10)
    one = Table("one prompt", tuple("abcd"), wins, wins + wins.T, "prompt", wins[None])
    for draw in resampled(one, 3, rng):
        np.testing.assert_allclose(draw, payoffs(wins, wins + wins.T), rtol=0, atol=1e-15)


def test_the_arena_table_is_the_game_that_is_read_from_its_file(data: Path) -> None:
    import games

    arena = table(data / ARENA)
    game = games.load(str(data / ARENA))
    np.testing.assert_allclose(
        payoffs(arena.wins, arena.compared), np.asarray(game.payoff.matrix)[1:, 1:], rtol=0, atol=1e-12
    )
    assert isinstance(game, mmd.Game)


def test_the_page_shows_the_stored_results() -> None:
    stored = json.loads((RESULTS / "lottery_study.json").read_text("utf-8"))["results"]
    page = PAGE.read_text("utf-8")
    assert rendered(stored) in page
    assert page.count(BEGIN) == 1
    assert all(r["resampled"]["converged"] == r["resampled"]["tables"] == 1_000 for r in stored)
    assert all(r["exploitability"] <= 1e-9 for r in stored)
