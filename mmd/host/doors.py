"""Doors: how a game, an algorithm, a magnet, a method, a family or a judge comes in from outside this package.

    module:name      what a module calls `name`; the module is on the path or in the current folder
    path.py:name     what a file calls `name`
    NAME             what an installed package calls NAME, as an entry point of the group `magnetic_mirror.KIND`

Numbers may follow behind one more colon, as in `module:name:key=value,key=value`.

Code from outside is imported by this module alone, and only for a name that a user has given in this call or on this
command line. What stands in a file opens no door: a run folder, a checkpoint or a configuration may have been written
by somebody else. A model family is the one exception, and a small one: the `model_type` of a checkpoint finds a family
of an installed package, which the user has chosen to trust, but never a module or a path.

A name of something built in means what is built in, whatever else is installed: callers ask here last. Imports nothing
of this project, so every package may use it.
"""

import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, get_args

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints

NOUNS = {
    "games": "game",
    "algorithms": "algorithm",
    "magnets": "magnet",
    "methods": "method",
    "families": "family",
    "judges": "judge",
}
FORMS = "module:name, path.py:name"  # how code that is not installed under a name is named
CODE = re.compile(r"(?P<module>[A-Za-z_][\w.]*|[^:].*\.py):(?P<name>[A-Za-z_]\w*)(?::(?P<numbers>.*))?")
PACKAGES = ("mmd", "games", "llm_bridge")
MAX_SHOWN = 300  # characters of a text that others wrote
RULE = "-" * 20  # begins the note that JAX adds to every error about the frames that it has removed


class Found(NamedTuple):
    """What stands behind a door.

    Attributes:
        thing: the object.
        numbers: what followed behind its name, as in `key=value,key=value`; "" if nothing did.
    """

    thing: Any
    numbers: str


def names_code(text: str) -> bool:
    """Whether a text has the form `module:name` or `path.py:name`, numbers behind it or not."""
    return CODE.fullmatch(text) is not None


def absolute(text: str) -> str:
    """The same name with the whole path of its file, so that it means the same wherever the process goes."""
    code = CODE.fullmatch(text)
    if code is None or not code["module"].endswith(".py"):
        return text
    return f"{Path(code['module']).absolute()}{text[code.end('module') :]}"


def is_own(thing: object) -> bool:
    """Whether an object is of a class of this project, and not of one from outside."""
    return type(thing).__module__.partition(".")[0] in PACKAGES


