"""The loop that all training methods share: ask for responses and preferences, learn from them, move the magnet.

    state = method.init(policy, key)
    state, metrics = method.round(state, questions)          # as often as wanted
    policy = method.export(state)

`fit` is nothing but that. A method is a frozen dataclass; everything that changes is in the `TrainState`. The way of a
prompt to its gradient: `fit`, `round`, `play` and `learn` below, `llm_bridge.train.learning.Learner`, an objective, and
`mmd.update.sampled_objective`.

A method states `play`, what it asks of the arena and what it learns from the answers, or only its objective (see
`llm_bridge.train.objective`). `play` is traceable wherever the arena is, and numbers such as eta are leaves of the
method, so that one compiled program serves a sweep over them.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Int, Key

from llm_bridge.judges import OF_TRL, WANTED, Judge, JudgeError, NoAnswers, dry_run, keyed, name_of
from llm_bridge.model import sharding
from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.ranges import RANGES, SettingError, require
from llm_bridge.policy.generate import bucket
from llm_bridge.policy.policy import NotNumbersError, Policy, check_key
from llm_bridge.text.data import take
from llm_bridge.train import packing, rollout, schedule, train_state
from llm_bridge.train.arena import Arena, Samples, Source
from llm_bridge.train.engine import Engine, Turn
from llm_bridge.train.learning import Learner, adam
from llm_bridge.train.objective import Judged, Numbers, Objective, payoffs
from llm_bridge.train.packing import Packed, PackedLearner
from llm_bridge.train.result import SKIPS_IN_A_ROW, Metrics, Result, Status
from llm_bridge.train.rollout import Grouping, Rollout
from llm_bridge.train.train_state import TrainState
from llm_bridge.train.watch import Watch, WatchedArena

Schedule = Callable[[Int[Array, ""]], Any]
Callback = Callable[[TrainState, Metrics], bool | None]

FIRST_MOMENT = ("float32", "bfloat16")
SCHEDULED = ("eta", "alpha", "learning_rate")
AT_THE_START = 1e-6  # of the last iterate's distance from the start: a magnet that goes no further shows no training
MOST_LOST = 0.5  # of the distance from the start, by rounding, before it is told
FEW_DISTINCT, LITTLE_ENTROPY = 0.1, 0.1  # shares of a group, and of the entropy of the first round


class CollapseWarning(UserWarning):
    """A policy hardly varies its responses any more, so there is hardly anything left to compare."""


class JudgeWarning(UserWarning):
    """A judge has answered no comparison of a round, so nothing was learned in that round."""


class UntrainedWarning(UserWarning):
    """What is exported is not what was chosen, or shows nothing of the training."""


@dataclass(frozen=True)
class Method:
    """What all methods have; a method adds its own numbers and its objective.

    Attributes:
        judge: says which of two responses is preferred; see `llm_bridge.judges`.
        eta: step size; the pull to the policy of the round's beginning is 1 / eta, in win rate per nat of a response.
            A schedule, a function, is called with the number of rounds done.
        alpha: regularization towards the magnet, in the same unit; the "KL coefficient" of other libraries.
        group_size: G, responses to a prompt.
        prompts_per_round: N.
        opponents: how many others of its group a response is compared to, an even number; None for all.
        max_new_tokens: of a response.
        epochs: E, optimizer steps a round, each on all of its rows.
        learning_rate: of Adam.
        schedule: how the learning rate falls to 0, "linear" or "cosine", or "constant" where it does not; see
            `llm_bridge.train.schedule`.
        decay_rounds: rounds over which it falls; None for those of `fit`, and no decay where rounds are called one by
            one.
        warmup_rounds: rounds over which it rises first.
        weight_decay: of AdamW; norms and biases do not decay.
        b1, b2: decay of Adam's moments. 0.9 for E >= 4; with E = 1 take b1 = 0.
        eps: Adam's; None for 0.16 / sqrt(number of trained weights), the size of each entry of a gradient of norm 0.16
            that is spread evenly. Near an equilibrium gradients are mostly noise, and a smaller eps amplifies the
            noise. For the small policies on which the rule was measured it gives 1e-3.
        first_moment: precision in which Adam's first moment is kept, "float32" or "bfloat16". The latter saves an
            eighth of the memory of weights, magnet and moments together. The second moment always has float32.
        max_grad_norm: gradients are scaled down to it; None for never.
        prompts_at_a_time: groups whose gradient is computed at once; others are accumulated. None for all.
        watch_start: whether the divergence from the first policy is measured, which keeps a copy of it.
        engine: draws the responses in place of the sampler of this package; see `llm_bridge.train.engine`.
    """

    judge: Judge | None = None
    _: KW_ONLY
    eta: float | Schedule = 0.4
    alpha: float | Schedule = 0.1
    group_size: int = 16
    prompts_per_round: int = 16
    opponents: int | None = None
    max_new_tokens: int = 128
    epochs: int = 4
    learning_rate: float | Schedule = 1e-5
    schedule: str = "linear"
    decay_rounds: int | None = None
    warmup_rounds: int = 0
    weight_decay: float = 0.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float | None = None
    first_moment: str = "float32"
    max_grad_norm: float | None = None
    prompts_at_a_time: int | None = None
    watch_start: bool = True
    engine: Engine | None = None

    leaves: ClassVar[tuple[str, ...]] = ("eta", "alpha", "learning_rate", "decay_rounds")
    has_magnet: ClassVar[bool] = True
    smallest_group: ClassVar[int] = 2
    unused: ClassVar[tuple[str, ...]] = ()  # settings that change nothing
    ends_pure: ClassVar[bool] = False  # whether always giving one response is what it looks for, and no collapse

    def __init_subclass__(cls) -> None:
        jax.tree_util.register_pytree_node_class(cls)

    def tree_flatten(self) -> tuple[tuple, Any]:
        """Numbers are leaves; schedules and everything that shapes the program are static."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moving = [n for n in values if n in self.leaves and values[n] is not None and not callable(values[n])]
        static = tuple((name, value) for name, value in values.items() if name not in moving)
        return tuple(values[name] for name in moving), (tuple(moving), static)

    @classmethod
    def tree_unflatten(cls, structure: tuple, leaves: tuple) -> "Method":
        """Inverse of `tree_flatten`."""
        method = object.__new__(cls)
        for name, value in (*structure[1], *zip(structure[0], leaves, strict=True)):
            object.__setattr__(method, name, value)
        return method

    # --------------------------------------------------------------------------------- what a method may say otherwise

    def objective(self) -> Objective:
        """The loss that the optimizer steps of a round minimise.

        Raises:
            NotImplementedError: the class states none, as every method has to.
        """
        raise NotImplementedError

    def check_settings(self) -> None:
        """That the settings are in their ranges and fit each other.

        Raises:
            SettingError: they are not.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            scheduled = callable(value) and field.name in SCHEDULED
            if field.name in RANGES and not scheduled and not isinstance(value, Tracer):
                require(field.name, value, optional=field.default is None)
        if self.judge is not None and not callable(self.judge):
            hint = OF_TRL if hasattr(self.judge, "judge") else ""
            raise SettingError(f"expected {{judge}} to be callable, got {self.judge!r}; {WANTED}{hint}")
        if self.engine is not None:
            self._check_engine()
        if not isinstance(self.watch_start, bool):
            raise SettingError(f"expected {{watch_start}} to be True or False, got {self.watch_start!r}")
        for name, known in (("first_moment", FIRST_MOMENT), ("schedule", schedule.SHAPES)):
            if (word := getattr(self, name)) not in known:
                raise SettingError(f"expected {{{name}}} to be {' or '.join(map(repr, known))}, got {word!r}")
        if self.group_size < self.smallest_group:
            raise SettingError(f"expected {{group_size}} >= {self.smallest_group}, got {self.group_size}")
        if self.opponents is not None and self.opponents >= self.group_size:
            raise SettingError(f"expected {{opponents}} < {{group_size}} = {self.group_size}, got {self.opponents}")
        if self.opponents is not None and self.opponents % 2 and self.opponents < self.group_size - 1:
            raise SettingError(f"expected {{opponents}} to be even, half of them on each side, got {self.opponents}")
        if self.prompts_at_a_time is not None and self.prompts_per_round % self.prompts_at_a_time:
            wanted = f"a divisor of {{prompts_per_round}} = {self.prompts_per_round}"
            raise SettingError(f"expected {{prompts_at_a_time}} to be {wanted}, got {self.prompts_at_a_time}")

    def _check_engine(self) -> None:
        """That there is something for an engine to do: one draws from the policy alone."""
        if not callable(self.engine):
            raise SettingError(f"expected {{engine}} to be callable with an order, got {self.engine!r}")
        if any(getattr(type(self), name) is not getattr(Method, name) for name in ("play", "round", "source")):
            name = type(self).__name__
            raise SettingError(f"expected no {{engine}}, {name} does not learn from draws of the policy alone")

    def check(self, policy: Policy) -> None:
        """That the settings are in their ranges and fit the policy.

        Raises:
            BridgeError: they are not.
        """
        if not isinstance(policy, Policy):
            raise BridgeError(f"expected a policy, as bridge.load(folder) gives it, got {type(policy).__name__}")
        self.check_settings()

    def read(self, policy: Policy, prompts: Any) -> Sequence[Any]:
        """What `fit` is given, in the form of `round`.

        Raises:
            BridgeError: one cannot be read, or is too long.
        """
        questions = rollout.questions(policy.origin, prompts)
        policy.check_prompts([question.tokens for question in questions], self.max_new_tokens)
        return questions

    def columns(self, questions: Sequence[Any]) -> int:
        """How many columns the longest prompt of these needs; 0 where they are no `Question`."""
        return max((len(one.tokens) for one in questions if isinstance(one, rollout.Question)), default=0)

    def widths(self, state: TrainState, questions: Sequence[Any], rounds: Iterable[Sequence[Any]]) -> tuple[int, ...]:
        """The few lengths that the prompts of a run's rounds are padded to, so that few programs are compiled.

        Args:
            state: of the run.
            questions: all of them.
            rounds: those of some rounds.
        """
        groups = (self.prompts_per_round, self.group_size)
        several = self.rounds_at_once == 1 and self.shapes(self.learner(state), groups)  # several rounds have one
        return rollout.widths(self.columns(questions), map(self.columns, rounds), rollout.PROGRAMS if several else 1)

    def prepare(self, state: TrainState, widths: Sequence[int]) -> None:
        """Compile what rounds of several widths will run, so that none of them waits for it in the midst of a run.

        With one width that is what the first round does. Methods that play otherwise say what they run when they do.
        """
        if len(widths) < 2 or type(self).play is not Method.play:
            return
        groups = (self.prompts_per_round, self.group_size)
        trained, others = (
            (state.weights, state.optimizer, state.counters),
            (state.base, state.magnet, state.initial),
        )
        preference = jnp.asarray(np.full((*groups, groups[1]), 0.5, np.float32))
        judged = Judged(payoffs(preference, None), preference)
        for width in widths:
            batch = rollout.RoundPrompts(rollout.stand_ins(groups[0], width), [width], self.columns)
            turn = self._turn(state)
            arena = Rollout(batch, self._nobody, state.frame.origin, self.max_new_tokens, self._grouping, turn)
            samples = arena.compiled(self.source(state), groups[1], state.round_key())
            learner, rows = self._rows(state, samples, groups)
            steps: Any = sharding.program(type(learner).steps, learner, trained)
            steps.lower(trained, rows, judged, self.numbers(state), self._rate(state), others).compile()

    @staticmethod
    def _nobody(prompts: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> np.ndarray:
        """A judge where nobody is asked."""
        return np.full(len(prompts), 0.5)

    def numbers(self, state: TrainState) -> Numbers:
        """Eta and alpha of this round, scalars; alpha and 1 / eta are in win rate per nat."""
        return Numbers(_at(self.eta, state.round), _at(self.alpha, state.round))

    def exported(self, state: TrainState) -> dict[str, Array]:
        """The trained weights that are the run's result: the last iterate."""
        return state.weights

    def has_result(self, rounds: int) -> bool:
        """Whether what is exported after so many rounds was trained in them."""
        return True

    @property
    def magnet_is_chosen(self) -> bool:
        """Whether the magnet, and nothing else, was asked for as the result."""
        return False

    @property
    def rounds_at_once(self) -> int:
        """How many rounds' responses a round learns from, its own among them."""
        return 1

    @property
    def spreads(self) -> bool:
        """Whether the draws of a group are spread evenly, and its halves compared (`llm_bridge.policy.spread`)."""
        return False

    # -------------------------------------------------------------------------------------------------- the loop itself

    def init(self, policy: Policy, key: Key[Array, ""]) -> TrainState:
        """The state before the first round; the policy's buffers are not touched later, a base is shared.

        Raises:
            BridgeError: a setting is out of its range, or does not fit the policy.
        """
        self.check(policy)
        check_key(key)
        state = train_state.begin(policy, key, magnet=self.has_magnet, initial=self.watch_start)
        place = sharding.whole(policy.mesh)
        moments = self.learner(state).optimizer.init(state.weights)
        return replace(state, optimizer=jax.tree.map(lambda m: m if m.ndim else sharding.put(m, place), moments))

    def fit(
        self,
        policy: Policy,
        prompts: Iterable[Any],
        *,
        steps: int,
        key: Key[Array, ""],
        state: TrainState | None = None,
        callback: Callback | None = None,
    ) -> Result:
        """Train until `steps` rounds are done; the prompts come in a new random order each time all have been used.

        Args:
            policy: where the run begins; its adapters are trained if it has any.
            prompts: text, token ids or `Question`; what `read` takes. A judge is shown what was given: ids stay ids.
            steps: rounds in all, those that a given state has done included.
            key: of all draws and of the order of prompts.
            state: where to go on; it is used up.
            callback: is told state and metrics after each round; the run ends when it returns True. Its attribute
                `watch`, if it has one, is told what each round is doing (`llm_bridge.train.watch.Watch`).

        Returns:
            The result, whose `status` says how the run ended. A run may stop early: the callback returned True, or
            the judge answered none of 20 or more pairs of a round. Or five updates in a row were not finite, or the
            policy's log-probabilities are no numbers any more. The state is then that of the round before. Where
            the magnet was chosen as the result and is still the start after the last round, the policy is the last
            iterate.

        Raises:
            BridgeError: a setting does not fit, or a prompt cannot be read. The judge fails when it is tried on three
                pairs of short answers (`llm_bridge.judges.dry_run`), before anything is generated. The engine fails.
            JudgeError: the judge raises an error in a round, which the message names; the error is its cause.
        """
        require("steps", steps)
        check_key(key)
        method = replace(self, decay_rounds=max(steps, 1)) if self.decay_rounds is None else self
        method.check(policy)
        method.check_result(steps)
        if state is not None:
            _check_state(state, policy)
        questions = self.read(policy, prompts)
        _try_judge(self.judge, questions)
        if (try_out := getattr(self.engine, "dry_run", None)) is not None:
            try_out(policy)
        state = method.init(policy, key) if state is None else state
        seed, size = np.asarray(jax.random.key_data(key)).tolist(), self.prompts_per_round
        watched = [watch] if (watch := getattr(callback, "watch", None)) is not None else []
        history, status, reason = [], Status.FINISHED, None

        def batch_of(number: int) -> list[Any]:
            return [questions[i] for i in take(len(questions), seed, number * size, size)]

        widths = method.widths(state, questions, map(batch_of, range(rollout.LOOKED_AT)))
        method.prepare(state, widths)
        for number in range(int(state.round), steps):
            batch = rollout.RoundPrompts(batch_of(number), widths, method.columns)
            try:
                state, metrics = method.round(state, batch, *watched)  # draw, judge, learn, move the magnet
            except NoAnswers as silence:  # before anything was learned: the state is still that of the round before
                status, reason = Status.SILENT, f"stopped: {silence}"
            except NotNumbersError:
                if number == 0:
                    raise  # the given policy's own
                status = Status.DIVERGED
            except JudgeError as error:
                raise error.at(f"in round {number + 1}") from error.error
            else:
                history.append(metrics)
                status = method._reported(state, metrics, callback)
            if status is not Status.FINISHED:
                break
        status = method._success(state, history, policy) if status is Status.FINISHED else status
        return Result(method._exported(state, policy), state, history, status, reason or status.value)

    def round(
        self, state: TrainState, questions: Sequence[Any], watch: Watch | None = None
    ) -> tuple[TrainState, Metrics]:
        """One round on these prompts: `play`, in an arena made of them.

        Args:
            state: of the round before; it is used up, its buffers are overwritten.
            questions: the N prompts, as `read` gives them.
            watch: is told what the round is doing.

        Returns:
            The state after the round, and its metrics: those of `play` and those of `Rollout.metrics`.

        Raises:
            BridgeError: the method has no judge.
            NoAnswers: the judge answers none of many pairs; then nothing was learned.
            NotNumbersError: the policy's log-probabilities are NaN.
        """
        if self.judge is None:
            raise BridgeError(f"{type(self).__name__} needs a judge, such as judges.callable.PairFunction(...)")
        judge = keyed(self.judge, np.asarray(jax.random.key_data(state.round_key())).ravel().tolist())
        turn, n_passes = self._turn(state), self.epochs * self.rounds_at_once
        arena = Rollout(questions, judge, state.frame.origin, self.max_new_tokens, self._grouping, turn)
        state, metrics = self.play(state, arena if watch is None else WatchedArena(arena, watch, n_passes))
        return state, {name: float(value) for name, value in metrics.items()} | arena.metrics()

    @property
    def _grouping(self) -> Grouping:
        return Grouping(self.opponents, self.spreads)

    def _turn(self, state: TrainState) -> Turn | None:
        """The engine in this round, if there is one."""
        if self.engine is None:
            return None
        like = (state.frame.given, state.frame.origin)
        return Turn(self.engine, lambda: state.policy(state.weights), int(state.round), like)

    def play(self, state: TrainState, arena: Arena) -> tuple[TrainState, dict[str, Array]]:
        """A round: draw groups, compare each within itself, learn, move the magnet.

        Traceable where the arena is. The given state is used up.

        Returns:
            The state after the round, and the metrics of `Learner.steps`.
        """
        samples = arena.draw(self.source(state), self.group_size, state.round_key())
        preference = arena.compare(samples)
        state, samples, judged, further = self.with_earlier(state, samples, preference)
        state, metrics = self.learn(state, samples, judged)
        return self.settle(state), metrics | further

    def with_earlier(
        self, state: TrainState, samples: Samples, preference: Array
    ) -> tuple[TrainState, Samples, Judged, dict[str, Array]]:
        """What a round learns from: its own responses, and those of earlier rounds where a method keeps them.

        Returns:
            The state with what is kept of this round, the rows, what the judge says of them, and metrics.
        """
        return state, samples, Judged(payoffs(preference, samples.share), preference), {}

    def learn(self, state: TrainState, samples: Samples, judged: Judged) -> tuple[TrainState, dict[str, Array]]:
        """E optimizer steps on a round's rows; the given state is used up.

        Returns:
            The state with what was trained, and the metrics of `Learner.steps`.
        """
        rate, trained = self._rate(state), (state.weights, state.optimizer, state.counters)
        learner, rows = self._rows(state, samples, judged.payoff.shape)
        steps = sharding.program(type(learner).steps, learner, trained)
        others = (state.base, state.magnet, state.initial)
        trained, metrics = steps(trained, rows, judged, self.numbers(state), rate, others)
        new = dict(zip(("weights", "optimizer", "counters"), trained, strict=True))
        return replace(state, **new), metrics | {"learning_rate": rate}

    def _rows(self, state: TrainState, samples: Samples, groups: tuple[int, ...]) -> tuple[Learner, Samples | Packed]:
        """How a round's rows are learned from, and the rows: sorted by length where they are draws and it pays."""
        learner, n_parts = self.learner(state), self.n_parts(groups[0])
        learner = replace(learner, prompts_at_a_time=groups[0] // n_parts if n_parts > 1 else None)
        are_draws = samples.share is None or learner.replays
        known = samples.answers is not None and are_draws and not isinstance(samples.tokens, Tracer)
        if known and (shapes := self.shapes(learner, groups)):
            given = {field.name: getattr(learner, field.name) for field in fields(learner)}
            rows = packing.packed(samples, groups[1], n_parts, learner.decoder.mesh, shapes)
            return PackedLearner(**given | {"answers": shapes[0][1], "shapes": shapes}), rows
        return replace(learner, answers=samples.answers), samples._replace(answers=None)

    def n_parts(self, n_prompts: int) -> int:
        """In how many parts so many prompts go through the model."""
        return n_prompts // (self.prompts_at_a_time or n_prompts // self.rounds_at_once)

    def shapes(self, learner: Learner, groups: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """Rows and columns of the tiles that N groups of G responses are learned in; none where they are not sorted."""
        if not (learner.objective.by_row and learner.decoder.shares_prompts):
            return ()
        of_part = groups[0] * groups[1] // self.n_parts(groups[0])
        mesh = learner.decoder.mesh
        of_share = -(-of_part // sharding.n_row_shares(mesh))
        return packing.shapes_of(of_share, bucket(self.max_new_tokens, 1), dict(mesh.shape).get("fsdp", 1) > 1)

    def settle(self, state: TrainState) -> TrainState:
        """After a round's updates: the magnet moves, the round is counted."""
        return replace(state, round=state.round + 1, age=state.age + 1)

    def source(self, state: TrainState) -> Source:
        """The current policy, to draw responses from."""
        return Source(state.frame.decoder, state.whole(state.weights))

    def learner(self, state: TrainState) -> Learner:
        """What `learn` compiles: decoder, objective, optimizer and number of steps."""
        n_weights = sum(array.size for array in state.weights.values())
        eps = 0.16 / n_weights**0.5 if self.eps is None else self.eps
        optimizer = adam(self.b1, self.b2, eps, self.max_grad_norm, self.first_moment)
        optimizer = schedule.with_decay(optimizer, self.weight_decay)
        return Learner(state.frame.decoder, self.objective(), optimizer, self.epochs, self.prompts_at_a_time)

    def _rate(self, state: TrainState) -> Array:
        by_round = schedule.factor(self.schedule, state.round, self.warmup_rounds, self.decay_rounds)
        return _at(self.learning_rate, state.round) * by_round

    def _reported(self, state: TrainState, metrics: Metrics, callback: Callback | None) -> Status:
        """After a round: warnings, the callback, and whether the run goes on."""
        if self.group_size > 1 and not self.ends_pure:  # answers that are given may well be learned by heart
            _name_collapse(state, metrics, self.group_size)
        if _unanswered(metrics):
            text = f"round {int(state.round)}: the judge {name_of(self.judge)} answered no comparison"
            warnings.warn(text, JudgeWarning, stacklevel=3)
        if int(state.counters.skipped_in_a_row) >= SKIPS_IN_A_ROW:
            return Status.NOT_FINITE
        return Status.STOPPED if callback is not None and callback(state, metrics) else Status.FINISHED

    def _success(self, state: TrainState, history: Sequence[Metrics], given: Policy) -> Status:
        """What becomes of a run whose rounds are all behind: finished, or why that is no success."""
        if history and all(map(_unanswered, history)):
            return Status.NO_ANSWERS
        return Status.MAGNET_STAYED if self.magnet_is_chosen and self.stays(state, given) else Status.FINISHED

    # ------------------------------------------------------------------------------------------------------ the result

    def export(self, state: TrainState, given: Policy | None = None) -> Policy:
        """The run's result as a policy in the precision of the given one, in buffers of its own.

        Args:
            state: of a run.
            given: the policy it began with, by which a result that equals it is found where `watch_start` is off.

        Raises:
            SettingError: the magnet is chosen, and nothing that was trained is in it yet.
        """
        rounds = int(state.round)
        self.check_result(rounds)
        if self.magnet_is_chosen and self.stays(state, given):
            text = f"after {rounds} rounds the magnet is still the start"
            raise SettingError(f"expected {{exports}} to be 'last', {text}")
        return self._exported(state, given)

    def result(self, state: TrainState, given: Policy | None = None) -> dict[str, Array]:
        """The trained weights that `fit` exports: `exported`, or the last iterate where that would be the start."""
        untrained = not self.has_result(int(state.round)) or self.stays(state, given)
        return state.weights if untrained else self.exported(state)

    def stays(self, state: TrainState, given: Policy | None = None) -> bool:
        """Whether the magnet would be exported, and has not gone a millionth as far as the last iterate has."""
        magnet, start = self.exported(state), state.start(given)
        if magnet is state.weights or not int(state.round) or not start:
            return False
        return train_state.distance(magnet, start) <= AT_THE_START * train_state.distance(state.weights, start)

    def check_result(self, rounds: int) -> None:
        """That what is exported after so many rounds was trained in them.

        Raises:
            SettingError: the magnet is chosen as the result, and stays at the start that long.
        """
        if not self.has_result(rounds):
            raise SettingError(f"expected {{exports}} to be 'last', in {rounds} rounds the magnet stays at the start")

    def _exported(self, state: TrainState, given: Policy | None = None) -> Policy:
        """The policy that is the run's result; the last iterate where that would be the start, with a warning."""
        weights, rounds = self.result(state, given), int(state.round)
        policy = state.policy(weights)
        if weights is not self.exported(state):
            text = f"after {rounds} rounds the magnet is still the start, so the last iterate is exported"
            warnings.warn(text, UntrainedWarning, stacklevel=3)
        kinds = " and ".join(sorted({dtype for _, dtype in state.frame.dtypes}))
        if rounds and state.is_start(policy, given):
            text = f"what is exported equals the start to the last bit of {kinds}"
            warnings.warn(f"{text}: it moves less than that precision holds", UntrainedWarning, stacklevel=3)
        elif rounds and (norms := state.rounded(weights, given)) and norms[0] > MOST_LOST * norms[1]:
            text = f"rounding to {kinds} moves what is exported by {norms[0]:.2g}, training moved it by {norms[1]:.2g}"
            warnings.warn(f"{text}: give the policy in float32 to keep it", UntrainedWarning, stacklevel=3)
        return policy


def _try_judge(judge: Judge | None, questions: Sequence[Any]) -> None:
    """Let a judge that will be asked about questions show that it can."""
    shown = [question.shown for question in questions if isinstance(question, rollout.Question)]
    if judge is not None and shown:
        dry_run(judge, shown)


def _check_state(state: Any, policy: Policy) -> None:
    if not isinstance(state, TrainState):
        raise BridgeError(f"expected a state as init or fit returns it, got {type(state).__name__}")
    if state.frame.decoder.architecture != policy.architecture:
        raise BridgeError("expected a state of the policy's architecture, got one of another")


def _at(number: Any, round: Int[Array, ""]) -> Array:
    return jnp.asarray(number(round) if callable(number) else number, jnp.float32)


def _unanswered(metrics: Metrics) -> bool:
    return metrics.get("judge/failed_frac", 0.0) == 1


def _name_collapse(state: TrainState, metrics: Metrics, group_size: int) -> None:
    """Warn of a policy that hardly varies its responses any more.

    A moving magnet remembers no policy with full support: a response whose probability is about 0 never comes back.
    """
    before, entropy = float(state.counters.first_entropy), metrics.get("entropy", np.inf)
    remedy = "take larger groups or a smaller learning rate"
    if entropy < LITTLE_ENTROPY * before:
        text = f"entropy {entropy:.3g} nats a token, {before:.3g} at the start"
        warnings.warn(
            f"round {int(state.round)}: the policy collapses ({text}); {remedy}", CollapseWarning, stacklevel=4
        )
    elif "distinct" in metrics and metrics["distinct"] < max(FEW_DISTINCT, 1.5 / group_size):
        text = f"{metrics['distinct']:.0%} of a group's responses are distinct"
        warnings.warn(
            f"round {int(state.round)}: the policy collapses ({text}); {remedy}", CollapseWarning, stacklevel=4
        )
