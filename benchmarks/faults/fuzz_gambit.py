"""A long fuzz of the two Gambit readers: every input must give a game or a GameError, quickly and in little memory.

Four kinds of input: random bytes, random text, random tokens after a valid start, and valid files (those built in here
and, where they are, those of ../shared/data) with tokens deleted, doubled, swapped or replaced, or the end cut off.
Prints a table and writes benchmarks/results/fuzz_gambit.json; exits with 1 if anything else than a game or a GameError
came out.

    python -m benchmarks.faults.fuzz_gambit --examples 200000 --seconds 90
"""

import argparse
import random
import re
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.report import environment, print_table, store
from games.readers import gambit
from games.readers.files import GameFormatError
from mmd.game.game import GameError

ROOT = Path(__file__).resolve().parents[2]
CORPUS = (
    'EFG 2 R "pennies" { "A" "B" } "comment" p "" 1 1 "" { "l" "r" } 0 p "" 2 1 "" { "L" "R" } 0 t "" 1 "" { 1, -1 }'
    ' t "" 2 "" { -1, 1 } p "" 2 1 0 t "" 2 t "" 1',
    'NFG 1 R "pennies" { "A" "B" } { 2 2 } 1 -1 -1 1 -1 1 1 -1',
    'NFG 1 R "outcomes" { "A" "B" } { { "u" "d" } { "l" "m" } } "c" { { "w" 2, -2 } { "x" -1/2, .5 } } 1 2 0 1',
)
HEADS = ('EFG 2 R "" { "A" "B" }', 'NFG 1 R "" { "A" "B" } { 2 2 }')
ODDITIES = (
    "{",
    "}",
    '"',
    '"\\',
    ",",
    "c",
    "p",
    "t",
    "0",
    "1",
    "-1",
    "1/0",
    "1e999",
    "nan",
    "9" * 18,
    "9" * 5000,
    "\0",
    "é",
)

Maker = Callable[[random.Random, list[list[str]]], tuple[str, bytes]]  # -> suffix of the file, and its content


@dataclass
class Tally:
    """What came of the examples of one kind; `slowest` is in processor seconds."""

    examples: int = 0
    games: int = 0
    by_format: int = 0
    as_game: int = 0
    slowest: float = 0.0
    other_errors: list[str] = field(default_factory=list)


def split(text: str) -> list[str]:
    """Tokens, roughly: good enough to shuffle."""
    return re.findall(r'"[^"]*"|[{}]|[^\s{}"]+', text)


def looks(token: str) -> str:
    """The kind of a token: texts alike, numbers alike, any other by itself."""
    return '"' if token[0] == '"' else "0" if token[0] in "+-.0123456789" else token


def random_bytes(rng: random.Random, _: list[list[str]]) -> tuple[str, bytes]:
    """Bytes of any value."""
    return rng.choice((".efg", ".nfg")), rng.randbytes(rng.randrange(300))


def random_text(rng: random.Random, _: list[list[str]]) -> tuple[str, bytes]:
    """Characters that mean something to the readers, in any order, after a valid start."""
    head = rng.choice(HEADS)
    return f".{head[:3].lower()}", (head + "".join(rng.choices(' \n{}",\\cpt0123-./eé', k=rng.randrange(300)))).encode()


def random_tokens(rng: random.Random, corpus: list[list[str]]) -> tuple[str, bytes]:
    """Whole tokens in any order after a valid start."""
    head, tokens = rng.choice(HEADS), rng.choices([*rng.choice(corpus), *ODDITIES], k=rng.randrange(60))
    return f".{head[:3].lower()}", " ".join([head, *tokens]).encode()


def mutated(rng: random.Random, corpus: list[list[str]]) -> tuple[str, bytes]:
    """A file with one or two tokens changed, mostly for their like, and in one case of four its end cut off."""
    tokens = list(rng.choice(corpus))
    suffix = ".nfg" if tokens[0] == "NFG" else ".efg"
    for _ in range(rng.randrange(1, 3)):
        i = rng.randrange(len(tokens))
        alike = [j for j, token in enumerate(tokens) if looks(token) == looks(tokens[i])]
        j = rng.choice(alike) if rng.random() < 0.8 else rng.randrange(len(tokens))
        change = rng.choices(range(4), (1, 1, 3, 1))[0]
        if change == 0 and len(tokens) > 1:
            del tokens[i]
        elif change == 1:
            tokens.insert(j, tokens[i])
        elif change == 2:
            tokens[i], tokens[j] = tokens[j], tokens[i]
        else:
            tokens[i] = rng.choice(ODDITIES)
    content = rng.choice((" ", "\n", "\r\n")).join(tokens).encode()
    return suffix, content[: rng.randrange(len(content) + 1)] if rng.random() < 0.25 else content


KINDS: dict[str, Maker] = {
    "random bytes": random_bytes,
    "random text": random_text,
    "random tokens": random_tokens,
    "mutated files": mutated,
}


def read(tally: Tally, path: Path) -> None:
    """Read one file and count what came of it."""
    start = time.process_time()
    try:
        gambit.load(path)
        tally.games += 1
    except GameFormatError:
        tally.by_format += 1
    except GameError:
        tally.as_game += 1
    except Exception:
        tally.other_errors.append(f"{path.read_bytes()!r}\n{traceback.format_exc()}")
    tally.examples += 1
    tally.slowest = max(tally.slowest, time.process_time() - start)


def fuzz(examples: int, seconds: float, seed: int) -> dict[str, Tally]:
    """All kinds in turn until the examples or the time are used up."""
    rng, end = random.Random(seed), time.monotonic() + seconds
    files = [path for path in sorted((ROOT / "../shared/data/efg").glob("*/*.?fg")) if not path.name.startswith("bad_")]
    corpus = [split(text) for text in (*CORPUS, *(path.read_text() for path in files))]
    tallies = {kind: Tally() for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        for example in range(examples):
            if time.monotonic() > end:
                break
            kind = list(KINDS)[example % len(KINDS)]
            suffix, content = KINDS[kind](rng, corpus)
            path = Path(folder) / f"case{suffix}"
            path.write_bytes(content)
            read(tallies[kind], path)
    return tallies


def main() -> None:
    """Run, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description="A long fuzz of the two Gambit readers.")
    parser.add_argument("--examples", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    tallies = fuzz(options.examples, options.seconds, options.seed)
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    header = ("input", "examples", "games", "refused by format", "refused as game", "other errors", "slowest (ms)")
    rows = []
    for kind, t in tallies.items():
        counts = (t.examples, t.games, t.by_format, t.as_game, len(t.other_errors))
        rows.append((kind, *map(str, counts), f"{1e3 * t.slowest:.1f}"))
    print_table(header, rows)
    print(f"\npeak memory grew by {growth:.1f} MB in all")
    results = {
        "environment": environment(),
        "seed": options.seed,
        "seconds": time.monotonic() - start,
        "peak_memory_growth_mb": growth,
        "kinds": {kind: asdict(tally) for kind, tally in tallies.items()},
    }
    store("fuzz_gambit", results)
    sys.exit(any(tally.other_errors for tally in tallies.values()))


if __name__ == "__main__":
    main()
