"""How likely plays are: with every play paying 1, every pair of policies gets exactly 1."""

import numpy as np
import pytest

import games
import mmd
from mmd.game.game import Game
from mmd.measure.certificate import certify

TWO_STAGES = """EFG 2 R "chance ends it early" { "A" "B" }
c "" 1 "" { "stop" 1/4 "go" 3/4 } 0
t "" 1 "" { 0 0 }
p "" 1 1 "" { "l" "r" } 0
p "" 2 1 "" { "l" "r" } 0
t "" 2 "" { 1 -1 }
t "" 3 "" { 0 0 }
t "" 4 "" { -2 2 }
"""


def assert_every_play_pays_1(game: Game) -> None:
    assert game.description.plays is not None
    entries = game.description.plays()
    assert (entries.values > 0).all()
    paying = Game.from_entries(game.players, entries, game.description)
    certificate = certify(paying, mmd.Policy.random(game, seed=1).probabilities)
    np.testing.assert_allclose(certificate.value, 1.0 + game.description.offset, rtol=0, atol=1e-12)
    np.testing.assert_allclose(certificate.nash_conv, 0.0, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "spec",
    [
        "kuhn_poker",
        "leduc_poker",  # ties
        "liars_dice:faces=3",
        "liars_dice:faces=2,dice=2",  # hands that are not equally likely
        "goofspiel:cards=4",  # ties
        "preference:cycle",  # a diagonal of zeros, and an offset
    ],
)
def test_built_in_games(spec: str) -> None:
    assert_every_play_pays_1(games.load(spec))


def test_a_large_game_works_its_plays_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("games.liars_dice.KEPT_PLAYS", 0)
    assert_every_play_pays_1(games.load("liars_dice:faces=2,dice=2"))


def test_files(tmp_path) -> None:
    path = tmp_path / "stages.efg"
    path.write_text(TWO_STAGES)
    assert_every_play_pays_1(games.load(str(path)))
