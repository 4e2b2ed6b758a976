"""What a judge's verdicts look like before a model learns from them: cycles, noise, order, length, disagreement.

Answers to each prompt are put to the judge in all pairs, several times. If the same comparison always has the same
answer the judge is no sample of anything: three answers that beat each other in a circle are a proof that no scalar
reward gives its preferences, and only the prompts are a sample, from which the interval comes. A judge that answers
differently the next time makes cycles by noise alone, so cycles are counted beside those that verdicts of a scalar
reward would have, and whether a scalar would do is tested (`llm_bridge.measure.bradley_terry`). A judge that was asked
once leaves open which of the two it is: one verdict a pair cannot tell noise from a cycle.

In a group of judges (`llm_bridge.judges.population`) every member is asked about every pair, and the preference is the
weighted mean of their answers, whoever would have been drawn. So the draw adds no noise here.

A triple is cyclic if each of its answers beats one of the other two with more than 1/2 (Kendall and Babington Smith
1940, "On the method of paired comparisons"); a tie within it makes it none. If every verdict is a fair coin a quarter
of the triples is cyclic. If every member of a group ranks the answers at random, the majority is cyclic as often as
Condorcet's paradox has it: 1/18 for three members.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import permutations, product
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from llm_bridge.judges import Judge, answers_of, keyed, name_of
from llm_bridge.judges.population import Population
from llm_bridge.measure.bradley_terry import ScalarTest, cyclic_triples, scalar_test, scores_of, triples
from llm_bridge.measure.intervals import redrawn
from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.ranges import require
from mmd.host.notebook import data_frame, html_table

TIE = 1e-4  # preferences that are no further from 1/2 are ties
SAME = 1e-4  # answers that differ by no more are the same
LEVEL = 0.03  # of the tests: where all answers are equally good the bootstrap's 5 % are 6 or so
NEARLY = 0.01  # share of cyclic triples up to which a scalar reward nearly does
ENUMERATED = 50_000  # outcomes that are counted; more are drawn
LONGEST_NAME = 40
SHOWN = {"cyclic": "cyclic", "longer": "longer preferred", "failed_frac": "failed"}
HIDDEN = ("case", "shown", "a", "b", "preference", "by_member")


class Share(NamedTuple):
    """A share of cases, such as pairs or triples, over prompts of equal weight.

    Attributes:
        value: the share; NaN where there is no case.
        low, high: its 95 % interval if the prompts were drawn again (`llm_bridge.measure.intervals.redrawn`).
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True, repr=False)
class JudgeReport:
    """What a judge says of some answers.

    Attributes:
        prompts: how many there are with two different answers or more.
        repeats: how often each pair was asked about, unless the second time showed that the judge repeats itself.
        deterministic: whether the same comparison always had the same answer; None if it was asked once.
        scalar_would_do: whether a scalar reward would give the same preferences, as far as these verdicts show; None
            if they leave that open. A deterministic judge may have one cyclic triple in a hundred. `sentence` says why.
        triples: of answers to the same prompt, all of whose pairs were answered.
        cyclic: share of triples that are cyclic.
        coin_flips: the same if each verdict were a fair coin, 1/4.
        random_rankings: the same if every member of a group ranked the answers at random; None for a single judge.
        condorcet: share of prompts with an answer that beats all others.
        test: of one score for each answer; None for a deterministic judge, whose verdicts are no sample.
        misfit, misfit_most: by how much the best scores miss the preferences of pairs, mean and most; of a noisy judge
            noise included.
        tied: share of pairs with no winner.
        failed_frac: share of pairs without an answer.
        flipped: share of pairs whose two orders name different winners; None where only one order was asked.
        first_preferred: how often the answer that is shown first is preferred; None as before.
        longer: how often the longer one of two answers is preferred, in characters (or tokens), a tie counting half.
        disagreement: how often two different members, drawn by weight, name different winners, a tie counting half;
            None for a single judge.
        members: by name, weight, cyclic, flipped, first_preferred, longer and failed_frac of each alone.
        tables: [M, M] how often two members name different winners.
        case: [n] which prompt each pair belongs to, by number.
        shown, a, b: [n] the prompt and both answers of each pair.
        preference: [n] P(a is preferred); NaN where there is no answer.
        by_member: [M, n] the same, of each member.
    """

    prompts: int
    repeats: int
    deterministic: bool | None
    scalar_would_do: bool | None
    triples: int
    cyclic: Share
    coin_flips: float
    random_rankings: float | None
    condorcet: float
    test: ScalarTest | None
    misfit: float
    misfit_most: float
    tied: float
    failed_frac: float
    flipped: Share | None
    first_preferred: float | None
    longer: Share
    disagreement: Share | None
    members: Mapping[str, Mapping[str, float | None]]
    tables: Float[np.ndarray, "M M"]
    case: Int[np.ndarray, " n"]
    shown: Sequence[Any]
    a: Sequence[Any]
    b: Sequence[Any]
    preference: Float[np.ndarray, " n"]
    by_member: Float[np.ndarray, "M n"]

    @property
    def sentence(self) -> str:
        """Whether a scalar reward would do, and why, in one sentence."""
        cycles, answers = f"{self.cyclic} of {self.triples:,} triples are cyclic", "one score for each answer"
        if self.test is None:
            why = f"{cycles}, and asked again the judge says the same"
        elif self.scalar_would_do is None:
            why = f"{cycles}, and a judge that is asked once does not show how many of them are noise; ask twice"
        elif self.deterministic is None and self.scalar_would_do:
            why = f"{cycles}, in one verdict on each pair"
        else:
            explains = "explains" if self.test.p_value > LEVEL else "does not explain"
            noise = f"where noise alone makes {100 * self.test.cyclic:.1f} % (p = {self.test.cyclic_p_value:.3f})"
            why = f"{answers} {explains} the verdicts (p = {self.test.p_value:.3f}); {cycles}, {noise}"
            if not self.scalar_would_do and self.test.cyclic_p_value > LEVEL:
                why += ", so scores may still give the order"
        nearly = self.test is None and self.cyclic.value > 0
        words = {
            True: f"a scalar reward would {'nearly ' * nearly}do",
            False: "no scalar reward would do",
            None: "it is open whether a scalar reward would do",
        }
        return f"{words[self.scalar_would_do]}: {why}"

    def __repr__(self) -> str:
        return f"JudgeReport({self.prompts} prompts, {len(self.preference):,} pairs: {self.sentence})"

    def _repr_html_(self) -> str:
        """For notebooks: the numbers, and the members."""
        numbers = html_table(self.sentence, [line.split("  ", 1) for line in self._numbers()])
        if len(self.members) == 1:
            return numbers
        rows = ((name, *(np.nan if x is None else x for x in one.values())) for name, one in self.members.items())
        return numbers + html_table("members", rows, ("", *next(iter(self.members.values()))), len(self.members))

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without the verdicts; what is not a number is None."""
        known = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in HIDDEN}
        return {"schema_version": 1, "sentence": self.sentence, **_plain(known), "pairs": len(self.preference)}

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with a row for each pair: case, shown, a, b, preference, and each member's own.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        pairs = {name: getattr(self, name) for name in HIDDEN[:-1]}
        return data_frame(pairs | {f"member {name}": p for name, p in zip(self.members, self.by_member, strict=True)})

    def verdicts(self) -> list[dict[str, Any]]:
        """Every pair with its preference and each member's, for JSON Lines."""
        columns = zip(self.shown, self.a, self.b, self.preference.tolist(), self.by_member.T.tolist(), strict=True)
        return [
            {
                "prompt": prompt,
                "a": a,
                "b": b,
                "preference": _plain(p),
                "members": dict(zip(self.members, _plain(each), strict=True)),
            }
            for prompt, a, b, p, each in columns
        ]

    def lines(self) -> list[str]:
        """A table for people to read."""
        found = [*self._numbers(), ""]
        if len(self.members) > 1:
            width = max(len(_short(name)) for name in self.members)
            found += [f"{_short(name).ljust(width)}  {_of_member(one)}" for name, one in self.members.items()]
            found += ["how often the member of the row and that of the column name different winners, in %"]
            for name, row in zip(self.members, self.tables, strict=True):
                found.append(f"{_short(name).ljust(width)}  {'  '.join(f'{100 * share:5.1f}' for share in row)}")
            found.append("")
        return [*found, self.sentence]

    def _numbers(self) -> list[str]:
        """A line for each, its name in front."""
        often = f"asked {self.repeats} times, not always with the same answer"
        again = {True: "always with the same answer", False: often, None: "asked once"}[self.deterministic]
        rows = {
            "asked": f"{len(self.preference):,} pairs of answers to {self.prompts} prompts: {again}",
            "no answer": f"{100 * self.failed_frac:.1f} %; no winner {100 * self.tied:.1f} %",
            "cyclic": f"{self.cyclic} of {self.triples:,} triples; {self._chance()}",
            "best answer": f"beats all others on {100 * self.condorcet:.1f} % of prompts",
            "one score each": self._scores(),
            "longer answer": f"preferred in {self.longer} of pairs",
        }
        if self.flipped is not None:
            rows["order"] = (
                f"decides {self.flipped} of pairs; the first is preferred in {100 * (self.first_preferred or 0):.1f} %"
            )
        if self.disagreement is not None:
            rows["members"] = f"two of them name different winners in {self.disagreement} of pairs"
        return [f"{name.ljust(14)}  {text}" for name, text in rows.items()]

    def _chance(self) -> str:
        """What the share of cyclic triples would be by chance."""
        known = [f"{100 * self.coin_flips:.1f} % if verdicts were coins"]
        if self.random_rankings is not None:
            known.append(f"{100 * self.random_rankings:.1f} % if members ranked at random")
        if self.test is not None:
            known.append(f"{100 * self.test.cyclic:.1f} % (at most {100 * self.test.cyclic_high:.1f} %) by noise alone")
        return ", ".join(known)

    def _scores(self) -> str:
        """How well one score for each answer does."""
        missed = f"miss preferences by {100 * self.misfit:.1f} points on average, {100 * self.misfit_most:.1f} at most"
        if self.test is None:
            return missed
        numbers = f"G2 {self.test.statistic:.1f} with {self.test.degrees} free pairs, p = {self.test.p_value:.3f}"
        return f"{missed}; likelihood ratio {numbers} by bootstrap"


