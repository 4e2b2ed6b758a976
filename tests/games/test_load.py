"""games.load: specs of built-in games and files, and what is said about those that name nothing."""

import subprocess
import sys

import numpy as np
import pytest

import games
from games.readers.files import GameFormatError
from mmd.game.game import GameError
from tests.games import plain


def test_available_specs_load_and_say_their_own_name():
    specs = games.available()
    assert {"kuhn_poker:cards=3", "leduc_poker:ranks=3,suits=2,raises=2", "preference:cycle"} <= set(specs)
    for spec, sentence in specs.items():
        assert games.load(spec).name == spec
        assert sentence.endswith(".")


def test_parameters_reach_the_game():
    """In Kuhn poker each player has two infosets of two actions for each card: 1 + 4 cards sequences."""
    assert games.load("kuhn_poker:cards=5").row.n_sequences == 1 + 4 * 5
    assert games.load("kuhn_poker").name == games.load("kuhn_poker:cards = 3").name == "kuhn_poker:cards=3"


UNKNOWN = [
    ("leduc", "there is no built-in game 'leduc': try leduc_poker"),
    ("kuhn_pokre:cards=3", "there is no built-in game 'kuhn_pokre': try kuhn_poker"),
    ("", "there is no built-in game ''"),
    ("x" * 5_000, "there is no built-in game"),
    ("compile", "there is no built-in game 'compile'"),
    ("matrix", "there is no built-in game 'matrix'"),
    ("preference", "there is no built-in game 'preference': try preference:"),
    ("preference:cycl", "there is no built-in game 'preference:cycl': try preference:cycle"),
    ("kuhn_poker:deck=3", "kuhn_poker has no parameter 'deck': known are cards"),
    ("leduc_poker:rank=3", "leduc_poker has no parameter 'rank': try ranks"),
    ("leduc_poker:ranks=three", "leduc_poker: expected ranks to be of type int, got 'three'"),
    ("leduc_poker:ranks=", "leduc_poker: expected ranks to be of type int, got ''"),
    ("kuhn_poker:cards=3,cards=4", "kuhn_poker: expected cards once, got it twice"),
    ("kuhn_poker:cards=1", "kuhn_poker: expected 2 to 13 cards, got 1"),
    ("preference:cycle,cards=3", "preference has no parameter 'cards': there are none"),
]


@pytest.mark.parametrize(("spec", "message"), UNKNOWN)
def test_unknown_games_and_parameters_suggest_the_nearest(spec, message):
    with pytest.raises(GameError) as error:
        games.load(spec)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("spec", "instead"),
    [
        ("kuhn_poker(cards=4)", "kuhn_poker:cards=4"),
        ("leduc_poker( ranks = 3, suits=2 )", "leduc_poker:ranks=3,suits=2"),
        ("kuhn_poker()", "kuhn_poker"),
        ("kuhn_poker(4)", "kuhn_poker"),
        ("preference(cycle)", "preference:cycle"),
    ],
)
def test_parameters_in_brackets_are_put_into_the_form_of_a_spec(spec, instead):
    with pytest.raises(GameError) as error:
        games.load(spec)
    assert str(error.value) == f"there is no built-in game {spec!r}: try {instead}"
    games.load(instead)


def test_paths_that_hold_no_game(tmp_path):
    (tmp_path / "notes.txt").write_text("1,2\n")
    (tmp_path / "folder.json").mkdir()
    cases = {
        "none.json": "there is no such file",
        "none.csv": "there is no such file",
        "notes.txt": "expected a file that ends in .json, .csv, .tsv, .npy, .soc, .soi, .toc, .toi, .nfg, .efg, "
        "got the ending '.txt'",
        "folder.json": "expected a file, got a directory",
        "none.nfg#judge=x": "#judge does not apply to .nfg files, try #sum_tolerance",
    }
    for name, sentence in cases.items():
        with pytest.raises(GameFormatError) as error:
            games.load(f"{tmp_path / name}")
        assert error.value.sentence == sentence
    with pytest.raises(GameFormatError, match="got a directory"):
        games.load(tmp_path)


def test_a_hash_may_be_part_of_a_files_name(tmp_path):
    path = tmp_path / "run#1.csv"
    path.write_text("3,-1\n-1,1\n")
    np.testing.assert_allclose(plain.lp_value(games.load(path)), 1 / 3, rtol=0, atol=1e-12)


def test_a_built_in_name_is_not_shadowed_by_a_folder(tmp_path, monkeypatch):
    (tmp_path / "kuhn_poker").mkdir()
    monkeypatch.chdir(tmp_path)
    assert games.load("kuhn_poker").name == "kuhn_poker:cards=3"


def test_importing_games_starts_no_backend():
    """Nothing happens at import: no device is initialised and no game is built."""
    code = (
        "import games, jax._src.xla_bridge as bridge, sys; "
        "assert not bridge._backends; assert 'games.leduc_poker' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
