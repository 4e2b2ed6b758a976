"""Games: data only, no algorithm. `load` turns a short spec into a `mmd.Game`.

A built-in game is a function `-> Game` of a module of this package whose parameters all have defaults; `game` is the
one called by the module's name alone: `kuhn_poker` is `kuhn_poker.game()`. So a new game is a new file, and nothing
else. A game from outside this package (`mmd.host.doors`) is a `Game`, its rules (`games.rules.Rules`), or a class or
function that returns either.

The families of games, `rules`, `frontier` and `compile` stand here and never import `games.readers`, where games come
from files. Rules of a small game are written with `rules`, move by move; a large tree with `frontier`, level by level.
Of `mmd`, games import `mmd.game` and `mmd.host` alone. Read `kuhn_poker.py` first, the smallest family.
"""

import importlib
import inspect
import os
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from games import matrix, preference, rules
from games.readers import files
from mmd.game.game import Game, GameError, register_loader
from mmd.host import doors

__all__ = ["available", "load", "matrix", "preference", "rules"]

GAMBIT = (".nfg", ".efg")
DOOR = doors.Door("games", GameError, "a Game, rules as games.rules.Rules, or a function that returns either")
RULES = ("name", "initial", "player", "actions", "chance", "next", "infoset", "utility")


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
        spec: a built-in game, `leduc_poker` or `preference:cycle`, with parameters as in `leduc_poker:ranks=3,suits=2`.
            Or a file: .json, .csv, .tsv, .npy, .nfg, .efg, or PrefLib's .soc, .soi, .toc or .toi, with options as in
            `file.json#judge=NAME#subset=FIELD`. Or `openspiel:NAME(parameter=value,...)`, of an installed OpenSpiel. Or
            a game from outside: `module:name`, `path.py:name` or what an installed package calls it, with parameters as
            in `module:name:ranks=3`.

    Raises:
        GameError: no such game, parameters it does not have or allow, or code from outside that fails.
        GameFormatError: of `games.readers.files`, a `GameError` too: a file holds no solvable game; with the place.
    """
    spec = os.fspath(spec)
    family, _, parameters = spec.partition(":")
    if family == "openspiel":
        return importlib.import_module("games.readers.openspiel").load(parameters)
    if _is_built_in(family):
        return _load_built_in(family, parameters)
    if not os.path.exists(spec) and DOOR.is_outside(spec):
        return _load_from_outside(spec)
    path, *options = [spec] if os.path.exists(spec) else spec.split("#")
    suffix = Path(path).suffix.lower()
    if suffix in GAMBIT:
        return importlib.import_module("games.readers.gambit").load(path, options)
    if suffix in files.READERS:
        return files.load(path, options)
    if suffix or os.sep in path or os.path.exists(path):
        if suffix.rstrip(":") == ".py":
            raise GameError(f"game {spec}: expected the name of a game in that file as well: {spec.rstrip(':')}:NAME")
        known = ", ".join([*files.READERS, *GAMBIT])
        got = "a directory" if os.path.isdir(path) else f"the ending {suffix!r}"
        raise files.GameFormatError(path, None, None, f"expected a file that ends in {known}, got {got}")
    raise GameError(f"there is no built-in game {spec if '(' in spec else family!r}: {_nearest_spec(spec)}")


def available() -> dict[str, str]:
    """The specs of all built-in games, with their default parameters -> what they are, in a line.

    And the names of games that installed packages give, which are not imported -> the package.
    """
    found: dict[str, str] = {}
    for family in _modules():
        for name, function in _built_in(family).items():
            defaults = [f"{p.name}={p.default}" for p in inspect.signature(function).parameters.values()]
            parts = ",".join([*([] if name == "game" else [name]), *defaults])
            found[f"{family}:{parts}" if parts else family] = (inspect.getdoc(function) or "").partition("\n")[0]
    given = {name: f"Installed by {giver}." for name, giver in DOOR.installed().items() if not _is_built_in(name)}
    return found | given


def _nearest_spec(spec: str) -> str:
    """A hint for a spec that names no game; `NAME(parameter=value)` is put into the form that is expected."""
    family, _, rest = spec.partition("(")
    name, given = family.partition(":")[0].strip(), rest.rstrip(" )").replace(" ", "")
    hint = files.nearest(name, [known for known in _modules() if _built_in(known)])
    fits = name in _modules() and (given in _built_in(name) or all("=" in part for part in given.split(",")))
    return f"{hint}:{given}" if given and fits else hint


def _modules() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def _is_built_in(family: str) -> bool:
    return family in _modules() and bool(_built_in(family))


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
    known = inspect.signature(functions[name]).parameters
    return functions[name](**doors.arguments(family, known, ",".join(given), GameError))


def _load_from_outside(spec: str) -> Game:
    """The game behind a door: a Game, rules, or what returns either."""
    try:
        thing, numbers = DOOR.find(spec)
    except GameError as error:
        hint = _nearest_spec(spec.partition(":")[0])
        if isinstance(error.__cause__, ModuleNotFoundError) and hint.startswith("try "):
            raise GameError(f"{error}; {hint} for a built-in game") from error.__cause__
        raise
    name = spec.removesuffix(f":{numbers}")
    if inspect.isclass(thing) or (callable(thing) and not isinstance(thing, rules.Rules)):
        given = doors.arguments(name, doors.signature_of(thing), numbers, GameError)
        thing = DOOR.called(name, thing, given)
    elif numbers:
        raise GameError(f"{name} is one game and has no parameters, got {numbers!r}")
    if isinstance(thing, Game):
        return thing
    if not isinstance(thing, rules.Rules):
        lacking = [part for part in RULES if not hasattr(thing, part)]
        if len(lacking) < len(RULES) / 2:  # it is meant as rules
            raise GameError(f"game {name}: rules without {', '.join(lacking)}: expected {', '.join(RULES)}")
        DOOR.refuse(name, thing)
    return DOOR.called(name, rules.game_of, {"rules": thing})


register_loader(load)  # so that `mmd.solve` and its like take names and files
