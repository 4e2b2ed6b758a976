"""A judge made of several judges, so that the preference is that of a group and not of one mind.

    judge = Population([brevity, warmth, bridge.judges.load("fair.py:fair")], weights=[0.5, 0.3, 0.2])

Each comparison is answered by one member, who is drawn by the weights ("draw"; as if somebody of the group were asked),
or by the weighted mean of all members ("mean", a linear opinion pool, Stone 1961), which costs as many calls as there
are members. Both have the same expectation, sum_m w_m P_m(a is preferred to b), and no scalar reward need explain it,
even where every member has one: three rankings that rotate are a cycle (Condorcet 1785).

Who is drawn is a function of the seed, of the round's key (`llm_bridge.judges.keyed`) and of the comparison, whichever
of its answers comes first. So one member answers both orders of a pair, a run that resumes or that is repeated asks the
same members, every process agrees, and nobody has to write down who was asked: `drawn` tells it at any time. Another
round asks others.

A member that fails has failed for the population: the comparison is NaN, in a mean as well. Nobody answers in another's
place, because that would be another population. For the same reason a member that answers none of 20 or more
comparisons of a call ends it (`NoAnswers`), although others do answer.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from llm_bridge.judges import ENOUGH, Judge, NoAnswers, Prompt, Response, answers_of, check_signature, dry_run, name_of
from llm_bridge.model.architecture import BridgeError

AGGREGATIONS = ("draw", "mean")


@dataclass(frozen=True, eq=False)
class Population:
    """A judge that asks its members; called with `(prompts, a, b)` it returns P(a preferred).

    Attributes:
        members: judges, at least one.
        weights: of the members, positive, in any unit; None for equal ones. Afterwards they sum to 1.
        names: of the members in reports; None for those that they have.
        aggregation: "draw" for one member a comparison, drawn by weight, "mean" for the weighted mean of all.
        seed: of the draws.
        key: of the round, see `keyed`; () outside of training.
    """

    members: Sequence[Judge]
    weights: Sequence[float | int] | None = None
    names: Sequence[str] | None = None
    aggregation: str = "draw"
    seed: int = 0
    key: tuple[int, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        members = tuple(self.members)
        for member in members:
            check_signature(member)
        weights = (1.0,) * len(members) if self.weights is None else tuple(self.weights)
        names = tuple(map(name_of, members)) if self.names is None else tuple(self.names)
        if not members or not len(members) == len(weights) == len(names):
            counted = f"{len(members)} members, {len(weights)} weights and {len(names)} names"
            raise BridgeError(f"expected a population with a weight and a name for each of its members, got {counted}")
        if wrong := [weight for weight in weights if not (_is_number(weight) and 0 < weight < np.inf)]:
            raise BridgeError(f"expected the weights of a population's members to be numbers > 0, got {wrong[0]!r}")
        if self.aggregation not in AGGREGATIONS:
            raise BridgeError(f"expected aggregation to be {' or '.join(AGGREGATIONS)}, got {self.aggregation!r}")
        parts = np.asarray(weights, np.float64) / np.max(weights)
        whole = {"members": members, "weights": tuple((parts / parts.sum()).tolist()), "names": _apart(names)}
        for name, value in whole.items():
            object.__setattr__(self, name, value)

    @property
    def name(self) -> str:
        """For complaints."""
        return f"population of {', '.join(self.names or ())}"

    @property
    def symmetric(self) -> bool:
        """Whether all members are: the others have to be asked in both orders."""
        return all(getattr(member, "symmetric", False) for member in self.members)

    def keyed(self, key: tuple[int, ...]) -> "Population":
        """The same population with the draws of another round."""
        return replace(self, key=key)

    def dry_run(self, prompts: Sequence[Prompt]) -> None:
        """Try every member on its own.

        Raises:
            BridgeError: one of them cannot do its work.
        """
        for member in self.members:
            dry_run(member, prompts)

    def drawn(self, prompts: Sequence[Prompt], a: Sequence[Response], b: Sequence[Response]) -> Int[np.ndarray, " n"]:
        """[n] which member answers each comparison; the same for both orders of a pair."""
        points = [_point(self.seed, self.key, *comparison) for comparison in zip(prompts, a, b, strict=True)]
        index = np.searchsorted(np.cumsum(np.asarray(self.weights)), points, side="right")
        return np.minimum(index, len(self.members) - 1)

    def __call__(
        self, prompts: Sequence[Prompt], a: Sequence[Response], b: Sequence[Response]
    ) -> Float[np.ndarray, " n"]:
        """[n] P(a preferred); NaN where the member that was drawn, or any member of a mean, gave no answer.

        Raises:
            NoAnswers: a member answered none of the 20 or more pairs that it was asked about.
            BridgeError: a member returns something else than probabilities and NaN.
        """
        if self.aggregation == "mean":
            every = np.arange(len(prompts))
            answers = [self._answers(m, every, prompts, a, b) for m in range(len(self.members))]
            return np.asarray(self.weights) @ np.array(answers).reshape(len(answers), -1)
        who, found = self.drawn(prompts, a, b), np.full(len(prompts), np.nan)
        for m in np.unique(who).tolist():
            places = np.flatnonzero(who == m)
            found[places] = self._answers(m, places, prompts, a, b)
        return found

    def _answers(
        self, m: int, places: Int[np.ndarray, " k"], prompts: Sequence[Any], a: Sequence[Any], b: Sequence[Any]
    ) -> Float[np.ndarray, " k"]:
        """What a member says of the comparisons at these places; a symmetric one is asked once for both orders."""
        asked = [(prompts[i], a[i], b[i]) for i in places.tolist()]
        once = _once(asked)
        wanted = list(once) if getattr(self.members[m], "symmetric", False) else asked
        columns = [list(part) for part in zip(*wanted, strict=True)] or [[], [], []]
        answers = answers_of(self.members[m], columns[0], columns[1], columns[2])
        if len(once) >= ENOUGH and np.isnan(answers).all():
            raise NoAnswers(f"the judge {(self.names or ())[m]} of the population answered none of {len(once)} pairs")
        if wanted is asked:
            return answers
        known = dict(zip(once, answers.tolist(), strict=True))
        return np.array([known[one] if one in known else 1 - known[one[0], one[2], one[1]] for one in asked])


def _once(asked: Sequence[tuple[Any, Any, Any]]) -> dict[tuple[Any, Any, Any], None]:
    """Comparisons without those that are known from another one, the same or in the other order."""
    found: dict[tuple[Any, Any, Any], None] = {}
    for prompt, a, b in asked:
        if (prompt, b, a) not in found:
            found[prompt, a, b] = None
    return found


def _point(seed: int, key: tuple[int, ...], prompt: Prompt, a: Response, b: Response) -> float:
    """A number in [0, 1] that depends on all of this, but not on which of the answers comes first."""
    answers = sorted(json.dumps(answer, default=int) for answer in (a, b))
    text = json.dumps([seed, *key, prompt, *answers], default=int)
    return int.from_bytes(hashlib.blake2b(text.encode("ascii"), digest_size=8).digest(), "big") / 2**64


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _apart(names: Sequence[str]) -> tuple[str, ...]:
    """Names of which no two are the same: a number is added to those that repeat an earlier one."""
    found: list[str] = []
    for name in names:
        number = 1 + sum(name == other for other in names[: len(found)])
        found.append(name if number == 1 else f"{name} #{number}")
    return tuple(found)
