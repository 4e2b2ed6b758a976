"""Policies on disk: what is written reads back as the same policy, and nothing else is taken for one."""

import io
import pickle

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmd.game.game import Game
from mmd.game.policy import PLAYERS, Policy
from mmd.game.policy_files import PolicyError, load

LABELS = (("rock", "paper"), ('he said "go, or else"', "wait", "Zürich\nGenf"))

VALID = """player,infoset,action,probability
row,row,rock,0.25
row,row,paper,0.75
column,column,left,0.5
column,column,right,0.5
"""


@pytest.fixture
def game() -> Game:
    return Game.from_matrix(np.array([[1.0, -1.0], [0.0, 2.0]]), labels=(("rock", "paper"), ("left", "right")))


def refusal(path, content, game) -> str:
    """The sentence that a file with this content is refused with."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PolicyError) as refused:
        load(path, game)
    return str(refused.value).removeprefix(str(path))


@given(weights=hnp.arrays(np.float64, 5, elements=st.floats(1e-12, 1.0)))
@example(weights=np.array([4.16512418e-03, 4.16512418e-03, 1e-12, 4.16512418e-03, 1e-12]))
def test_a_saved_policy_reads_back_the_same(weights, tmp_path_factory):
    game = Game.from_matrix(np.zeros((2, 3)), labels=LABELS)
    row, column = weights[:2] / weights[:2].sum(), weights[2:] / weights[2:].sum()
    policy = Policy(game, (np.append(1.0, row), np.append(1.0, column)))
    folder = tmp_path_factory.mktemp("policy")
    policy.save_csv(folder / "policy.csv")
    policy.save_npz(folder / "policy.npz")
    for read in (load(folder / "policy.csv", game), load(folder / "policy.npz", game), load(folder, game)):
        for player in range(2):
            np.testing.assert_allclose(read.probabilities[player], policy.probabilities[player], rtol=1e-15, atol=0)


def test_probabilities_written_with_six_digits_are_scaled_to_sum_exactly_one(game, tmp_path):
    path = tmp_path / "p.csv"
    game = Game.from_matrix(np.zeros((3, 1)))
    rows = "".join(f"row,row,{i},0.333333\n" for i in range(3))
    path.write_text(f"player,infoset,action,probability\n{rows}column,column,0,1\n")
    np.testing.assert_allclose(load(path, game).probabilities[0], [1, 1 / 3, 1 / 3, 1 / 3], rtol=1e-15)


def test_columns_may_come_in_any_order_with_a_byte_order_mark_and_windows_line_ends(game, tmp_path):
    rows = [line.split(",") for line in VALID.split()]
    turned = "\r\n".join(",".join([p, i, b, a]) for b, i, a, p in rows)
    path = tmp_path / "policy.csv"
    path.write_bytes(b"\xef\xbb\xbf" + turned.encode())
    np.testing.assert_allclose(load(path, game).probabilities[0], [1, 0.25, 0.75])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("row,row,rock", "row,raw,rock", ":2:2: unknown infoset 'raw' of the row player, did you mean 'row'?"),
        ("row,row,rock", "row,row,rook", ":2:3: unknown action 'rook' at infoset 'row', did you mean 'rock'?"),
        ("row,row,rock", "rows,row,rock", ":2:1: expected the player to be row or column, got 'rows'"),
        ("0.25", "-0.25", ":2:4: expected a probability, got '-0.25'"),
        ("0.25", "nan", ":2:4: expected a probability, got 'nan'"),
        ("0.25", "a quarter", ":2:4: expected a probability, got 'a quarter'"),
        ("0.25", "0.2", ":2: expected the probabilities at infoset 'row' of the row player to sum to 1, got 0.95"),
        ("0.25", "0.25,1", ":2: expected 4 fields, got 5"),
        ("rock,0.25", '"rock,0.25', ":5: expected comma-separated values (unexpected end of data)"),
        (
            "row,row,paper",
            "row,row,rock",
            ":3:3: action 'rock' at infoset 'row' of the row player was given before, on line 2",
        ),
        (
            "column,column,right,0.5\n",
            "",
            ": expected a row for action 'right' at infoset 'column' of the column player, found none",
        ),
        (
            "player,infoset",
            "player,state",
            ":1: expected the header player,infoset,action,probability, got player,state,action,probability",
        ),
    ],
)
def test_a_csv_that_is_no_policy_of_the_game_is_refused_with_its_place(game, tmp_path, old, new, expected):
    assert old in VALID
    assert refusal(tmp_path / "policy.csv", VALID.replace(old, new, 1), game) == expected


def test_lines_are_those_of_the_file_where_a_label_spans_two(tmp_path):
    game = Game.from_matrix(np.zeros((2, 3)), labels=LABELS)
    Policy(game, (np.array([1, 0.5, 0.5]), np.array([1, 0.5, 0.25, 0.25]))).save_csv(tmp_path / "policy.csv")
    good = (tmp_path / "policy.csv").read_text()
    assert ":6:4: expected a probability, got 'x'" in refusal(
        tmp_path / "a.csv", good.replace('Genf",0.25', 'Genf",x'), game
    )
    assert ":8:1: expected the player" in refusal(tmp_path / "b.csv", f"{good}both,column,wait,1\n", game)


def test_files_that_are_not_text_or_not_there_are_refused(game, tmp_path):
    assert "empty file" in refusal(tmp_path / "a.csv", "", game)
    assert "expected UTF-8 text, got something else at byte 1" in refusal(tmp_path / "b.csv", b"\xff\xfe", game)
    assert "expected a policy as a .npz or .csv file" in refusal(tmp_path / "c.txt", VALID, game)
    with pytest.raises(PolicyError, match=r"missing.csv: cannot read the policy \(No such file"):
        load(tmp_path / "missing.csv", game)
    with pytest.raises(PolicyError, match=r"policy.npz: cannot read the policy"):
        load(tmp_path, game)


def archive(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"row": [0.5, 0.5]}, "expected the arrays row and column, found no 'column'"),
        ({"row": [0.5, 0.5, 0.0]}, "expected the array 'row' to hold 2 numbers"),
        ({"row": [[0.5, 0.5]]}, "got float64 (1, 2)"),
        ({"row": ["a", "b"]}, "expected the array 'row' to hold 2 numbers"),
        (
            {"row": [0.5, np.nan]},
            "expected a probability for action 'paper' at infoset 'row' of the row player, got nan",
        ),
        (
            {"row": [1.5, -0.5]},
            "expected a probability for action 'paper' at infoset 'row' of the row player, got -0.5",
        ),
        ({"row": [0.5, 0.4]}, "expected the probabilities at infoset 'row' of the row player to sum to 1, got 0.9"),
        ({"row": np.array([0.5, 0.5], object)}, "damaged, or pickled, which is refused"),
    ],
)
def test_an_archive_that_is_no_policy_of_the_game_is_refused(game, tmp_path, arrays, expected):
    column = {} if "no 'column'" in expected else {"column": [0.5, 0.5]}
    assert expected in refusal(tmp_path / "policy.npz", archive(**arrays, **column), game)


def test_a_pickle_is_never_loaded(game, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was executed",))

    assert "damaged, or pickled" in refusal(tmp_path / "a.npz", pickle.dumps(Bomb()), game)
    bomb = archive(row=np.array([Bomb(), Bomb()], object), column=[0.5, 0.5])
    assert "damaged, or pickled" in refusal(tmp_path / "b.npz", bomb, game)


@given(cut=st.integers(0, 400), flip=st.integers(0, 400))
def test_a_damaged_archive_is_refused_or_read_as_a_policy(cut, flip, tmp_path_factory):
    game = Game.from_matrix(np.zeros((2, 2)))
    content = bytearray(archive(row=[0.25, 0.75], column=[0.5, 0.5]))
    content[flip % len(content)] ^= 0xFF
    path = tmp_path_factory.mktemp("damaged") / "policy.npz"
    path.write_bytes(content[: len(content) - cut])
    try:
        policy = load(path, game)
    except PolicyError:
        return
    for probabilities in policy.probabilities:
        np.testing.assert_allclose(probabilities[1:].sum(), 1.0, rtol=1e-15)


def test_policies_normalize_at_every_infoset_in_float64():
    game = Game.from_matrix(np.zeros((3, 2)))
    log_policy = (np.log(np.array([1, 0.2, 0.3, 0.6], np.float32)), np.log(np.array([1, 3, 1], np.float32)))
    policy = Policy.from_log(game, log_policy)
    for probabilities in policy.probabilities:
        assert probabilities.dtype == np.float64
        np.testing.assert_allclose(probabilities[1:].sum(), 1.0, rtol=1e-15)
    np.testing.assert_allclose(policy.probabilities[1], [1, 0.75, 0.25], rtol=1e-7)


def test_the_lottery_of_a_symmetric_game_is_the_mean_of_both_strategies():
    game = Game.from_matrix(np.zeros((2, 2)), labels=(("a", "b"), ("a", "b")), symmetric=True)
    policy = Policy(game, (np.array([1, 0.2, 0.8]), np.array([1, 0.6, 0.4])))
    named = policy.as_dict()
    assert named is not None
    assert set(named) == {*PLAYERS, "lottery"}
    assert named["lottery"] == pytest.approx({"a": 0.4, "b": 0.6}, rel=1e-15)
    assert named["row"] == {"a": 0.2, "b": 0.8}


def test_a_random_policy_is_set_by_its_seed_and_has_full_support():
    game = Game.from_matrix(np.zeros((50, 2)))
    first, again, other = (Policy.random(game, seed).probabilities[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first > 0).all()
    assert np.abs(first - other).max() > 1e-3
    np.testing.assert_allclose(first[1:].sum(), 1.0, rtol=1e-14)
