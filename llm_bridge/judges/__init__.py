"""Judges say which of two responses is preferred; one file each, and their protocol here (`Judge`, `ask`, `load`).

    judge(prompts, a, b)  ->  P(a is preferred to b), one number a pair, in [0, 1]

1/2 is a tie and NaN an answer that could not be had, which is never turned into a preference. Whatever takes three
lists and returns such an array is a judge. No scalar reward is assumed behind it: preferences may run in cycles.

Judges favour a position (Zheng et al. 2023, "Judging LLM-as-a-Judge"), so `ask` puts every pair in both orders and
averages. Then a judge that always takes the first says 1/2. One whose attribute `symmetric` is True answers P(b, a) =
1 - P(a, b) by construction and is asked once.

A prompt and a response are text, or, for a policy without a tokenizer, a tuple of token ids. A judge that asks for more
gets more (`columns_for`): arguments by keyword behind the three lists are columns of the data. Those called `messages`
are the prompts as conversations.

A judge may draw, as a group of judges does of which one answers (`population.py`). Then it has a method `keyed(key)`:
the same judge with the draws of another round. The loop of training calls it every round (`keyed`).

Before a run generates anything, `dry_run` tries its judge on three pairs of short answers, so that a judge that cannot
work costs nothing. A judge that counts or records its calls sees that call too; a method `dry_run(prompts)` of its own
replaces it.

A judge from outside this package (`mmd.host.doors`) is found by `load`.

This room may import `llm_bridge.checkpoint` and what lies below it. Read `callable.py` first, then `population.py`.
"""

import builtins
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from llm_bridge.model.architecture import BridgeError
from mmd.host.doors import Door, error_of

Prompt = str | tuple[int, ...]
Response = str | tuple[int, ...]

ENOUGH = 20  # pairs of which a judge that works answers at least one
SHORT = (("Yes.", "No."), ("I do not know.", "It depends."), ("Blue.", "Blue, because air scatters blue light."))
WANTED = (
    "expected a judge(prompts, a, b) that takes three lists and returns one number in [0, 1] for each i, "
    "P(a[i] is preferred to b[i])"
)
OF_TRL = (
    "; in TRL a judge's answer is the index, 0 or 1, of the better completion, so here it is 1 - index, and -1 is None:"
    " return [None if i < 0 else 1 - i for i in judge(prompts, [[x, y] for x, y in zip(a, b)])]; a reward function goes"
    " into llm_bridge.judges.scalar_reward.ScalarReward"
)
DOOR = Door("judges", BridgeError, "a judge(prompts, a, b)")


@runtime_checkable
class Judge(Protocol):
    """Says which of two responses to a prompt is preferred: any function of three lists of equal length.

    A judge may have three attributes. `symmetric` is True where P(b, a) = 1 - P(a, b) by construction, so that each
    pair is asked in one order only. `name` is what error messages use. `deterministic` is True where the same
    comparison always has the same answer, so that `mpo judge-report` asks once. Further arguments by keyword are
    columns of the data, see `columns_for`.
    """

    def __call__(
        self, prompts: Sequence[Prompt], a: Sequence[Response], b: Sequence[Response], /
    ) -> Float[np.ndarray, " n"]:
        """The preference in each of n pairs.

        Args:
            prompts: text, or tuples of token ids for a policy without a tokenizer.
            a: the first responses, of the prompts' kind.
            b: the second responses, of the prompts' kind.

        Returns:
            [n] P(a[i] is preferred to b[i] as a response to prompts[i]), in [0, 1]; NaN where there is no answer.
        """
        ...


class NoAnswers(BridgeError):
    """A judge has answered none of many pairs, so there is nothing to learn from."""


class WrongAnswers(BridgeError):
    """A judge has returned something else than one probability or NaN for each pair."""


class JudgeError(BridgeError):
    """A judge has raised an error instead of answering. The error itself is the cause, `__cause__`.

    Args:
        judge: its name.
        error: what it raised.
        place: where, such as "in round 3".
    """

    def __init__(self, judge: str, error: BaseException, place: str = "") -> None:
        where = f" {place}" if place else ""
        super().__init__(f"judge {judge}: raised {error_of(error)}{where}; what it cannot answer is None or NaN")
        self.judge, self.error = judge, error

    def at(self, place: str) -> "JudgeError":
        """The same with a place; to be raised from `error`."""
        return JudgeError(self.judge, self.error, place)


class Verdicts(NamedTuple):
    """Answers to n pairs, both orders averaged.

    Attributes:
        preference: P(a is preferred to b); NaN where either order failed.
        failed: pairs without an answer.
        flipped: pairs where the two orders named different winners.
        tied: pairs whose average is exactly 1/2.
    """

    preference: Float[np.ndarray, " n"]
    failed: Bool[np.ndarray, " n"]
    flipped: Bool[np.ndarray, " n"]
    tied: Bool[np.ndarray, " n"]


