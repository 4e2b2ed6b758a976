"""PrefLib's files of ranked ballots: strict or with ties (`so`, `to`), complete or not (`c`, `i`).

Metadata lines start with #, then each line is how many voters gave a ballot and the ballot, best first, ties in braces:

    # ALTERNATIVE NAME 1: Ann
    # ALTERNATIVE NAME 2: Bob
    # ALTERNATIVE NAME 3: Cid
    12: 3,{1,2}

A file is checked against its own header: the kind, the number of alternatives, of voters and of lines. Source: the
format specification of PrefLib (Mattei and Walsh 2013) as of 2022.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from jaxtyping import Int

from games.readers.source import GameFormatError, read_text

KINDS = (".soc", ".soi", ".toc", ".toi")
NAME = re.compile(r"ALTERNATIVE NAME\s+(\d{1,9})\s*:(.*)")
FIELD = re.compile(r"([A-Z][A-Z ]*?)\s*:(.*)")
COUNTED = ("NUMBER ALTERNATIVES", "NUMBER VOTERS", "NUMBER UNIQUE ORDERS")
BALLOT = re.compile(r"\s*(\d{1,15})\s*:")
PLACE = re.compile(r"(?:\{([^{}]*)\}|(\d{1,9}))\s*(,|$)")
OLD = re.compile(r"\s*\d+\s*")  # the first line of files before 2022: how many alternatives there are


class Profile(NamedTuple):
    """K different ballots on n alternatives.

    Attributes:
        names: [n] of the alternatives.
        ranks: [K, n] 1 is the best, equal numbers are ties, 0 is not ranked.
        voters: [K] how many gave each ballot.
    """

    names: list[str]
    ranks: Int[np.ndarray, "K n"]
    voters: Int[np.ndarray, " K"]


def read_profile(path: Path) -> Profile:
    """Read a .soc, .soi, .toc or .toi file.

    Raises:
        GameFormatError: with the line that is not of its format, or does not agree with the header.
    """
    reader = _Reader(path)
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.startswith("#"):
            reader.metadata(number, line[1:].strip())
        elif line.strip():
            reader.ballot(number, line)
    return reader.profile()


@dataclass
class _Reader:
    """What has been read of a file.

    Attributes:
        path: the file.
        names: of the alternatives, by number.
        counts: numbers that the header says, with the lines on which it does.
        ranks: for each ballot the rank of each alternative on it, by number.
        voters: how many gave each ballot.
    """

    path: Path
    names: dict[int, str] = field(default_factory=dict)
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    ranks: list[dict[int, int]] = field(default_factory=list)
    voters: list[int] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """The ending of the file, without its dot."""
        return self.path.suffix.lower()[1:]

    def refuse(self, line: int | None, column: int | None, sentence: str) -> NoReturn:
        raise GameFormatError(self.path, line, column, sentence)

    def metadata(self, line: int, text: str) -> None:
        """A line of the header, without its #."""
        if self.ranks:
            self.refuse(line, 1, "expected a ballot, got a line of the header, all of which stand above the ballots")
        if name := NAME.fullmatch(text):
            if int(name[1]) in self.names:
                self.refuse(line, None, f"expected a name for each alternative once, got number {name[1]} again")
            self.names[int(name[1])] = name[2].strip()
        elif named := FIELD.fullmatch(text):
            key, value = named[1], named[2].strip()
            if key in COUNTED and not re.fullmatch(r"\d{1,15}", value):
                self.refuse(line, None, f"expected {key} to be a number, got {value!r:.40}")
            if key in COUNTED:
                self.counts[key] = line, int(value)
            elif key == "DATA TYPE" and value.lower() != self.kind:
                self.refuse(line, None, f"expected the data type {self.kind}, as the file's ending, got {value!r:.40}")

    def ballot(self, line: int, text: str) -> None:
        """A line below the header."""
        if not self.ranks:
            self._check_names(line, text)
        start = BALLOT.match(text)
        if start is None or int(start[1]) < 1:
            self.refuse(line, 1, f"expected a number of voters, a colon and a ballot, got {text.strip()!r:.40}")
        ranks: dict[int, int] = {}
        for rank, (column, tied) in enumerate(self._places(line, text, start.end()), 1):
            for written in tied:
                number = int(written) if re.fullmatch(r"\d{1,9}", written) else 0
                if number not in self.names:
                    known = f"expected the number of an alternative, 1 to {len(self.names)}"
                    self.refuse(line, column, f"{known}, got {written!r:.40}" if written else f"{known}, got nothing")
                if number in ranks:
                    self.refuse(line, column, f"expected each alternative once on a ballot, got {number} again")
                ranks[number] = rank
        lacking = next((number for number in self.names if number not in ranks), None)
        if lacking is not None and self.kind.endswith("c"):
            self.refuse(line, None, f"expected every alternative on a ballot of a .{self.kind} file, {lacking} is not")
        self.ranks.append(ranks)
        self.voters.append(int(start[1]))

    def _places(self, line: int, text: str, at: int) -> Iterator[tuple[int, list[str]]]:
        """The places of a ballot that begins at a character of its line: a column, and the numbers that stand there."""
        more = True
        while more:
            at += len(text[at:]) - len(text[at:].lstrip())
            place = PLACE.match(text, at)
            if place is None:
                self.refuse(line, at + 1, f"expected numbers with commas between them, got {text[at:].strip()!r:.40}")
            tied = [place[2]] if place[1] is None else [number.strip() for number in place[1].split(",")]
            if len(tied) > 1 and self.kind.startswith("s"):
                self.refuse(line, at + 1, f"expected no ties in a .{self.kind} file, got {place[0].strip(' ,')!r:.40}")
            yield at + 1, tied
            at, more = place.end(), place[3] == ","

    def _check_names(self, line: int, text: str) -> None:
        """That the header above the first ballot names the alternatives 1 to n."""
        if not self.names:
            old = " (files of before 2022 begin with their number: take the newer file)" if OLD.fullmatch(text) else ""
            self.refuse(line, 1, f"expected lines '# ALTERNATIVE NAME 1: ...' above the first ballot{old}")
        gap = next(number for number in range(1, len(self.names) + 2) if number not in self.names)
        if gap <= len(self.names):
            self.refuse(line, 1, f"expected names of the alternatives 1 to {max(self.names)}, that of {gap} is missing")

    def profile(self) -> Profile:
        """Everything, if it agrees with the numbers of the header."""
        if not self.ranks:
            self.refuse(None, None, "expected ballots below the header, there are none")
        found = (len(self.names), sum(self.voters), len(self.voters))
        for key, number in zip(COUNTED, found, strict=True):
            line, said = self.counts.get(key, (None, number))
            if said != number:
                self.refuse(line, None, f"expected {key} to be what the file holds, {number}, got {said}: is it whole?")
        ranks = np.array([[ballot.get(i + 1, 0) for i in range(len(self.names))] for ballot in self.ranks])
        return Profile([self.names[i + 1] for i in range(len(self.names))], ranks, np.array(self.voters))