@dataclass(frozen=True)
class Door:
    """The way in for objects of one kind.

    Attributes:
        kind: one of `NOUNS`; the entry points' group is `magnetic_mirror.KIND`.
        error: what is raised; its only argument is a sentence.
        wanted: what an object of the kind is, for messages.
    """

    kind: str
    error: type[Exception]
    wanted: str

    def installed(self, every: "EntryPoints | None" = None) -> dict[str, str]:
        """Names that installed packages give, sorted, each with the package that gives it; nothing is imported.

        Args:
            every: all entry points, where they are known already.
        """
        points = sorted(self._points(every).items())
        return {name: " and ".join(sorted(map(_giver, given))) for name, given in points}

    def is_outside(self, text: str) -> bool:
        """Whether `find` would look for a text outside: it names code, or something that a package has installed."""
        return names_code(text) or _spelled(text.partition(":")[0]) in self._points()

    def find(self, text: str) -> Found:
        """The object that a text names; its module is imported now.

        Raises:
            error: there is no such name, two packages give it, or its module cannot be imported; the sentence has the
                module's own error with its place.
        """
        if (code := CODE.fullmatch(text)) is not None:
            return Found(self._named(text, code["module"], code["name"]), code["numbers"] or "")
        name, _, numbers = text.partition(":")
        points = self._points().get(_spelled(name), [])
        if not points:
            raise self.error(f"no installed package gives a {NOUNS[self.kind]} {name!r}: expected one, or {FORMS}")
        if len(points) > 1:
            givers = self.installed()[_spelled(name)]
            raise self.error(f"{NOUNS[self.kind]} {name}: is given by {givers}: name it as module:name")
        shown = f"{name} ({points[0].value})"
        return Found(self._named(shown, points[0].module, points[0].attr or ""), numbers)

    def made(self, text: str, base: type, **given: Any) -> Any:
        """An object of class `base`: the one that a text names, or one made by the class or function that it names.

        Args:
            text: what names it, numbers included.
            base: the class.
            given: further arguments.

        Raises:
            error: as `find`, or it is no such object, or its numbers do not fit.
        """
        thing, numbers = self.find(text)
        name = text.removesuffix(f":{numbers}")
        if callable(thing) and not isinstance(thing, base):
            known = signature_of(thing)
            if idle := sorted(set(given) - set(known)):
                raise self.error(f"{NOUNS[self.kind]} {name}: takes no {idle[0]}, and one was given")
            thing = self.called(name, thing, arguments(name, known, numbers, self.error) | given)
        elif numbers or given:
            got = numbers or ", ".join(sorted(given))
            raise self.error(f"{NOUNS[self.kind]} {name}: is one object and takes nothing, got {got}")
        if not isinstance(thing, base):
            self.refuse(name, thing)
        return thing

    def called(self, name: str, function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
        """What a class or function from outside returns.

        Raises:
            error: it raises something; of its own class, the same error.
        """
        try:
            return function(**given)
        except self.error:
            raise
        except (Exception, SystemExit) as error:
            raise self.error(f"{NOUNS[self.kind]} {name}: raised {error_of(error)}") from error

    def refuse(self, name: str, thing: Any) -> NoReturn:
        """Raise the error that says what was found in place of an object of the kind."""
        got = (
            f"the class {thing.__qualname__}"
            if inspect.isclass(thing)
            else f"an object of class {type(thing).__name__}"
        )
        raise self.error(f"{NOUNS[self.kind]} {name}: expected {self.wanted}, got {got}")

    def _points(self, every: "EntryPoints | None" = None) -> dict[str, list["EntryPoint"]]:
        from importlib.metadata import entry_points  # a tenth of a second, which a built-in name does not need

        found: dict[str, list[EntryPoint]] = {}
        for point in (entry_points() if every is None else every).select(group=f"magnetic_mirror.{self.kind}"):
            found.setdefault(_spelled(point.name), []).append(point)
        return found

    def _named(self, shown: str, module: str, name: str) -> Any:
        """What a module, or a file that ends in .py, calls by a name; without a name the module itself."""
        noun, inner = NOUNS[self.kind], f"{module}.{name}"
        if module.endswith(".py") and not Path(module).is_file():
            raise self.error(f"{noun} {shown}: there is no file {module}")
        try:
            found = _module(module)
            if name and not hasattr(found, name) and hasattr(found, "__path__") and importlib.util.find_spec(inner):
                return _module(inner)
        except (Exception, SystemExit) as error:  # whatever a module does when it is imported
            raise self.error(f"{noun} {shown}: cannot import it ({error_of(error)})") from error
        if not name:
            return found
        if hasattr(found, name):
            return getattr(found, name)
        kind = "file" if module.endswith(".py") else "module"
        raise self.error(f"{noun} {shown}: the {kind} {module} has no {name!r}")


def help_lines(kinds: Iterable[str] = NOUNS) -> list[str]:
    """What `--help` says of the names that installed packages give, kind by kind; nothing is imported."""
    from importlib.metadata import entry_points

    lines: list[str] = []
    every: Any = entry_points()  # of a class that is not the same in every version of Python
    for kind in kinds:
        if names := Door(kind, ValueError, "").installed(every):
            lines.append(f"  {kind}: {', '.join(f'{name} ({giver})' for name, giver in names.items())}")
    return ["installed by other packages:", *lines] if lines else []


# -------------------------------------------------------------------- numbers


def signature_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a class or function that can be given by name."""
    try:
        parameters = inspect.signature(function, eval_str=True).parameters
    except (TypeError, ValueError, NameError):
        return {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: parameter for name, parameter in parameters.items() if parameter.kind in named}


def arguments(
    name: str, known: Mapping[str, inspect.Parameter], numbers: str, error: type[Exception]
) -> dict[str, object]:
    """The arguments that `key=value,key=value` means, each of the type that the parameter's annotation asks for.

    Args:
        name: of what they are for, for messages.
        known: its parameters.
        numbers: the text; "" for none.
        error: what is raised; its only argument is a sentence.

    Raises:
        error: a parameter that there is not, one that stands twice, or a value of another type.
    """
    found: dict[str, object] = {}
    for part in numbers.split(",") if numbers else ():
        key, _, text = (piece.strip() for piece in part.partition("="))
        if key not in known:
            raise error(f"{name} has no parameter {key!r}: {nearest(key, known)}")
        if key in found:
            raise error(f"{name}: expected {key} once, got it twice")
        found[key] = _converted(name, known[key], text, error)
    return found


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a name that does not exist: the closest known one, else all of them."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"try {close[0]}" if close else f"known are {', '.join(known)}" if known else "there are none"


def _converted(name: str, parameter: inspect.Parameter, text: str, error: type[Exception]) -> object:
    kinds = _kinds(parameter)
    for kind in kinds:
        with contextlib.suppress(KeyError, ValueError):
            return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    wanted = " or ".join(kind.__name__ for kind in kinds)
    raise error(f"{name}: expected {parameter.name} to be of type {wanted}, got {text!r}")


def _kinds(parameter: inspect.Parameter) -> tuple[type, ...]:
    """What a value may be: what the annotation says, or else the default."""
    kinds = get_args(parameter.annotation) or (parameter.annotation,)
    if set(kinds) <= {bool, int, float, str, NoneType}:
        return tuple(kind for kind in kinds if kind is not NoneType)
    if isinstance(parameter.default, bool | str):
        return (type(parameter.default),)
    return (int, float) if isinstance(parameter.default, int | float) else (int, float, str)


# -------------------------------------------------------------------- modules


def error_of(error: BaseException) -> str:
    """The last line of an error's traceback, and the line of the user's code where it was raised."""
    text = "".join(traceback.format_exception_only(error))
    for note in getattr(error, "__notes__", ()):
        text = text.replace(note, "") if note.startswith(RULE) else text
    text = " ".join(text.split())[:MAX_SHOWN]
    paths = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    root, stdlib, purelib = Path(__file__).parents[2], *(Path(sysconfig.get_path(p)) for p in ("stdlib", "purelib"))
    others = [at for at in paths if not (at[0].name.startswith("<") or _is_in(at[0], root, PACKAGES))]
    packaged = [at for at in others if _is_in(at[0], purelib)][:1]  # where a package came in that the user installed
    own = [at for at in others if not (_is_in(at[0], stdlib) or _is_in(at[0], purelib))][-1:] or packaged
    if not own:
        return text
    (path, line), here = own[0], Path.cwd()
    return f"{text} at {path.relative_to(here) if path.is_relative_to(here) else path}:{line}"


def _is_in(path: Path, folder: Path, inner: Iterable[str] = ("",)) -> bool:
    return any(path.is_relative_to(folder / name) for name in inner)


def _spelled(name: str) -> str:
    """Names take - and _ alike."""
    return name.replace("-", "_")


def _giver(point: "EntryPoint") -> str:
    """The package that an entry point belongs to, with its version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"


def _module(name: str) -> ModuleType:
    """A module on the path or in the current folder, or a file whose name ends in .py; each is run once."""
    if not name.endswith(".py"):
        with _on_the_path(Path.cwd()):
            return importlib.import_module(name)
    path = Path(name).resolve()
    content = path.read_bytes()
    known = f"{path.stem}_{hashlib.sha256(bytes(path) + content).hexdigest()[:12]}"  # another text is another module
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, path)
        if spec is None or spec.loader is None:
            raise ImportError("not a file of Python")
        sys.modules[known] = importlib.util.module_from_spec(spec)
        try:
            with _on_the_path(path.parent):
                spec.loader.exec_module(sys.modules[known])
        except BaseException:
            del sys.modules[known]
            raise
    return sys.modules[known]


@contextlib.contextmanager
def _on_the_path(folder: Path) -> Iterator[None]:
    """Inside, modules of the folder can be imported."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
