"""Readers of data files."""

import os

from mmd.game import GameError


class GameFormatError(GameError):
    """A file that is not what its format says; reads `path:line:column: sentence`.

    Attributes:
        path: the file.
        line, column: where, from 1; None where there is no such place.
        sentence: what is wrong, and what was expected.
    """

    def __init__(self, path: str | os.PathLike[str], line: int | None, column: int | None, sentence: str) -> None:
        super().__init__(path, line, column, sentence)
        self.path, self.line, self.column, self.sentence = os.fspath(path), line, column, sentence

    def __str__(self) -> str:
        place = [self.path, *(str(at) for at in (self.line, self.column) if at is not None)]
        return f"{':'.join(place)}: {self.sentence}"
