"""Real preference tables, elections and bots: the default's answer against the linear program's."""

from pathlib import Path

import numpy as np
import pytest

import games
import mmd
from benchmarks.claims.real_data import BOTS, DATA, compare, specs

ARENA = "llm/chatbot_arena_cyclic_subset.json"


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not beside this checkout")
@pytest.mark.parametrize("spec", specs(DATA) if DATA.is_dir() else [])
def test_default_agrees_with_the_linear_program(spec: str) -> None:
    result = compare(DATA, spec)
    assert result["status"] == "CONVERGED"
    assert result["exploitability_of_range"] <= 1e-9
    assert result["value_error_of_range"] <= 1e-9
    assert result["unique"]
    assert result["distance_to_optimal_face"] <= 1e-6


def test_every_file_is_covered(data: Path) -> None:
    files = {spec.split("#")[0] for spec in specs(data)}
    assert files == {
        str(p.relative_to(data)) for kind in ("llm", "elections", "games") for p in data.glob(f"{kind}/*.json")
    }


def test_three_models_share_the_arena_equilibrium(data: Path) -> None:
    solution = mmd.solve(games.load(str(data / ARENA)), tolerance=1e-9)
    assert solution.converged
    lottery = solution.policy.lottery()
    support = {name for name, share in lottery.items() if share > 1e-6}
    assert len(support) == 3
    np.testing.assert_allclose(solution.value, 0.5, rtol=0, atol=1e-9)


def test_an_election_without_a_cycle_elects_its_condorcet_winner(data: Path) -> None:
    """Burlington 2009: Montroll beats everyone head to head, though another candidate was elected."""
    game = games.load(str(data / "elections/us_vt_btv_2009_03_mayor.json"))
    solution = mmd.solve(game)
    lottery = solution.policy.lottery()
    np.testing.assert_allclose(lottery["Andy Montroll"], 1, rtol=0, atol=1e-9)
    assert any("Andy Montroll" in fact for fact in game.description.facts)


def test_antisymmetrized_bots_are_a_fair_game(data: Path) -> None:
    solution = mmd.solve(games.load(str(data / f"{BOTS}#antisymmetrized")))
    np.testing.assert_allclose(solution.value, 0, rtol=0, atol=1e-9)
    measured = mmd.solve(games.load(str(data / BOTS)))
    assert abs(measured.value) > 0.3
