"""The arena of a language model: responses from the sampler, preferences from a judge, both in batches.

Prompts are put to the policy as token ids and to the judge as text, or as token ids for a policy without a tokenizer.
Responses equal token by token are a tie that nobody has to be asked about.

Rows are trimmed to what the round needs, in steps of a few sizes, so that few shapes are compiled: a run's prompts are
known before its first round, and with them the lengths that they are padded to (`widths`).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from llm_bridge.judges import ENOUGH, Judge, NoAnswers, Prompt, Response, ask, name_of
from llm_bridge.model import sharding
from llm_bridge.model.architecture import BridgeError
from llm_bridge.policy import layout
from llm_bridge.policy.generate import Generation, Shape, bucket, copies_of, padded_left, run, stop_table
from llm_bridge.policy.policy import Origin, broken
from llm_bridge.policy.sampling import Settings
from llm_bridge.text.tokenizer import Tokenizer, tokenizer_of
from llm_bridge.train.arena import Samples, Source
from llm_bridge.train.engine import Turn

PROGRAMS = 4  # at most, of a kind, that a run compiles for rounds of different lengths
WORTH = 0.1  # share of all columns that another length of prompts has to save
LOOKED_AT = 256  # rounds, whatever the length of the run, so that a part of it is the same


class Question(NamedTuple):
    """A prompt as the policy reads it and as the judge sees it.

    Attributes:
        tokens: ids, what generation continues.
        shown: text, and then responses are decoded for the judge; or token ids, and then they are not.
    """

    tokens: tuple[int, ...]
    shown: Prompt


class Grouping(NamedTuple):
    """How the responses to a prompt are drawn and compared.

    Attributes:
        opponents: how many others of its group each response is compared to, an even number; None for all. With the
            group in a circle, response i meets the opponents / 2 responses on each side, so every response is in the
            same number of pairs.
        spread: whether the draws of a group are spread evenly (`llm_bridge.policy.spread`). The others are then those
            of the other half, to which rows belong by turns.
    """

    opponents: int | None = None
    spread: bool = False

    def pairs(self, n: int) -> list[tuple[int, int]]:
        """Those of a group of n, each once: all, or those of each response with its next ones in a circle."""
        step = 2 if self.spread else 1
        if self.opponents is None or step * self.opponents >= n - 1:
            return [(i, j) for i in range(n) for j in range(i + 1, n, step)]
        near = range(1, step * self.opponents // 2 + 1, step)
        return sorted({(min(i, (i + s) % n), max(i, (i + s) % n)) for i in range(n) for s in near})


EACH_OTHER = Grouping()


class RoundPrompts(list[Any]):
    """What a round is about, with the columns that its prompts are padded to.

    Args:
        questions: as `Method.read` gives them.
        widths: the lengths that there are, the shortest first; none to pad as the round needs it.
        columns: how many some questions need.

    Attributes:
        width: columns; None for what the round needs.
    """

    def __init__(self, questions: Iterable[Any], widths: Sequence[int], columns: Callable[[Sequence[Any]], int]):
        super().__init__(questions)
        self.width = next((width for width in widths if width >= columns(self)), None)


def stand_ins(n: int, width: int) -> list[Question]:
    """Prompts of this length, each other than the one before."""
    return [Question((*[0] * (width - 1), i % 2), ()) for i in range(n)]


def widths(longest: int, of_rounds: Iterable[int], most: int) -> tuple[int, ...]:
    """Lengths to pad prompts to, the shortest first: each one saves a share of all columns, `WORTH`.

    Args:
        longest: prompt of all, in tokens; 0 where nothing is known, which gives none.
        of_rounds: the longest prompt of each of some rounds.
        most: how many lengths there may be.
    """
    if not longest or most == 1:
        return (bucket(longest, 1),) if longest else ()
    needed, found = list(of_rounds), [bucket(longest, 1)]

    def columns(lengths: Sequence[int]) -> int:
        return sum(min(length for length in lengths if length >= n) for n in needed)

    while len(found) < most and needed:
        best = min((bucket(n, 1) for n in needed), key=lambda length: columns([*found, length]))
        if columns([*found, best]) > (1 - WORTH) * columns(found):
            break
        found.append(best)
    return tuple(sorted(found))


def shortened(n: int, longest: int) -> int:
    """The longest, or half, a quarter or an eighth of it, rounded up: the smallest that is at least n."""
    for _ in range(PROGRAMS - 1):
        if (half := -(-longest // 2)) < n:
            break
        longest = half
    return longest


def questions(origin: Origin, prompts: Any) -> list[Question]:
    """Prompts as the loop wants them; text goes through the policy's tokenizer.

    Raises:
        BridgeError: there are none; one is text and the policy has no tokenizer; or one is no prompt.
    """
    if isinstance(prompts, str) or not isinstance(prompts, Iterable):
        kind = "one text" if isinstance(prompts, str) else type(prompts).__name__
        raise BridgeError(f"expected a list of prompts, each text, token ids or a Question, got {kind}")
    found = [one if isinstance(one, Question) else _question(origin, one, i) for i, one in enumerate(prompts)]
    if not found:
        raise BridgeError("expected at least one prompt, got none")
    return found


def _question(origin: Origin, prompt: Any, number: int) -> Question:
    if isinstance(prompt, str):
        return Question(tuple(tokenizer(origin).prompt(prompt)), prompt)
    if (
        isinstance(prompt, Sequence | np.ndarray)
        and len(prompt)
        and all(isinstance(token, int | np.integer) for token in prompt)
    ):
        ids = tuple(int(token) for token in prompt)
        return Question(ids, ids)
    raise BridgeError(
        f"prompt {number}: expected text, at least one token id, or a Question, got {type(prompt).__name__}"
    )


def tokenizer(origin: Origin) -> Tokenizer:
    """The tokenizer of a policy.

    Raises:
        BridgeError: the policy comes from no folder, or there is no tokenizer in it.
    """
    if (found := tokenizer_of(origin.folder)) is None:
        where = f"{origin.folder}: has" if origin.folder else "the policy has"
        raise BridgeError(f"{where} no tokenizer, expected prompts as token ids")
    return found


class Rollout:
    """The arena of a language model for one round; it also keeps what `metrics` reports.

    Args:
        given: the prompts.
        judge: `judge(prompts, a, b)`, P(a is preferred to b) for each pair.
        origin: of the policy.
        max_new_tokens: of a response.
        grouping: how groups are drawn and compared; independent draws and all pairs unless it says otherwise.
        engine: draws responses in place of the sampler of this package; None for the sampler.
    """

    def __init__(
        self,
        given: Sequence[Question],
        judge: Judge,
        origin: Origin,
        max_new_tokens: int,
        grouping: Grouping = EACH_OTHER,
        engine: Turn | None = None,
    ):
        self._given, self._judge, self._origin = given, judge, origin
        self._max_new_tokens, self._grouping, self._engine = max_new_tokens, grouping, engine
        self._width: int | None = getattr(given, "width", None)
        self._seen: dict[str, list[np.ndarray]] = {}

    def draw(self, source: Source, n: int, key: Key[Array, ""]) -> Samples:
        """Generate n responses to each prompt at temperature 1; B = N n rows, prompt by prompt.

        Response lengths, and how many responses of a group are distinct, are noted for `metrics`.

        Raises:
            NotNumbersError: the policy's log-probabilities are NaN.
            EngineError: the engine cannot draw, or gives something else than answers.
        """
        prompts = [question.tokens for question in self._given for _ in range(n)]
        longest = bucket(self._max_new_tokens, 1)
        found = self._generated(source, prompts, key) if self._engine is None else self._drawn(self._engine, n, key)
        rows = _rows(prompts, found, self._origin.pad_token, self._width, longest)
        if np.isnan(rows.log_probs[rows.response]).any():
            raise broken(self._origin)
        lengths = rows.response.sum(axis=1)
        self._note("response_length", lengths)
        self._note("truncated_frac", lengths == self._max_new_tokens)
        ids = [tuple(row[marked]) for row, marked in zip(rows.tokens, rows.response, strict=True)]
        self._note("distinct", [len(set(ids[i : i + n])) / n for i in range(0, len(ids), n)])
        return self._placed(rows, source)

    def compare(self, ours: Samples, theirs: Samples | None = None) -> Float[Array, "N G H"]:
        """Ask the judge about the pairs of each prompt, in one batch: P(our response is preferred to theirs).

        Without others the pairs are those within each group, and entry (j, i) is 1 minus entry (i, j). Responses equal
        token by token are 1/2 and not asked about. NaN stands where a pair was not asked about or not answered.

        Raises:
            NoAnswers: the judge answered none of 20 or more pairs.
            BridgeError: the judge returned something else than probabilities and NaN.
        """
        a = self._responses(ours)
        b = a if theirs is None else self._responses(theirs)
        n, m = len(a[0]), len(b[0])
        pairs = self._grouping.pairs(n) if theirs is None else [(i, j) for i in range(n) for j in range(m)]
        places = [(x, i, j) for x in range(len(a)) for i, j in pairs]
        asked = [place for place in places if a[place[0]][place[1]] != b[place[0]][place[2]]]
        found = np.full((len(a), n, m), np.nan, np.float32)
        found[tuple(np.array(places).T)] = 0.5  # equal responses; the others are written over it
        if asked:
            verdicts = ask(
                self._judge,
                [self._given[x].shown for x, _, _ in asked],
                [a[x][i] for x, i, _ in asked],
                [b[x][j] for x, _, j in asked],
            )
            found[tuple(np.array(asked).T)] = verdicts.preference
            if len(asked) >= ENOUGH and verdicts.failed.all():
                raise NoAnswers(f"the judge {name_of(self._judge)} answered none of a round's {len(asked)} pairs")
            self._note("judge/order_flip_frac", verdicts.flipped)
            self._note("judge/failed_frac", verdicts.failed)
            self._note("judge/tie_frac", verdicts.tied)
        if theirs is None:
            x, i, j = np.array(places).T
            found[x, j, i] = 1 - found[x, i, j]
        return jnp.asarray(found)

    def metrics(self) -> dict[str, float]:
        """What was seen so far: means over responses, groups or pairs."""
        return {name: float(np.mean(np.concatenate(parts))) for name, parts in self._seen.items()}

    def compiled(self, source: Source, n: int, key: Key[Array, ""]) -> Samples:
        """Compile what `draw` would run; rows of the same shapes as it gives, with responses of one token."""
        prompts = [question.tokens for question in self._given for _ in range(n)]
        if self._engine is None:
            run.lower(*self._call(source, prompts, key)).compile()
        shape = (len(prompts), bucket(self._max_new_tokens))
        first = np.broadcast_to(np.arange(shape[1]) == 0, shape)
        blank = np.zeros(shape, np.float32)
        found = Generation._make([np.zeros(shape, np.int32), first, blank, blank])
        rows = _rows(prompts, found, self._origin.pad_token, self._width, bucket(self._max_new_tokens, 1))
        return self._placed(rows, source)

    def _placed(self, rows: Samples, source: Source) -> Samples:
        """On the mesh; rows of padding are added where they are read."""
        mesh = source.decoder.mesh
        even = len(rows.tokens) % sharding.n_row_shares(mesh) == 0
        place = sharding.rows(mesh, 2) if even else sharding.whole(mesh)
        return Samples(*(sharding.put(part, place) for part in rows[:4]), answers=rows.answers)

    def _generated(self, source: Source, prompts: Sequence[Sequence[int]], key: Key[Array, ""]) -> Generation:
        return run(*self._call(source, prompts, key))

    def _drawn(self, engine: Turn, n: int, key: Key[Array, ""]) -> Generation:
        found, metrics = engine.draw([question.tokens for question in self._given], n, self._max_new_tokens, key)
        for name, value in metrics.items():
            self._note(name, value)
        return found

    def _call(self, source: Source, prompts: Sequence[Sequence[int]], key: Key[Array, ""]) -> Any:
        """What the compiled loop is called with."""
        decoder, weights = layout.for_drawing(source.decoder, source.weights, len(prompts))
        mesh, origin = decoder.mesh, self._origin
        n_shares = sharding.n_row_shares(mesh)
        copies = copies_of(prompts, n_shares)
        n_rows = -(-len(prompts) // copies // n_shares) * n_shares
        batch = padded_left(prompts[::copies], n_rows, origin.pad_token, self._width)
        numbers: Any = (
            np.asarray(jax.random.key_data(key)),
            np.int32(self._max_new_tokens),
            np.float32(1),
            np.int32(decoder.architecture.vocabulary),
            np.float32(1),
            stop_table(origin.stop_tokens, decoder.architecture.vocabulary),
        )
        generator = str(jax.random.key_impl(key))
        group = len(prompts) // len(self._given) if self._grouping.spread else 0
        shape = Shape(bucket(self._max_new_tokens), False, False, origin.pad_token, generator, copies, group)
        batch = tuple(sharding.put(part, sharding.rows(mesh, part.ndim)) for part in batch)
        return decoder, shape, weights, batch, Settings(*numbers)

    def _responses(self, samples: Samples) -> list[list[Response]]:
        """By prompt, as the judge sees them."""
        tokens, response = sharding.gathered((samples.tokens, samples.response))
        n = len(tokens) // len(self._given)
        ids = [tuple(row[marked].tolist()) for row, marked in zip(tokens, response, strict=True)]
        return [
            [self._shown(question, one) for one in ids[x * n : (x + 1) * n]] for x, question in enumerate(self._given)
        ]

    def _shown(self, question: Question, ids: tuple[int, ...]) -> Response:
        return tokenizer(self._origin).decode(ids) if isinstance(question.shown, str) else ids

    def _note(self, name: str, values: Any) -> None:
        self._seen.setdefault(name, []).append(np.atleast_1d(np.asarray(values, np.float64)))


def _rows(
    prompts: Sequence[Sequence[int]], found: Generation, pad_token: int, width: int | None, longest: int
) -> Samples:
    """Prompts and responses as rows, trimmed to a few sizes; prompts are padded on the left.

    Args:
        prompts: of each row.
        found: what was generated.
        pad_token: what fills rows up.
        width: columns of prompts; None for as many as they need.
        longest: columns of the longest responses that may come.
    """
    tokens, mask, log_probs = (np.asarray(part)[: len(prompts)] for part in found[:3])
    before = width or bucket(max(map(len, prompts)), 1)
    after = min(shortened(int(mask.sum(axis=1).max()), longest), mask.shape[1])
    shape = (len(prompts), before + after)
    row, real = np.full(shape, pad_token, np.int32), np.zeros(shape, bool)
    response, scores = np.zeros(shape, bool), np.zeros(shape, np.float32)
    for i, prompt in enumerate(prompts):
        row[i, before - len(prompt) : before], real[i, before - len(prompt) : before] = prompt, True
    row[:, before:], real[:, before:] = tokens[:, :after], mask[:, :after]
    response[:, before:], scores[:, before:] = mask[:, :after], log_probs[:, :after]
    return Samples(row, real, response, scores, answers=after)  # pyrefly: ignore[bad-argument-type]
