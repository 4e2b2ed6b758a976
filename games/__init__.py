"""Games: data only, no algorithm. `load` turns a short spec into a `mmd.Game`.

A built-in game is a function `-> Game` of a module of this package whose parameters all have defaults; `game` is the
one called by the module's name alone. So a new game is a new file, and nothing else.
"""

import importlib
import inspect
import os
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from games import files, matrix, preference
from mmd.game import Game, GameError

__all__ = ["available", "load", "matrix", "preference"]

GAMBIT = (".nfg", ".efg")


def __getattr__(name: str) -> Any:
    """A family's module, loaded when it is first asked for; the version."""
    if name in _modules():
        return importlib.import_module(f"{__name__}.{name}")
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("magnetic-mirror")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(spec: str | os.PathLike[str]) -> Game:
    """The game that a spec names.

    Args:
        spec: a built-in game, `leduc_poker` or `preference:cycle`, with parameters as in `leduc_poker:ranks=3,suits=2`;
            a .json, .csv, .tsv, .npy, .nfg or .efg file, with options as in `file.json#judge=NAME#subset=FIELD`; or
            `openspiel:NAME(parameter=value,...)`, of an installed OpenSpiel.

    Raises:
        GameError: no such game, parameters it does not have or allow, or a file that holds no solvable game (then a
            `games.files.GameFormatError` with the place).
    """
    spec = os.fspath(spec)
    family, _, parameters = spec.partition(":")
    if family == "openspiel":
        return importlib.import_module("games.openspiel").load(parameters)
    if family in _modules() and _built_in(family):
        return _load_built_in(family, parameters)
    path, *options = [spec] if os.path.exists(spec) else spec.split("#")
    suffix = Path(path).suffix.lower()
    if suffix in GAMBIT:
        return importlib.import_module("games.gambit").load(path, options)
    if suffix in files.READERS:
        return files.load(path, options)
    if suffix or os.sep in path or os.path.exists(path):
        known = ", ".join([*files.READERS, *GAMBIT])
        got = "a directory" if os.path.isdir(path) else f"the ending {suffix!r}"
        raise files.GameFormatError(path, None, None, f"expected a file that ends in {known}, got {got}")
    raise GameError(f"there is no built-in game {spec if '(' in spec else family!r}: {_nearest_spec(spec)}")


def available() -> dict[str, str]:
    """The specs of all built-in games, with their default parameters -> what they are, in a line."""
    found: dict[str, str] = {}
    for family in _modules():
        for name, function in _built_in(family).items():
            defaults = [f"{p.name}={p.default}" for p in inspect.signature(function).parameters.values()]
            parts = ",".join([*([] if name == "game" else [name]), *defaults])
            found[f"{family}:{parts}" if parts else family] = (inspect.getdoc(function) or "").partition("\n")[0]
    return found


def _nearest_spec(spec: str) -> str:
    """A hint for a spec that names no game; `NAME(parameter=value)` is put into the form that is expected."""
    family, _, rest = spec.partition("(")
    name, given = family.partition(":")[0].strip(), rest.rstrip(" )").replace(" ", "")
    hint = files.nearest(name, [known for known in _modules() if _built_in(known)])
    fits = name in _modules() and (given in _built_in(name) or all("=" in part for part in given.split(",")))
    return f"{hint}:{given}" if given and fits else hint


def _modules() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def _built_in(family: str) -> dict[str, Callable[..., Game]]:
    """The built-in games of a module: functions that return a Game and need no argument."""
    module = importlib.import_module(f"{__name__}.{family}")
    return {
        name: function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_") and _needs_nothing(function)
    }


def _needs_nothing(function: Callable[..., object]) -> bool:
    signature = inspect.signature(function)
    defaults = [parameter.default for parameter in signature.parameters.values()]
    return signature.return_annotation is Game and inspect.Parameter.empty not in defaults


def _load_built_in(family: str, parameters: str) -> Game:
    """Call a built-in game with parameters in the form `NAME,key=value,...`, NAME left out for `game`."""
    given = [part.strip() for part in parameters.split(",")] if parameters else []
    name = given.pop(0) if given and "=" not in given[0] else "game"
    functions = _built_in(family)
    if name not in functions:
        wanted = family if name == "game" else f"{family}:{name}"
        hint = files.nearest(wanted, [family if known == "game" else f"{family}:{known}" for known in functions])
        raise GameError(f"there is no built-in game {wanted!r}: {hint}")
    expected = inspect.signature(functions[name]).parameters
    arguments: dict[str, object] = {}
    for part in given:
        key, _, text = (piece.strip() for piece in part.partition("="))
        if key not in expected:
            raise GameError(f"{family} has no parameter {key!r}: {files.nearest(key, expected)}")
        if key in arguments:
            raise GameError(f"{family}: expected {key} once, got it twice")
        arguments[key] = _convert(family, expected[key], text)
    return functions[name](**arguments)


def _convert(family: str, parameter: inspect.Parameter, text: str) -> object:
    """A parameter's text as the type that the function's annotation asks for."""
    kind = parameter.annotation
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise GameError(f"{family}: expected {parameter.name} to be of type {kind.__name__}, got {text!r}") from None