def ask(judge: Judge, prompts: Sequence[Prompt], a: Sequence[Response], b: Sequence[Response]) -> Verdicts:
    """Put each pair to a judge in both orders, as one batch.

    Raises:
        BridgeError: lengths differ, or the judge answers something else than probabilities and NaN.
        JudgeError: the judge raises an error, other than a BridgeError.
    """
    if not len(prompts) == len(a) == len(b):
        raise BridgeError(f"expected as many prompts as responses, got {len(prompts)}, {len(a)} and {len(b)}")
    with _named(judge):
        if getattr(judge, "symmetric", False):
            first = answers_of(judge, prompts, a, b)
            second = first
        else:
            both = answers_of(judge, [*prompts, *prompts], [*a, *b], [*b, *a])
            first, second = both[: len(a)], 1 - both[len(a) :]
    preference = (first + second) / 2
    failed = np.isnan(preference)
    return Verdicts(preference, failed, (first - 0.5) * (second - 0.5) < 0, preference == 0.5)


@contextmanager
def _named(judge: Any) -> Iterator[None]:
    """Inside, an error says whose it is: a run asks many things, and a judge's code is not this package's."""
    try:
        yield
    except BridgeError:
        raise
    except Exception as error:
        raise JudgeError(name_of(judge), error) from error


def load(name: str) -> Judge:
    """A judge from outside this package; one of this package is made by its class.

    Args:
        name: `module:name`, `path.py:name` or the name that an installed package gives; its module is imported. It
            names a function of three lists, or an object that can be called like one.

    Raises:
        BridgeError: there is none, its code fails, or it cannot be called with three lists.
    """
    found, numbers = DOOR.find(name)
    if numbers:
        raise BridgeError(f"judge {name}: expected a name alone, got numbers behind it: {numbers!r}")
    check_signature(found)
    return found


def keyed(judge: Any, key: Sequence[int]) -> Any:
    """The judge with the draws of a round; one that draws nothing, and so has no method `keyed`, is itself.

    Args:
        judge: any.
        key: numbers that no other round has, the same after a resume.
    """
    own = getattr(judge, "keyed", None)
    return judge if own is None else own(tuple(int(number) for number in key))


def columns_for(function: Any, prompts: Sequence[Any]) -> dict[str, list[Any]]:
    """What a function of lists, or of one pair, takes by keyword: columns of the data, a value for each prompt.

    A parameter behind `*` gets the column of its name, None where a row has none; with a default it is left alone where
    no row has one. `**columns` gets all columns that there are. `messages` is no column but the prompts as
    conversations, tuples of messages, None where a prompt is text. Prompts of files bring them
    (`llm_bridge.text.data.ShownPrompt`).
    """
    optional, required, rest, others = _by_keyword(function)
    if not (optional or required or rest):
        return {}
    given = [getattr(prompt, "columns", {}) for prompt in prompts]
    known = set().union(*given)
    if any(getattr(prompt, "messages", None) is not None for prompt in prompts):
        known |= {"messages"}
    wanted = required | (known if rest else known & optional)
    return {
        name: [getattr(prompt, name, None) for prompt in prompts]
        if name == "messages"
        else [row.get(name) for row in given]
        for name in sorted(wanted - others)
    }