class _Pairs(NamedTuple):
    """All pairs of answers to the same prompt.

    Attributes:
        case, shown, a, b: [n] as in `JudgeReport`.
        first, second: [n] which of the prompt's answers they are.
        shape: prompts, and most answers to one.
    """

    case: np.ndarray
    first: np.ndarray
    second: np.ndarray
    shown: list[Any]
    a: list[Any]
    b: list[Any]
    shape: tuple[int, int]


class _Answers(NamedTuple):
    """What a member has said; of R times.

    Attributes:
        forth: [R, n] P(a preferred), a shown first.
        back: [R, n] the same, b shown first.
        both: whether both orders were asked, or one stands for the other.
        fixed: whether the same comparison always had the same answer; None where it was asked once.
    """

    forth: Float[np.ndarray, "R n"]
    back: Float[np.ndarray, "R n"]
    both: bool
    fixed: bool | None

    @property
    def preference(self) -> Float[np.ndarray, " n"]:
        """Mean of all repeats that have an answer in every order; NaN where none has."""
        whole = (self.forth + self.back) / 2
        return _mean(whole, ~np.isnan(whole), 0)


def judge_report(
    judge: Judge,
    prompts: Sequence[Any],
    answers: Sequence[Sequence[Any]],
    *,
    repeats: int = 3,
    cases: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> JudgeReport:
    """Ask a judge about all pairs of answers to each prompt, and report what its preferences are like.

    Args:
        judge: see `llm_bridge.judges`; the members of a population are asked one by one, each about every pair.
        prompts: as the judge reads them.
        answers: to each prompt; those that are equal count once.
        repeats: how often each pair is asked about, in both orders unless the judge is symmetric. With 2 or more the
            report knows whether the judge repeats itself. A judge that does is asked twice, and one whose attribute
            `deterministic` is True once.
        cases: what tells prompts apart, equal for those that are the same one; None for the prompts as shown.
        seed: of the bootstrap, and of the draws of a judge that draws.

    Raises:
        BridgeError: numbers of prompts and answers differ, no prompt has three different answers, or the judge answers
            no pair, or something else than probabilities.
    """
    require("repeats", repeats)
    pairs = _pairs(prompts, answers, prompts if cases is None else cases)
    group = judge if isinstance(judge, Population) else Population([judge])
    said = [_asked(member, pairs, repeats, seed) for member in group.members]
    by_member, weights = np.array([one.preference for one in said]), np.asarray(group.weights)
    preference = weights @ by_member
    if np.isnan(preference).all():
        raise BridgeError(f"the judge {name_of(judge)} answered none of {len(preference)} pairs")
    fixed = [one.fixed for one in said]
    deterministic = True if all(fixed) else (None if None in fixed and False not in fixed else False)
    test = None if deterministic else _test(said, weights, pairs, seed)
    cyclic, n_triples = _cyclic(preference, pairs)
    misfit = _misfit(preference, pairs)
    alone = len(said) == 1
    return JudgeReport(
        prompts=pairs.shape[0],
        repeats=repeats,
        deterministic=deterministic,
        scalar_would_do=_verdict(deterministic, cyclic, test),
        triples=n_triples,
        cyclic=cyclic,
        coin_flips=0.25,
        random_rankings=None if alone else paradox(weights, seed=seed),
        condorcet=_condorcet(preference, pairs),
        test=test,
        misfit=float(np.nanmean(misfit)),
        misfit_most=float(np.nanmax(misfit)),
        tied=float(np.nanmean(np.where(np.isnan(preference), np.nan, _sign(preference) == 0))),
        failed_frac=float(np.mean(np.isnan(preference))),
        flipped=_flipped(said, weights, pairs),
        first_preferred=_first_preferred(said, weights),
        longer=_longer(preference, pairs),
        disagreement=None if alone else _disagreement(by_member, weights, pairs),
        members=_members(group, said, by_member, pairs),
        tables=_tables(by_member),
        **{name: getattr(pairs, name) for name in HIDDEN[:4]},
        preference=preference,
        by_member=by_member,
    )


def paradox(weights: Sequence[float | int] | np.ndarray, *, seed: int = 0) -> float:
    """How often three answers are a cycle for the weighted majority of members who rank them at random.

    1/18 for three equal members, 5/72 for five, and 0.0877 in the limit (Guilbaud 1952).

    Args:
        weights: of the members.
        seed: of the rankings that are drawn where there are too many members to count all.
    """
    ranks, n = np.array(list(permutations(range(3)))), len(weights)
    if 6**n <= ENUMERATED:
        chosen = np.array(list(product(range(6), repeat=n)))
    else:
        chosen = np.random.default_rng(seed).integers(6, size=(ENUMERATED, n))
    sides = np.sign(ranks[:, [1, 2, 0]] - ranks[:, [0, 1, 2]])  # who of two neighbours in the circle is ranked higher
    margins = np.einsum("m,smp->sp", np.asarray(weights, np.float64) / np.sum(weights), sides[chosen])
    cyclic = (margins > 2 * TIE).all(axis=1) | (margins < -2 * TIE).all(axis=1)
    return float(cyclic.mean())


def _pairs(prompts: Sequence[Any], answers: Sequence[Sequence[Any]], cases: Sequence[Hashable]) -> _Pairs:
    """All pairs of different answers to each prompt, those of rows with the same prompt together."""
    if not len(prompts) == len(answers) == len(cases):
        counted = f"{len(prompts)}, {len(answers)} and {len(cases)}"
        raise BridgeError(f"expected as many lists of answers, and cases, as prompts, got {counted}")
    shown: dict[Hashable, Any] = {}
    given: dict[Hashable, dict[Any, None]] = {}
    for prompt, texts, case in zip(prompts, answers, cases, strict=True):
        shown.setdefault(case, prompt)
        given.setdefault(case, {}).update(dict.fromkeys(texts))
    groups = [(shown[case], list(texts)) for case, texts in given.items() if len(texts) > 1]
    longest = max((len(texts) for _, texts in groups), default=0)
    if longest < 3:
        raise BridgeError("expected at least three different answers to some prompt: fewer have no cycle")
    places = [(x, i, j) for x, (_, t) in enumerate(groups) for j in range(len(t)) for i in range(j)]
    case, first, second = np.array(places).T
    a, b = ([groups[place[0]][1][place[side]] for place in places] for side in (1, 2))
    return _Pairs(case, first, second, [groups[x][0] for x, _, _ in places], a, b, (len(groups), longest))


def _asked(member: Judge, pairs: _Pairs, repeats: int, seed: int) -> _Answers:
    """Put all pairs to a judge, several times, each time with other draws if it draws."""
    once, both = bool(getattr(member, "deterministic", False)), not getattr(member, "symmetric", False)
    n, said, fixed = len(pairs.a), [], True if once else None
    for repeat in range(1 if once else repeats):
        asked = keyed(member, (seed, repeat))
        if both:
            found = answers_of(asked, [*pairs.shown, *pairs.shown], [*pairs.a, *pairs.b], [*pairs.b, *pairs.a])
        else:
            found = np.tile(answers_of(asked, pairs.shown, pairs.a, pairs.b), 2)
            found[n:] = 1 - found[n:]
        said.append(np.array([found[:n], 1 - found[n:]]))
        if repeat == 1 and (fixed := _same(said)):
            break  # asked again it would say the same
    first = np.where(np.isnan(said[0]), said[-1], said[0])
    answers = np.array(said if fixed is False else [first] * repeats)
    return _Answers(answers[:, 0], answers[:, 1], both, fixed)


def _same(said: Sequence[np.ndarray]) -> bool:
    """Whether two times the answers were the same, as far as there are any."""
    known = ~np.isnan(said[0] + said[1])
    return bool(known.any() and (np.abs(said[0] - said[1])[known] <= SAME).all())


def _verdict(deterministic: bool | None, cyclic: Share, test: ScalarTest | None) -> bool | None:
    """Whether a scalar reward would do; None if that is open."""
    if test is None:
        return cyclic.value <= NEARLY
    if test.p_value <= LEVEL:
        return False
    return None if deterministic is None and cyclic.value > 0 else True


def _test(said: Sequence[_Answers], weights: np.ndarray, pairs: _Pairs, seed: int) -> ScalarTest:
    """Of one score for each answer.

    Each order of each repeat is a verdict, if it is no tie. Where a member that varies was asked in one order only its
    answer would count twice: then each repeat is a verdict.
    """
    forth, back = (np.einsum("m,mrn->rn", weights, np.array([one[k] for one in said])) for k in (0, 1))
    apart = all(one.both or one.fixed for one in said)
    verdicts = np.concatenate([forth, back]) if apart else (forth + back) / 2
    decided = np.abs(np.nan_to_num(verdicts, nan=0.5) - 0.5) > TIE
    won, n = np.where(decided, verdicts, 0).sum(axis=0), decided.sum(axis=0)
    ties = 1 - 4 * float(np.mean((verdicts[decided] - 0.5) ** 2)) if decided.any() else 0.0
    return scalar_test(_square(won, n - won, pairs), ties=ties if ties > 1e-9 else 0.0, seed=seed)


def _square(forth: np.ndarray, back: np.ndarray, pairs: _Pairs) -> np.ndarray:
    """[K, n, n] a table for each prompt, of what is known of each pair and of the pair the other way round."""
    found = np.zeros((pairs.shape[0], pairs.shape[1], pairs.shape[1]))
    found[pairs.case, pairs.first, pairs.second] = forth
    found[pairs.case, pairs.second, pairs.first] = back
    return found


def _sign(preference: np.ndarray) -> np.ndarray:
    """1 where the first one wins, -1 where the second one does, 0 for a tie and where nothing is known."""
    return np.where(np.abs(preference - 0.5) > TIE, np.sign(preference - 0.5), 0)


def _mean(values: np.ndarray, known: np.ndarray, axis: int) -> np.ndarray:
    """Of known values; NaN where there is none."""
    n = known.sum(axis=axis)
    sums = np.where(known, values, 0).sum(axis=axis)
    return np.divide(sums, n, out=np.full(np.shape(sums), np.nan), where=n > 0)


def _share(values: Float[np.ndarray, " n"], pairs: _Pairs) -> Share:
    """Mean over prompts of the mean of each prompt's pairs; NaN is no case."""
    known = ~np.isnan(values)
    sums, n = (np.bincount(pairs.case, x, pairs.shape[0]) for x in (np.where(known, values, 0), known))
    return _over_prompts(np.divide(sums, n, out=np.full(len(sums), np.nan), where=n > 0))


def _over_prompts(by_prompt: Float[np.ndarray, " K"]) -> Share:
    known = by_prompt[~np.isnan(by_prompt)]
    return Share(float(known.mean()) if len(known) else float("nan"), *redrawn(by_prompt))


def _cyclic(preference: Float[np.ndarray, " n"], pairs: _Pairs) -> tuple[Share, int]:
    """The share of cyclic triples, and how many triples there are."""
    side, known = _sign(preference), ~np.isnan(preference)
    found, there = cyclic_triples(_square(side > 0, side < 0, pairs)), triples(_square(known, known, pairs))
    shares = np.divide(found, there, out=np.full(len(found), np.nan), where=there > 0.5)
    return _over_prompts(shares), round(float(there.sum()))


def _condorcet(preference: Float[np.ndarray, " n"], pairs: _Pairs) -> float:
    """Share of prompts with an answer that beats all others; of those on which every pair was answered."""
    side, known = _sign(preference), ~np.isnan(preference)
    n_answers = np.zeros(pairs.shape[0])
    np.maximum.at(n_answers, pairs.case, pairs.second + 1)
    whole = np.bincount(pairs.case, known, pairs.shape[0]) == n_answers * (n_answers - 1) / 2
    best = _square(side > 0, side < 0, pairs).sum(axis=2).max(axis=1) == n_answers - 1
    return float(best[whole].mean()) if whole.any() else float("nan")


def _misfit(preference: Float[np.ndarray, " n"], pairs: _Pairs) -> Float[np.ndarray, " n"]:
    """By how much the best scores miss the preference of each pair."""
    known = np.where(np.isnan(preference), 0, preference)
    scores = scores_of(_square(known, np.where(np.isnan(preference), 0, 1 - preference), pairs))
    difference = scores[pairs.case, pairs.first] - scores[pairs.case, pairs.second]
    return np.abs(preference - (0.5 + 0.5 * np.tanh(difference / 2)))


def _flips(one: _Answers) -> Float[np.ndarray, " n"]:
    """How often the two orders name different winners."""
    known = ~np.isnan(one.forth + one.back)
    return _mean(_sign(one.forth) * _sign(one.back) < 0, known, 0)


def _flipped(said: Sequence[_Answers], weights: np.ndarray, pairs: _Pairs) -> Share | None:
    asked = [(weight, _flips(one)) for weight, one in zip(weights.tolist(), said, strict=True) if one.both]
    if not asked:
        return None
    flips = np.asarray(sum(weight * of_one for weight, of_one in asked)) / sum(weight for weight, _ in asked)
    return _share(flips, pairs)


def _first_preferred(said: Sequence[_Answers], weights: np.ndarray) -> float | None:
    asked = [
        (w, np.nanmean(one.forth + 1 - one.back) / 2) for w, one in zip(weights.tolist(), said, strict=True) if one.both
    ]
    return float(sum(w * share for w, share in asked) / sum(w for w, _ in asked)) if asked else None


def _longer(preference: Float[np.ndarray, " n"], pairs: _Pairs) -> Share:
    """How often the longer one wins; pairs of equal length are no case."""
    difference = np.sign([len(a) - len(b) for a, b in zip(pairs.a, pairs.b, strict=True)])
    wins = 0.5 + 0.5 * _sign(preference) * difference
    return _share(np.where(np.isnan(preference) | (difference == 0), np.nan, wins), pairs)


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far two members' winners differ: 1, or 1/2 where one of them has a tie; NaN where one has no answer."""
    return np.where(np.isnan(one + other), np.nan, np.abs(_sign(one) - _sign(other)) / 2)


def _disagreement(by_member: Float[np.ndarray, "M n"], weights: np.ndarray, pairs: _Pairs) -> Share:
    places = [(m, o, weights[m] * weights[o]) for m in range(len(weights)) for o in range(m)]
    apart = sum(weight * _apart(by_member[m], by_member[o]) for m, o, weight in places)
    return _share(np.asarray(apart) / sum(weight for _, _, weight in places), pairs)


def _tables(by_member: Float[np.ndarray, "M n"]) -> Float[np.ndarray, "M M"]:
    apart = _apart(by_member[:, None], by_member[None])
    return _mean(apart, ~np.isnan(apart), 2)


def _members(
    group: Population, said: Sequence[_Answers], by_member: np.ndarray, pairs: _Pairs
) -> dict[str, dict[str, float | None]]:
    """Each member alone."""
    found: dict[str, dict[str, float | None]] = {}
    for name, weight, one, preference in zip(group.names or (), group.weights or (), said, by_member, strict=True):
        found[name] = {
            "weight": float(weight),
            "cyclic": _cyclic(preference, pairs)[0].value,
            "flipped": _share(_flips(one), pairs).value if one.both else None,
            "first_preferred": _first_preferred([one], np.ones(1)),
            "longer": _longer(preference, pairs).value,
            "failed_frac": float(np.mean(np.isnan(preference))),
        }
    return found


def _of_member(one: Mapping[str, float | None]) -> str:
    """A member's line."""
    parts = [f"weight {one['weight']:.3f}", *(f"{text} {100 * (one[name] or 0):.1f} %" for name, text in SHOWN.items())]
    flipped = [] if one["flipped"] is None else [f"flipped with the order {100 * one['flipped']:.1f} %"]
    return ", ".join([*parts, *flipped])


def _short(name: str) -> str:
    """A member's name in a column; a criterion may be long."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Share | ScalarTest):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, np.ndarray | list):
        return [_plain(one) for one in np.asarray(value).tolist()]
    return None if isinstance(value, float) and not np.isfinite(value) else value
