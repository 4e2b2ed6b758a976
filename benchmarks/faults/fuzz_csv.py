"""A long fuzz of the CSV reader: thousands of files whose matrix is known; none may be read as another matrix.

Each file is of one kind. Those of READ have to give their matrix and their names, in at least 98 of 100 files (a table
that looks as if it counted its own rows or columns is rightly refused). Those of REFUSED have one or more cells that
people read differently, often a whole first row or column of them; they have to be refused, with the line and the cell
of the first one. Those of EITHER may be read or refused. Prints a table and writes benchmarks/results/fuzz_csv.json;
exits with 1 if a file was read wrongly, refused at another place, or ended in an error that is not a GameError.

    python -m benchmarks.faults.fuzz_csv --examples 5000
"""

import argparse
import codecs
import csv
import io
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float

import games
from benchmarks.report import environment, print_table, store
from games.readers.files import GameFormatError
from mmd.measure.sequence_form import payoff_matrix

NEEDED = 0.98  # share of the files of READ that are read
LARGEST = 5
NAMES: tuple[str, ...] = (
    "rock",
    "paper",
    "Begich, Nick",
    "gpt-4",
    "2-opt",
    "Zoë 策",
    'say "hi"',
    "\u270a",
    "a;b",
    "May",
    "x 1",
    "C++",
    "two\nlines",
    "n0",
)
Number = tuple[str, float]  # as it is written, and its value


@dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        kind: of READ, REFUSED or EITHER.
        suffix, content: of the file.
        matrix: what it says.
        rows, columns: names it gives; None where it gives none.
        place: line and cell of the first cell that has to be refused; None where there is none.
    """

    kind: str
    suffix: str
    content: bytes
    matrix: Float[np.ndarray, "m n"]
    rows: list[str] | None
    columns: list[str] | None
    place: tuple[int, int] | None


@dataclass
class Tally:
    """What came of the files of one kind."""

    files: int = 0
    read: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    other_errors: list[str] = field(default_factory=list)


# -------------------------------------------------------------------- numbers and cells


def plain(rng: random.Random) -> Number:
    """A decimal in one of many spellings."""
    x = rng.choice((rng.uniform(-1, 1), rng.gauss(0, 100), rng.randint(-9, 9), 10.0 ** rng.randint(-9, 9)))
    text = rng.choice((repr(x), f"{x:.3f}", f"{x:.2e}", f"{x:+g}", f"{x:.0f}."))
    return text, float(text)


def negative(rng: random.Random) -> Number:
    """A number below 0 with one of the minus signs of text programs."""
    text = f"{-abs(plain(rng)[1]) - 1:.4g}"
    return text.replace("-", rng.choice("\u2212\u2212\u2013\uff0d"), 1), float(text)


def fraction(rng: random.Random) -> Number:
    """A fraction, of which some are whole."""
    numerator, denominator = rng.randint(-20, 20), rng.randint(1, 20)
    return rng.choice((f"{numerator}/{denominator}", f"{numerator} / {denominator}")), numerator / denominator


def percent(rng: random.Random) -> Number:
    """A percentage with up to two decimals."""
    text = f"{rng.uniform(-100, 100):.{rng.randint(0, 2)}f}"
    return text + rng.choice(("%", " %")), float(Fraction(text) / 100)


def decimal_comma(rng: random.Random) -> str:
    """A number as most of Europe writes it, and thousands as English does."""
    x = rng.uniform(-9, 9)
    return rng.choice((f"{x:.1f}".replace(".", ","), f"{1000 * x:,.0f}0,000", f"{x:.2e}".replace(".", ",")))


def date(rng: random.Random) -> str:
    """A day or a time of it, such as spreadsheets make of 1-2 and 3/4."""
    day, month, year = rng.randint(1, 28), rng.choice(("Jan", "Feb", "May", "Oct", "Dec")), rng.randint(1990, 2030)
    return rng.choice((f"{day}-{month}", f"{month}-{year}", f"{year}-01-{day:02}", f"{day}/3/{year}", f"{day}:30"))


def currency(rng: random.Random) -> str:
    """An amount of money."""
    x = rng.choice((f"{rng.uniform(0, 99):.2f}", str(rng.randint(0, 99))))
    return rng.choice(("${}", "{}€", "€ {}", "-£{}", "{} EUR", "USD {}", "R${}", "({} kr)", "US$ {}")).format(x)


def hexadecimal(rng: random.Random) -> str:
    """A number in base 16."""
    x = rng.randint(0, 4095)
    return rng.choice((f"0x{x:x}", f"0X{x:X}", f"&H{x:X}", f"-0x{x:x}", f"0x1.{x:x}p3"))


def error_value(rng: random.Random) -> str:
    """What a spreadsheet shows where it cannot compute, or where the column is too narrow."""
    return rng.choice(("#DIV/0!", "#N/A", "#REF!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!", "####", "Err:502", "#WERT!"))


def missing(rng: random.Random) -> str:
    """A word or a sign for a missing or an infinite number."""
    words = ("nan", "NaN", "NA", "n/a", "null", "None", "-", "?", "inf", "-Infinity", "TRUE", "\u221e", "<NA>")
    return rng.choice(words)


def unit(rng: random.Random) -> str:
    """A number that is not alone."""
    forms = ("{} kg", "{}k", "~{}", "{}*", "({})", "{}_000", "{} 000", "{}-", "{}.5 (best)", "<{}", "{}\u00b0")
    return rng.choice(forms).format(rng.randint(1, 99))


def odd_digits(rng: random.Random) -> str:
    """Digits that are no decimal number: vulgar fractions, powers, circled and Roman ones."""
    return rng.choice(("\u00bd", "1\u00bd", "2\u00b2", "\u2460", "\u2163", "1/0", "01/02", "1 1/2", "1\u20132", "--1"))


READ: dict[str, Callable[[random.Random], Number]] = {
    "plain numbers": plain,
    "minus signs": negative,
    "fractions": fraction,
    "percents": percent,
    "byte order marks": plain,
    "quotes": plain,
    "declared separators": plain,
}
REFUSED: dict[str, Callable[[random.Random], str]] = {
    "decimal commas": decimal_comma,
    "dates": date,
    "currencies": currency,
    "hexadecimals": hexadecimal,
    "error values": error_value,
    "missing numbers": missing,
    "units": unit,
    "odd digits": odd_digits,
}
BETWEEN, NUMBERED = "decimal commas between semicolons", "numbered rows and columns"
EITHER = ("undeclared separators", BETWEEN, "comments", NUMBERED)
KINDS = (*READ, *REFUSED, *EITHER)


# -------------------------------------------------------------------- files


def draw(rng: random.Random, kind: str) -> Case:
    """A file of a kind."""
    m, n = rng.randint(1, LARGEST), rng.randint(2 if kind == BETWEEN else 1, LARGEST)
    number = READ.get(kind, rng.choice((plain, negative, fraction, percent)))
    cells = [[number(rng) for _ in range(n)] for _ in range(m)]
    matrix = np.array([[value for _, value in row] for row in cells])
    texts = [[text for text, _ in row] for row in cells]
    rows = rng.sample(NAMES, m) if kind != NUMBERED and rng.random() < 0.4 else None
    columns = rng.sample(NAMES, n) if rng.random() < 0.4 else None
    bad = _spoil(rng, texts, REFUSED[kind]) if kind in REFUSED else None
    table = [[*([rows[i]] if rows else []), *texts[i]] for i in range(m)]
    if columns:
        table.insert(0, [*([rng.choice(("", "payoff"))] if rows else []), *columns])
    case = Case(kind, ".csv", b"", matrix, rows, columns, None)
    if kind == NUMBERED:
        case, table = _numbered(rng, case, table)
    suffix, content, lines = _written(rng, kind, table)
    place = bad and (lines[bad[0] + bool(columns)], bad[1] + 1 + bool(rows))
    return replace(case, suffix=suffix, content=content, place=place)


def _spoil(rng: random.Random, texts: list[list[str]], bad: Callable[[random.Random], str]) -> tuple[int, int]:
    """Put bad cells in the first row, the first column, everywhere or anywhere; returns where the first one is."""
    m, n = len(texts), len(texts[0])
    all_cells = [(i, j) for i in range(m) for j in range(n)]
    chosen = rng.choice(
        (
            [(0, j) for j in range(n)],
            [(i, 0) for i in range(m)],
            all_cells,
            rng.sample(all_cells, rng.randint(1, m * n)),
        )
    )
    for i, j in chosen:
        texts[i][j] = bad(rng)
    return min(chosen)


def _numbered(rng: random.Random, case: Case, table: list[list[str]]) -> tuple[Case, list[list[str]]]:
    """The table as software writes it: behind a column that counts its rows, perhaps below a row that counts columns.

    Where no name shows what they are, the numbers are read as they stand.
    """
    start, corner = rng.randint(0, 1), rng.choice(("", "index", "x"))
    above = 1 if case.columns else 0
    counted = [[corner if i < above else str(start + i - above), *row] for i, row in enumerate(table)]
    if not above and rng.random() < 0.5:
        counted.insert(0, [corner, *(str(start + j) for j in range(len(table[0])))])
    columns = [corner, *case.columns] if case.columns else None
    numbers = np.arange(len(case.matrix), dtype=float)[:, None] + start
    return replace(case, matrix=np.hstack([numbers, case.matrix]), columns=columns), counted


def _written(rng: random.Random, kind: str, table: list[list[str]]) -> tuple[str, bytes, list[int]]:
    """The ending and the bytes of the file, and the line on which each row starts."""
    separator, suffix, head = ",", ".csv", ""
    end = rng.choice(("\n", "\r\n") if any("\n" in cell for row in table for cell in row) else ("\n", "\r\n", "\r"))
    if kind == "declared separators":
        separator, suffix = rng.choice(((";", ".csv"), ("\t", ".csv"), ("|", ".csv"), (",", ".csv"), ("\t", ".tsv")))
        head = f"sep={separator}{end}" if suffix == ".csv" else ""
    elif kind in ("undeclared separators", BETWEEN):
        separator = ";" if kind == BETWEEN else rng.choice(";\t| ")
    elif kind == "comments":
        head = rng.choice(("# ", "#", "% ", "// ")) + separator.join(rng.sample(NAMES[:2], 2)[: len(table[0])]) + end
    if kind == BETWEEN:
        table = [[cell.replace(".", ",") for cell in row] for row in table]
    quoting = csv.QUOTE_ALL if kind == "quotes" or rng.random() < 0.1 else csv.QUOTE_MINIMAL
    text, lines = io.StringIO(newline=""), []
    writer = csv.writer(text, delimiter=separator, lineterminator=end, quoting=quoting)
    text.write(head)
    spaced = rng.random() < 0.05  # a blank row after each; after some only, it would end a table
    for row in table:
        lines.append(1 + len(text.getvalue().replace("\r\n", "\n").replace("\r", "\n").split("\n")) - 1)
        writer.writerow(row)
        if spaced:
            text.write(end)
    mark = codecs.BOM_UTF8 if kind == "byte order marks" or rng.random() < 0.1 else b""
    return suffix, mark + text.getvalue().encode(), lines


# -------------------------------------------------------------------- what came of them


def judge(case: Case, folder: Path, tally: Tally) -> None:
    """Read one file and count what came of it."""
    path = folder / f"case{case.suffix}"
    path.write_bytes(case.content)
    tally.files += 1
    try:
        game = games.load(path)
    except GameFormatError as error:
        tally.refused += 1
        if case.place is not None and (error.line, error.column) != case.place:
            tally.elsewhere.append(f"{case.content!r}: {error}, not {case.place}")
        return
    except Exception:
        tally.other_errors.append(f"{case.content!r}\n{traceback.format_exc()}")
        return
    tally.read += 1
    payoffs = payoff_matrix(game).toarray()[1:, 1:] + game.description.offset
    right = payoffs.shape == case.matrix.shape and case.place is None
    right = right and bool((abs(payoffs - case.matrix) <= 1e-12 * abs(case.matrix).max()).all())
    for player, names in enumerate((case.rows, case.columns)):
        assert game.description.labels is not None
        right = right and (names is None or list(game.description.labels[player].actions[0]) == names)
    if not right:
        tally.wrong.append(f"{case.content!r} was read as {payoffs.tolist()}")


def fuzz(examples: int, seed: int) -> dict[str, Tally]:
    """Files of all kinds in turn."""
    rng = random.Random(seed)
    tallies = {kind: Tally() for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        for example in range(examples):
            kind = KINDS[example % len(KINDS)]
            judge(draw(rng, kind), Path(folder), tallies[kind])
    return tallies


def faults(tallies: dict[str, Tally]) -> list[str]:
    """What should not have come out, in words."""
    found = [text for tally in tallies.values() for text in (*tally.wrong, *tally.elsewhere, *tally.other_errors)]
    for kind in READ:
        if tallies[kind].read < NEEDED * tallies[kind].files:
            found.append(f"of {tallies[kind].files} files with {kind}, {tallies[kind].read} were read")
    return found


def main() -> None:
    """Run, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description="A long fuzz of the CSV reader.")
    parser.add_argument("--examples", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()
    tallies = fuzz(options.examples, options.seed)
    header = ("kind", "files", "read", "refused", "read wrongly", "refused elsewhere", "other errors")
    rows = []
    for kind, t in tallies.items():
        counts = (t.files, t.read, t.refused, len(t.wrong), len(t.elsewhere), len(t.other_errors))
        rows.append((kind, *map(str, counts)))
    print_table(header, rows)
    readable = [tallies[kind] for kind in READ]
    share = sum(t.read for t in readable) / sum(t.files for t in readable)
    print(f"\nread of what has to be read: {share:.2%}")
    results = {
        "environment": environment(),
        "seed": options.seed,
        "seconds": time.monotonic() - start,
        "read_share": share,
        "kinds": {kind: asdict(tally) for kind, tally in tallies.items()},
    }
    store("fuzz_csv", results)
    wrong = faults(tallies)
    print("\n".join(wrong[:20]))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
