"""Counted comparisons: CSV files of matches and of pairs, pairs that never met, and samples that are drawn again."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import games
from games.readers.files import GameFormatError
from mmd.game.game import Game, GameError
from mmd.game.sample import Ballots, Pairs
from tests.games import plain

MATCHES = [("x", "y", 1), ("y", "x", 0), ("y", "x", 1), ("x", "y", 0.5), ("z", "x", 1), ("y", "z", 0.5), ("x", "y", 1)]
SHARES = np.array([[0.5, 3.5 / 5, 0.0], [1.5 / 5, 0.5, 0.5], [1.0, 0.5, 0.5]])  # of the matches above, by hand
COUNTS = [("x", "y", 2, 1, 1), ("z", "x", 1, 0, 0), ("y", "z", 0, 0, 1), ("y", "x", 0, 1, 0)]


def shares_of(game: Game) -> np.ndarray:
    return plain.matrix_of(game)[1:, 1:] + game.description.offset


def labels_of(game: Game) -> tuple[str, ...]:
    return tuple(plain.labels(game)[0].actions[0])


def written(path: Path, rows: list, separator: str = ",") -> Path:
    path.write_text("".join(separator.join(map(str, row)) + "\n" for row in rows), "utf-8")
    return path


def refused(path: Path, content: str, options: str = "") -> GameFormatError:
    path.write_text(content, "utf-8")
    with pytest.raises(GameFormatError) as error:
        games.load(f"{path}{options}")
    return error.value


# -------------------------------------------------------------------- files


@pytest.mark.parametrize(("ending", "separator"), [("csv", ","), ("csv", ";"), ("csv", "\t"), ("tsv", "\t")])
def test_matches_and_counts_of_pairs_are_the_same_game(tmp_path: Path, ending: str, separator: str) -> None:
    """Ties count half for either side; rows of one pair are added, whoever is named first."""
    matches = written(tmp_path / f"m.{ending}", [("player", "opponent", "score"), *MATCHES], separator)
    counts = written(tmp_path / f"c.{ending}", [("a", "b", "wins_a", "wins_b", "ties"), *COUNTS], separator)
    for path in (matches, counts):
        game = games.load(path)
        np.testing.assert_allclose(shares_of(game), SHARES, rtol=0, atol=1e-15)
        assert labels_of(game) == ("x", "y", "z")
        assert game.description.symmetric
        assert game.description.facts == ("no Condorcet winner", "7 comparisons")


def test_columns_stand_in_any_order_and_numbers_are_names(tmp_path: Path) -> None:
    rows = [("Wins_B", "a", "WINS_A", "b"), (3, 1, 1, 2), (1, "3-Jan", 0, 2), (1, 1, 1, "3-Jan")]
    game = games.load(written(tmp_path / "a.csv", rows))
    np.testing.assert_allclose(shares_of(game), [[0.5, 0.25, 0.5], [0.75, 0.5, 1], [0.5, 0, 0.5]], rtol=0, atol=1e-15)
    assert labels_of(game) == ("1", "2", "3-Jan")


def test_rows_and_columns_of_their_own_make_a_game_that_is_not_symmetric(tmp_path: Path) -> None:
    """Its value is (a d - b c) / (a + d - b - c), as in every 2x2 game without a saddle point."""
    rows = [("row", "column", "wins", "losses", "ties"), ("L", "l", 1, 1, 2), ("L", "r", 4, 0, 0)]
    game = games.load(written(tmp_path / "a.csv", [*rows, ("R", "l", 3, 0, 0), ("R", "r", 1, 3, 0)]))
    np.testing.assert_allclose(shares_of(game), [[0.5, 1.0], [1.0, 0.25]], rtol=0, atol=1e-15)
    assert not game.description.symmetric
    np.testing.assert_allclose(plain.lp_value(game), (0.5 * 0.25 - 1) / (0.5 + 0.25 - 2), rtol=0, atol=1e-9)


BAD = [
    ("player,opponent,score\nx,y,1\nx,x,1\n", 3, 2, "'x' compared with itself"),
    ("a,b,wins_a,wins_b\nx,x,1,2\n", 2, 2, "'x' compared with itself"),
    ("a,b,wins_a,wins_b\nx,y,-1,2\n", 2, 3, "expected a count, a whole number of at least 0, got '-1'"),
    ("a,b,wins_a,wins_b\nx,y,1.5,2\n", 2, 3, "expected a count"),
    ("a,b,wins_a,wins_b\nx,y,1,\n", 2, 4, "got an empty cell"),
    ("a,b,wins_a,wins_b\nx,y,1,inf\n", 2, 4, "got 'inf'"),
    ("a,b,wins_a,wins_b\nx,,1,2\n", 2, 2, "expected a name, got an empty cell"),
    ("a,b,wins_a,wins_b\nx,y,1\n", 2, 4, "expected 4 cells as in line 1, got 3"),
    ("a,b,wins_a,wins_b\n\nx,y,1,2,3\n", 3, 5, "expected 4 cells as in line 1, got 5"),
    ("a,b,wins_a,wins_b\n", 2, 1, "expected comparisons below the header"),
    ("a,b,wins_a,wins_b,draws\nx,y,1,2,3\n", 1, 5, "got 'draws'"),
    ("\na,b,wins_a\nx,y,1\n", 2, None, "without wins_b"),
    ("player,opponent,score,ties\nx,y,1,0\n", 1, 4, "got 'ties'"),
    ("player;opponent;result\nx;y;1\n", 1, 3, "got 'result'"),
    ("player,opponent,score\nx,y,2\n", 2, 3, "expected a score, 1, 0 or 0.5, got '2'"),
    ("player,opponent,score\nx,y,won\n", 2, 3, "got 'won'"),
    ('player,opponent,score\nx,y,1\nx,"y\n', 3, None, "not CSV: unexpected end of data"),
]


@pytest.mark.parametrize(("content", "line", "column", "message"), BAD)
def test_bad_comparisons_are_refused_with_their_place(tmp_path, content, line, column, message) -> None:
    error = refused(tmp_path / "a.csv", content)
    assert (error.line, error.column) == (line, column)
    assert message in error.sentence


def test_a_matrix_whose_actions_have_such_names_stays_a_matrix(tmp_path: Path) -> None:
    game = games.load(written(tmp_path / "a.csv", [("wins", "losses"), (3, 1), (2, 4)]))
    np.testing.assert_array_equal(shares_of(game), [[3, 1], [2, 4]])


# -------------------------------------------------------------------- pairs that never met

MET = [("x", "y", 3, 1), ("x", "z", 1, 1), ("y", "z", 0, 2), ("u", "x", 1, 0), ("v", "x", 2, 0), ("v", "y", 1, 0)]


def test_pairs_that_never_met_are_refused_taken_for_ties_or_left_out(tmp_path: Path) -> None:
    """u has three such pairs (y, z, v), v two of them (z, u); without u and v all have met."""
    path = written(tmp_path / "a.csv", [("a", "b", "wins_a", "wins_b"), *MET])
    with pytest.raises(GameFormatError, match=r"'y' and 'u' were never compared.*missing=half .1/2. or missing=drop"):
        games.load(path)
    half, dropped = (games.load(f"{path}#missing={how}") for how in ("half", "drop"))
    assert labels_of(half) == ("x", "y", "z", "u", "v")
    assert shares_of(half)[3].tolist() == [1.0, 0.5, 0.5, 0.5, 0.5]
    assert any("4 pairs" in fact for fact in half.description.facts)
    assert labels_of(dropped) == ("x", "y", "z")
    assert "left out, since some pairs were never compared: 'u', 'v'" in dropped.description.facts
    assert "8 comparisons" in dropped.description.facts
    assert shares_of(dropped)[0].tolist() == [0.5, 0.75, 0.5]
    assert "expected missing to be refuse, half or drop, got 'none'" in str(
        refused(path, path.read_text(), "#missing=none")
    )


def test_drop_takes_the_option_with_the_most_missing_pairs_first() -> None:
    """On a path a-b-c-d-e of pairs that never met b or d goes first, and two are enough; the last one goes at a tie."""
    shares = np.full((5, 5), 0.5)
    for i in range(4):
        shares[i, i + 1] = shares[i + 1, i] = np.nan
    assert labels_of(games.preference.game(shares, labels="abcde", missing="drop")) == ("a", "c", "e")
    with pytest.raises(GameError, match="no pair of options was compared"):
        games.preference.game([[0.5, None], [None, 0.5]], missing="drop")


def test_json_tables_take_the_same_option(tmp_path: Path, data: Path) -> None:
    """Real votes on 25 models of which 62 pairs never met: what is left has all met, and shares are as before."""
    path = data / "llm/chatbot_arena_20240329.json"
    raw = json.loads(path.read_text())
    game = games.load(f"{path}#missing=drop")
    kept = [raw["names"].index(label) for label in labels_of(game)]
    expected = np.array(raw["preference"], float)[np.ix_(kept, kept)]
    np.fill_diagonal(expected, 0.5)
    np.testing.assert_allclose(shares_of(game), expected, rtol=0, atol=1e-15)
    assert 2 <= len(kept) < 25
    met = np.array(raw["counts"], float)[np.ix_(kept, kept)]
    assert game.description.sample is not None
    assert game.description.sample.size == np.nansum(np.triu(met, 1))
    half = games.load(f"{path}#missing=half")
    assert len(labels_of(half)) == 25
    assert any("62 pairs" in fact for fact in half.description.facts)


# -------------------------------------------------------------------- samples


def test_the_table_of_a_sample_is_the_game(data: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "c.csv", [("a", "b", "wins_a", "wins_b", "ties"), *COUNTS])
    for game in (games.load(path), games.load(sorted(data.glob("elections/*.json"))[0])):
        sample = game.description.sample
        assert sample is not None
        np.testing.assert_allclose(sample.table(), shares_of(game), rtol=0, atol=1e-12)


def test_pairs_are_drawn_with_the_variance_of_their_counts(rng: np.random.Generator) -> None:
    """Share (w + t/2) / N of outcomes with chances (w + 1/2, l + 1/2, t) / (N + 1); a pair that never met is a tie."""
    wins = np.array([[0, 30, 0, 10], [10, 0, 0, 0], [0, 0, 0, 40], [0, 0, 20, 0.0]])
    ties = np.zeros((4, 4))
    ties[0, 1] = ties[1, 0] = 20
    draws = Pairs(wins, wins.T, ties).draw(rng, 20_000)
    np.testing.assert_allclose(draws + draws.swapaxes(1, 2), 1.0, rtol=0, atol=1e-15)
    for (i, j), (w, l, t) in {(0, 1): (30, 10, 20), (0, 3): (10, 0, 0), (2, 3): (40, 20, 0)}.items():
        n = w + l + t
        up, down = (w + 0.5) / (n + 1), (l + 0.5) / (n + 1)
        mean, variance = 0.5 + (up - down) / 2, (up + down - (up - down) ** 2) / (4 * n)
        error = 5 * np.sqrt(variance / len(draws))
        np.testing.assert_allclose(draws[:, i, j].mean(), mean, rtol=0, atol=error)
        np.testing.assert_allclose(draws[:, i, j].var(), variance, rtol=0.05)
    assert (draws[:, 0, 2] == 0.5).all()
    assert abs(np.corrcoef(draws[:, 0, 1], draws[:, 2, 3])[0, 1]) < 0.05


def test_pairs_of_one_ballot_belong_together(rng: np.random.Generator) -> None:
    """Half the voters say a > b > c, the others the opposite: a voter too many moves all three shares alike."""
    ballots = Ballots(np.array([[1, 2, 3], [3, 2, 1]]), np.array([500, 500]))
    draws = ballots.draw(rng, 2_000)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        np.testing.assert_allclose(draws[:, i, j].std(), np.sqrt(0.25 / 1000), rtol=0.1)
        assert np.corrcoef(draws[:, i, j], draws[:, 0, 2])[0, 1] > 0.98  # all but the unseen ballot
    np.testing.assert_allclose(draws + draws.swapaxes(1, 2), 1.0, rtol=0, atol=1e-15)


def test_ten_wins_of_ten_are_not_certain(rng: np.random.Generator) -> None:
    """The unseen comparison is a win or a loss; so is the unseen ballot."""
    wins = np.array([[0, 10], [0, 0.0]])
    pairs = Pairs(wins, wins.T, np.zeros((2, 2))).draw(rng, 4_000)[:, 0, 1]
    ballots = Ballots(np.array([[1, 2]]), np.array([10])).draw(rng, 4_000)[:, 0, 1]
    for share in (pairs, ballots):
        np.testing.assert_allclose(share.mean(), 10.5 / 11, rtol=0, atol=0.01)
        counts = Counter(np.rint(10 * share).astype(int).tolist())
        np.testing.assert_allclose(counts[10] / 4_000, (10.5 / 11) ** 10, rtol=0, atol=0.04)


def test_counts_that_are_none_are_refused() -> None:
    count = games.preference.from_counts
    for given, message in (
        (lambda: count([[0, 1.5], [1, 0]]), "whole numbers of at least 0, got 1.5 in row 1, column 2"),
        (lambda: count([[0, -1], [1, 0]]), "got -1 in row 1, column 2"),
        (lambda: count([[0, 1], [1, 2]], labels="ab"), "no comparison of 'b' with itself"),
        (lambda: count([[0, 1], [1, 0]], [[0, 1], [2, 0]]), r"expected ties = ties.T, got 1 and 2"),
        (lambda: count([[0, 1], [1, 0]], [[0, 1, 2]]), "expected 2 rows and columns of counts"),
        (lambda: games.preference.game([[0.5, 1], [0, 0.5]], counts=[[0, 0], [0, 0]]), "got 0 and 0 for '0' over '1'"),
        (lambda: games.preference.game([[0.5, 1], [0, 0.5]], counts=[[0, 2], [3, 0]]), "expected counts = counts.T"),
        (lambda: games.matrix.from_counts([[1, 0]], [[1, 0]]), "'0' never met '1'"),
        (lambda: games.matrix.from_counts([[1, 0]], [[1]]), "expected as many losses and ties as wins"),
    ):
        with pytest.raises(GameError, match=message):
            given()
