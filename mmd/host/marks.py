"""What stands beside the types of a command's fields: whether an option goes by its place, and how help shows it.

`mmd.host.help` reads these marks, and `mmd.host.command_line` hands them to tyro when a command line is parsed. Tyro
has marks of its own, but importing it takes longer than all of help.
"""

from typing import Annotated, Any, NamedTuple, TypeVar, get_args

T = TypeVar("T")
BY_PLACE = object()
Positional = Annotated[T, BY_PLACE]  # without a name before it


class Shown(NamedTuple):
    """How an option is typed, and what help says of it; None for what the field itself says.

    Attributes:
        metavar: placeholder for its value.
        default: what holds where it is not given.
        name: what is typed.
        help: its text.
    """

    metavar: str | None = None
    default: str | None = None
    name: str | None = None
    help: str | None = None


class Marked(NamedTuple):
    """An annotation taken apart: the type, and its marks."""

    kind: Any
    shown: Shown
    is_positional: bool


def marked(annotation: Any) -> Marked:
    """The type and the marks of a field's annotation."""
    kind, *marks = get_args(annotation) if hasattr(annotation, "__metadata__") else (annotation,)
    shown = next((mark for mark in marks if isinstance(mark, Shown)), Shown())
    return Marked(kind, shown, BY_PLACE in marks)
