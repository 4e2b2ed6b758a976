"""PrefLib's files: counts against voter-by-voter counting on the structures of real files, and malformed lines."""

import ast
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import games
from games.readers.files import GameFormatError
from games.readers.preflib import read_profile
from mmd.game.game import Game
from tests.games import plain

NAMES = ("Branden Robinson", "Raphaël Hertzog", "Garbee: Bdale", "None Of The Above")


def header(kind: str, ballots: str, **other: object) -> str:
    """The metadata of real files, above ballots of four alternatives."""
    lines = [line for line in ballots.splitlines() if line.strip()]
    fields = {
        "FILE NAME": f"00002-00000001.{kind}",
        "TITLE": "Debian 2002 Leader",
        "DESCRIPTION": "",
        "DATA TYPE": kind,
        "MODIFICATION TYPE": "original",
        "RELATES TO": "",
        "RELATED FILES": "00002-00000001.toc",
        "PUBLICATION DATE": "2013-08-17",
        "NUMBER ALTERNATIVES": len(NAMES),
        "NUMBER VOTERS": sum(int(line.split(":")[0]) for line in lines),
        "NUMBER UNIQUE ORDERS": len(lines),
        **{f"ALTERNATIVE NAME {i}": name for i, name in enumerate(NAMES, 1)},
        **other,
    }
    return "".join(f"# {key}: {value}\n" for key, value in fields.items() if value is not None)


BALLOTS = {  # five structures of real files
    "soc": "100: 3,1,2,4\n79: 1,3,2,4\n54: 3,2,1,4\n43: 2,3,1,4\n7: 4,2,1,3\n",
    "soi": "60: 3,1,2,4\n29: 2,3,1\n9: 3\n7: 1,4\n1: 4,2\n",
    "toc": "40: 3,1,2,4\n9: 3,{1,2,4}\n5: {2,3},{1,4}\n2: 2,{1,3},4\n",  # unranked ones tied at the end, and other ties
    "toi": "13: 1, {4, 3}, 2\n6: {1,2}\n4: 4\n2: {2,4},3\n",
    "soi, one on no ballot": "12: 1,2\n5: 2,3,1\n",  # an alternative need not appear
}


def voters_of(ballots: str) -> list[list[set[int]]]:
    """Every voter's ballot: the sets of alternatives that share a place. Python reads them as tuples of sets."""
    found = []
    for line in ballots.splitlines():
        count, order = line.split(":")
        places = [place if isinstance(place, set) else {place} for place in ast.literal_eval(f"({order},)")]
        found += [places] * int(count)
    return found