def _by_keyword(function: Any) -> tuple[set[str], set[str], bool, set[str]]:
    """Names behind `*` with a default and without, whether any other is taken, and names of what stands before."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions have none
        return set(), set(), False, set()
    behind = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    rest = {p.name for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD}
    required = {name for name, default in behind.items() if default is inspect.Parameter.empty}
    return set(behind) - required, required, bool(rest), {p.name for p in parameters} - set(behind) - rest


def _check_columns(judge: Any, prompts: Sequence[Any]) -> None:
    """That the data has what a judge asks for.

    Raises:
        BridgeError: it has not.
    """
    known = set().union(*(getattr(prompt, "columns", {}) for prompt in prompts))
    for name in sorted(_by_keyword(judge)[1] - known - {"messages"}):
        has = f"has the columns {', '.join(sorted(known))}" if known else "has no columns besides the prompt"
        raise BridgeError(f"judge {name_of(judge)}: asks for the column {name!r}, and the data {has}")


def dry_run(judge: Any, prompts: Sequence[Prompt]) -> None:
    """Try a judge on three pairs of short answers to these prompts; it is called once, in one order.

    Args:
        judge: with a method `dry_run(prompts)` of its own, that is called instead.
        prompts: at least one, of those that the run will show.

    Raises:
        BridgeError: the judge does not take three lists, raises an error, or answers something else than three
            probabilities and NaN.
    """
    if (own := getattr(judge, "dry_run", None)) is not None:
        own(prompts)
        return
    check_signature(judge)
    _check_columns(judge, prompts)
    shown = [prompts[i % len(prompts)] for i in range(len(SHORT))]
    pairs = [SHORT[i] if isinstance(shown[i], str) else (shown[i], shown[i] * 2) for i in range(len(SHORT))]
    try:
        answers_of(judge, shown, [a for a, _ in pairs], [b for _, b in pairs])
    except WrongAnswers as error:
        raise BridgeError(f"{error}; it was tried on {len(SHORT)} pairs before the run, {WANTED}") from None
    except BridgeError:
        raise
    except (Exception, SystemExit) as error:
        raise BridgeError(
            f"judge {name_of(judge)}: raised {error_of(error)} when it was tried on {len(SHORT)} pairs before the run; "
            f"what it cannot answer is NaN, {WANTED}"
        ) from error


def check_signature(judge: Any) -> None:
    """That a judge can be called with three lists and columns, as far as can be known without calling it.

    Raises:
        BridgeError: it cannot, or it takes what a judge of TRL takes, whose answers mean something else.
    """
    name = name_of(judge)
    if inspect.isclass(judge) or not builtins.callable(judge):  # `callable` alone is a module of this folder
        kind = "is a class, whose objects may be judges" if inspect.isclass(judge) else "cannot be called"
        raise BridgeError(f"judge {name}: {kind}, {WANTED}{OF_TRL if hasattr(judge, 'judge') else ''}")
    try:
        signature = inspect.signature(judge)
    except (TypeError, ValueError):  # some built-in functions have none
        return
    takes = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    of_trl = "completions" in signature.parameters
    optional = len(takes) > 2 and takes[2].default is not inspect.Parameter.empty
    try:
        signature.bind([], [], [], **dict.fromkeys(_by_keyword(judge)[1]))
    except TypeError:
        fits = False
    else:
        fits = not (of_trl and optional)  # b would be taken for the option
    if not fits:
        shown = signature.replace(parameters=takes, return_annotation=inspect.Signature.empty)
        raise BridgeError(f"judge {name}: takes {shown}, {WANTED}{OF_TRL if of_trl else ''}")


def name_of(judge: Any) -> str:
    """What a judge is called in messages: its `name`, else the name of the function, else the name of its class."""
    names = (getattr(judge, "name", None), getattr(judge, "__qualname__", None), type(judge).__name__)
    return next(name for name in names if isinstance(name, str))


def answers_of(
    judge: Judge, prompts: Sequence[Prompt], a: Sequence[Response], b: Sequence[Response]
) -> Float[np.ndarray, " n"]:
    """What a judge answers when it is asked once.

    Raises:
        WrongAnswers: something else than as many probabilities and NaN.
    """
    name, found = name_of(judge), judge(prompts, a, b, **columns_for(judge, prompts))
    if found is None:
        raise WrongAnswers(
            f"judge {name}: expected {len(prompts)} numbers, P(a preferred) for each pair, got None for all of them; "
            "does it return its answers?"
        )
    answers = numbers(name, found)
    if answers.shape != (len(prompts),):
        shape = f"an array of shape {answers.shape}" if answers.shape else _described(found)
        raise WrongAnswers(f"judge {name}: expected {len(prompts)} answers, got {shape}")
    if wrong := np.flatnonzero((answers < 0) | (answers > 1)).tolist():
        raise WrongAnswers(
            f"judge {name}: expected probabilities, or NaN for no answer, got {answers[wrong[0]]:g} for pair {wrong[0]}"
        )
    return answers


def numbers(name: str, found: Any) -> Float[np.ndarray, "..."]:
    """What a judge has returned as numbers, NaN for None.

    Raises:
        WrongAnswers: it is something else, a text that reads like a number included.
    """
    try:
        array = np.asarray(found)
        if array.dtype.kind in "SU" or (array.dtype == object and any(isinstance(x, str | bytes) for x in array.flat)):
            raise TypeError
        return np.asarray(array, np.float64)
    except (TypeError, ValueError):
        wanted = "an array of numbers, and None or NaN for no answer"
        raise WrongAnswers(f"judge {name}: expected {wanted}, got {_described(found)}") from None


def _described(found: Any) -> str:
    """What a judge has returned, without its text."""
    if isinstance(found, np.ndarray):
        return f"an array of {found.dtype}"
    known = (int, float, type(None))
    odd = [one for one in found if not isinstance(one, known)] if isinstance(found, list | tuple) else []
    return f"a {type(found).__name__}" + (f" with a {type(odd[0]).__name__} in it" if odd else "")