def counted(ballots: str, *, unranked_last: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """How many voters put i before j, and how many tie them, asking every voter about every pair."""
    before, tied = np.zeros((4, 4)), np.zeros((4, 4))
    for places in voters_of(ballots):
        listed = set().union(*places)
        if unranked_last and len(listed) < 4:
            places = [*places, {1, 2, 3, 4} - listed]
        position = {alternative: at for at, place in enumerate(places) for alternative in place}
        for i, j in itertools.permutations(position, 2):
            before[i - 1, j - 1] += position[i] < position[j]
            tied[i - 1, j - 1] += position[i] == position[j]
    return before, tied


def shares_of(game: Game) -> np.ndarray:
    return plain.matrix_of(game)[1:, 1:] + 0.5


def expected(ballots: str, *, unranked_last: bool = False) -> np.ndarray:
    before, tied = counted(ballots, unranked_last=unranked_last)
    total = before + before.T + tied
    return np.where(total > 0, (before + tied / 2) / np.maximum(total, 1), 0.5)


@pytest.mark.parametrize("structure", BALLOTS)
def test_shares_are_those_of_asking_every_voter(tmp_path: Path, structure: str) -> None:
    kind, ballots = structure[:3], BALLOTS[structure]
    path = tmp_path / f"election.{kind}"
    path.write_text(header(kind, ballots) + ballots, "utf-8")
    game = games.load(f"{path}#missing=half")
    np.testing.assert_allclose(shares_of(game), expected(ballots), rtol=0, atol=1e-15)
    assert plain.labels(game)[0].actions[0] == NAMES
    assert game.description.symmetric
    last = games.load(f"{path}#unranked=last")
    np.testing.assert_allclose(shares_of(last), expected(ballots, unranked_last=True), rtol=0, atol=1e-15)
    voters = len(voters_of(ballots))
    assert f"{voters} ballots" in game.description.facts
    for read in (game, last):
        assert read.description.sample is not None
        table = np.nan_to_num(read.description.sample.table(), nan=0.5)
        np.testing.assert_allclose(table, shares_of(read), rtol=0, atol=1e-15)


@pytest.mark.parametrize("structure", BALLOTS)
def test_counts_are_those_of_asking_every_voter(tmp_path: Path, structure: str) -> None:
    """Shares alone would not notice voters who are counted twice."""
    kind, ballots = structure[:3], BALLOTS[structure]
    path = tmp_path / f"election.{kind}"
    path.write_text(header(kind, ballots) + ballots, "utf-8")
    profile = read_profile(path)
    asked = np.repeat(profile.ranks, profile.voters, axis=0)
    first, second = asked[:, :, None], asked[:, None, :]
    both = (first > 0) & (second > 0) & ~np.eye(4, dtype=bool)
    before, tied = counted(ballots)
    np.testing.assert_array_equal((both & (first < second)).sum(axis=0), before)
    np.testing.assert_array_equal((both & (first == second)).sum(axis=0), tied)


def test_pairs_that_nobody_ranks_both_are_refused_or_left_out(tmp_path: Path) -> None:
    ballots = BALLOTS["soi, one on no ballot"]
    path = tmp_path / "election.soi"
    path.write_text(header("soi", ballots) + ballots, "utf-8")
    with pytest.raises(GameFormatError, match="'Branden Robinson' and 'None Of The Above' were never compared"):
        games.load(path)
    dropped = games.load(f"{path}#missing=drop")
    assert plain.labels(dropped)[0].actions[0] == NAMES[:3]
    np.testing.assert_allclose(shares_of(dropped), expected(ballots)[:3, :3], rtol=0, atol=1e-15)


ORDERS = st.lists(st.integers(0, 3), min_size=4, max_size=4).filter(any)  # place of each alternative, 0 for unranked


@settings(max_examples=40)
@given(profile=st.lists(st.tuples(st.integers(1, 9), ORDERS), min_size=1, max_size=6), crlf=st.booleans())
def test_any_profile_is_counted_as_it_was_written(tmp_path_factory, profile, crlf: bool) -> None:
    lines = []
    for voters, order in profile:
        places = [[str(i + 1) for i in range(4) if order[i] == place] for place in (1, 2, 3)]
        written = ["{" + ",".join(place) + "}" if len(place) > 1 else place[0] for place in places if place]
        lines.append(f"{voters}: {','.join(written)}")
    ballots = "\n".join(lines) + "\n"
    path = tmp_path_factory.mktemp("preflib") / "a.toi"
    content = header("toi", ballots) + ballots
    path.write_bytes((content.replace("\n", "\r\n") if crlf else content).encode())
    game = games.load(f"{path}#missing=half")
    np.testing.assert_allclose(shares_of(game), expected(ballots), rtol=0, atol=1e-15)


FIRST = len(header("soi", "").splitlines()) + 1  # line of the first ballot
BAD = [  # kind, ballots, changes of the header, line, column, message
    ("soi", "3 1,2\n", {}, FIRST, 1, "expected a number of voters, a colon and a ballot, got '3 1,2'"),
    ("soi", "0: 1,2\n", {}, FIRST, 1, "expected a number of voters"),
    ("soi", "-3: 1,2\n", {}, FIRST, 1, "expected a number of voters"),
    ("soi", "3: 1,2\n2: 1,5\n", {}, FIRST + 1, 6, "the number of an alternative, 1 to 4, got '5'"),
    ("soi", "3: 1,0\n", {}, FIRST, 6, "1 to 4, got '0'"),
    ("soi", "3: 1,2,1\n", {}, FIRST, 8, "expected each alternative once on a ballot, got 1 again"),
    ("toi", "3: {1,2,1}\n", {}, FIRST, 4, "expected each alternative once on a ballot, got 1 again"),
    ("toi", "3: {1,},2\n", {}, FIRST, 4, "1 to 4, got nothing"),
    ("toi", "3: {1,2\n", {}, FIRST, 4, "expected numbers with commas between them, got '{1,2'"),
    ("soi", "3: 1,,2\n", {}, FIRST, 6, "expected numbers with commas between them, got ',2'"),
    ("soi", "3: 1,2,\n", {}, FIRST, 8, "expected numbers with commas between them, got ''"),
    ("soi", "3:\n", {}, FIRST, 3, "expected numbers with commas between them, got ''"),
    ("soi", "3: 1 2\n", {}, FIRST, 4, "expected numbers with commas between them, got '1 2'"),
    ("soi", "3: 1,{2,3}\n", {}, FIRST, 6, "expected no ties in a .soi file, got '{2,3}'"),
    ("soc", "3: 1,2,4\n", {}, FIRST, None, "expected every alternative on a ballot of a .soc file, 3 is not"),
    ("toc", "3: 1,{2,4}\n", {}, FIRST, None, "a .toc file, 3 is not"),
    ("soi", "3: 1,2\n# TITLE: late\n", {}, FIRST + 1, 1, "expected a ballot, got a line of the header"),
    ("soi", "", {}, None, None, "expected ballots below the header, there are none"),
    ("soi", "3: 1,2\n", {"NUMBER VOTERS": 4}, 10, None, "expected NUMBER VOTERS to be what the file holds, 3, got 4"),
    ("soi", "3: 1,2\n", {"NUMBER UNIQUE ORDERS": 2}, 11, None, "NUMBER UNIQUE ORDERS to be what the file holds, 1"),
    ("soi", "3: 1,2\n", {"NUMBER ALTERNATIVES": 5}, 9, None, "NUMBER ALTERNATIVES to be what the file holds, 4, got 5"),
    ("soi", "3: 1,2\n", {"NUMBER VOTERS": "many"}, 10, None, "expected NUMBER VOTERS to be a number, got 'many'"),
    ("soi", "3: 1,2\n", {"DATA TYPE": "toc"}, 4, None, "expected the data type soi, as the file's ending, got 'toc'"),
    ("soi", "3: 1,2\n", {"ALTERNATIVE NAME 2": None}, FIRST - 1, 1, "1 to 4, that of 2 is missing"),
    ("soi", "3: 1,2\n", {"ALTERNATIVE NAME 04": "x"}, FIRST, None, "a name for each alternative once"),
]


@pytest.mark.parametrize(("kind", "ballots", "changes", "line", "column", "message"), BAD)
def test_malformed_lines_are_named(tmp_path: Path, kind, ballots, changes, line, column, message) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_text(header(kind, "", **{"NUMBER VOTERS": 3, "NUMBER UNIQUE ORDERS": 1, **changes}) + ballots, "utf-8")
    with pytest.raises(GameFormatError) as error:
        games.load(path)
    assert (error.value.line, error.value.column) == (line, column)
    assert message in error.value.sentence


def test_the_format_before_2022_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.soc"
    path.write_text("3\n1,Ann\n2,Bob\n3,Cid\n5,5,1\n5,1,2,3\n", "utf-8")
    with pytest.raises(GameFormatError, match=r"a.soc:1:1: .*files of before 2022 begin with their number"):
        games.load(path)


def test_options_of_other_files_do_not_apply(tmp_path: Path) -> None:
    path = tmp_path / "a.soi"
    path.write_text(header("soi", "3: 1,2\n") + "3: 1,2\n", "utf-8")
    for option, message in (
        ("judge=x", "#judge does not apply to .soi files, try #missing, #unranked"),
        ("unranked=first", "expected unranked to be missing or last, got 'first'"),
        ("missing", "expected #missing=refuse|half|drop, got #missing"),
    ):
        with pytest.raises(GameFormatError) as error:
            games.load(f"{path}#{option}")
        assert message in str(error.value)
