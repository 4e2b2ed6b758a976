"""A judge that is trained: a policy that reads a prompt with two answers, and a linear head on its last token.

    P(a preferred | x) = sigmoid( f(x, a, b) - f(x, b, a) )

It reads both answers at once (a cross-encoder; Jiang, Ren and Lin 2023 for pairs of answers), so it is no difference of
two rewards and can express cycles; and it reads them in both orders, so P(a preferred) + P(b preferred) = 1 to the last
bit and no order is favoured, whatever was learned.

Training (`PreferenceTraining`) has the contract of the other methods: `init`, `round`, `export`. It maximises the
likelihood of the preferences, mean of -p log P(chosen) - (1 - p) log P(rejected), over all weights of the policy, or
over its adapter alone if it has one.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from llm_bridge.checkpoint import adapters, export, loading
from llm_bridge.judges._reading import batches, last_activations, padded
from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.network import Network, Weights
from llm_bridge.model.ranges import SettingError, require
from llm_bridge.model.sharding import whole
from llm_bridge.model.tensor_files import read_json
from llm_bridge.policy.policy import Policy, own_decoder
from llm_bridge.text.data import ComparedPair, take
from llm_bridge.text.tokenizer import Tokenizer

CONFIG, HEAD = "judge.json", "judge_head.safetensors"
VERSION = 1
SEPARATORS = ("\n\n### Answer A\n", "\n\n### Answer B\n", "\n\n### Better:")
Ids = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """How a comparison is written as one row.

    Attributes:
        separators: ids before the first answer, before the second one, and at the end.
        longest: most tokens of a row. What exceeds it is cut off: answers lose their ends, the prompt its beginning.
        begin: ids before the prompt, such as BOS.
    """

    separators: tuple[Ids, Ids, Ids]
    longest: int
    begin: Ids = ()

    def __post_init__(self) -> None:
        if not self.separators[2] or self.room < 3:
            raise BridgeError("expected separators that end in a token, and room for three more tokens between them")

    @property
    def room(self) -> int:
        """Tokens that a row has for the prompt and both answers."""
        return self.longest - sum(map(len, (self.begin, *self.separators)))

    def row(self, prompt: Sequence[int], a: Sequence[int], b: Sequence[int]) -> list[int]:
        """Token ids of a comparison."""
        each = max(self.room * 3 // 8, (self.room - len(prompt)) // 2)
        if len(prompt) + len(a) + len(b) > self.room:
            a, b = a[: max(each, self.room - len(prompt) - len(b))], b[: max(each, self.room - len(prompt) - len(a))]
            prompt = prompt[len(prompt) - max(0, self.room - len(a) - len(b)) :]
        one, two, three = self.separators
        return [*self.begin, *prompt, *one, *a, *two, *b, *three]


@dataclass(frozen=True, eq=False)
class PreferenceModel:
    """A judge of pairs; called with `(prompts, a, b)` it returns P(a preferred).

    Attributes:
        policy: which reads.
        head: of its last activations, [D].
        layout: of a row.
        tokenizer: the policy's; None where prompts and responses are tuples of token ids.
        rows: how many rows are read at a time, for each share of the mesh's rows.
    """

    symmetric: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    policy: Policy
    head: Array
    layout: Layout
    tokenizer: Tokenizer | None = None
    rows: int = 16

    def __call__(self, prompts: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> Float[np.ndarray, " n"]:
        """P(a preferred)."""
        texts = [[self.ids(text) for text in part] for part in (prompts, a, b)]
        both = [*zip(*texts, strict=True), *zip(texts[0], texts[2], texts[1], strict=True)]
        asked, scores = [self.layout.row(*comparison) for comparison in both], np.zeros(len(both))
        for index, tokens, mask in batches(asked, self.rows, self.policy.mesh):
            batch = self.policy.batch(tokens, mask)
            found = rated(self.policy.decoder, self.policy.arrays(), self.head, *batch)
            scores[index] = np.asarray(found, np.float64)[: len(index)]
        forth, back = np.split(scores, 2)
        return 0.5 + 0.5 * np.tanh((forth - back) / 2)

    def ids(self, text: Any) -> Ids:
        """Of a prompt or a response; special tokens that a text spells are just its letters."""
        return tuple(self.tokenizer.encode(text, special=False) if self.tokenizer else map(int, text))

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the policy (an adapter merged), the head and the layout; the folder appears when it is complete.

        Raises:
            BridgeError: the folder is not empty or cannot be written.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise BridgeError(f"{folder}: exists and is not empty; choose another folder")
        part = folder.with_name(f".{folder.name}.{os.getpid()}.judge")
        merged = self.policy.is_adapted
        content = {
            "version": VERSION,
            "separators": self.layout.separators,
            "begin": self.layout.begin,
            "longest": self.layout.longest,
            "reads_text": self.tokenizer is not None,
        }
        try:
            export.save(adapters.merge(self.policy) if merged else self.policy, part)
            if jax.process_index() == 0:
                save_file({"head": np.asarray(self.head, np.float32)}, part / HEAD)
                (part / CONFIG).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
                part.replace(folder)
        except OSError as error:
            raise BridgeError(f"{folder}: cannot be written ({error.strerror})") from error
        finally:
            if jax.process_index() == 0:
                shutil.rmtree(part, ignore_errors=True)
        return folder


def load(folder: str | os.PathLike[str], **arguments: Any) -> PreferenceModel:
    """A judge that `PreferenceModel.save` has written.

    Args:
        folder: of it.
        arguments: those of `llm_bridge.load`, such as mesh and dtype.

    Raises:
        BridgeError: the folder holds no such judge, or it is damaged.
    """
    folder = Path(folder)
    content = read_json(folder / CONFIG)
    _, architecture = loading.look(folder, dtype=arguments.get("dtype"))
    try:
        if content["version"] != VERSION:
            raise BridgeError(f"{folder / CONFIG}: expected version {VERSION}, got {content['version']!r}")
        one, two, three = (tuple(map(int, ids)) for ids in content["separators"])
        layout = Layout((one, two, three), int(content["longest"]), tuple(map(int, content["begin"])))
        head = load_file(folder / HEAD)["head"]
    except (KeyError, TypeError, ValueError, SafetensorError, OSError) as error:
        if isinstance(error, BridgeError):
            raise
        raise BridgeError(f"{folder}: expected a judge as `mpo train-judge` writes it ({error})") from None
    if head.shape != (architecture.width,):
        raise BridgeError(f"{folder / HEAD}: has the shape {head.shape}, expected ({architecture.width},)")
    tokenizer = Tokenizer(folder) if content.get("reads_text") else None
    policy = loading.load(folder, **arguments)
    return PreferenceModel(policy, jax.device_put(head, whole(policy.mesh)), layout, tokenizer)


def text_layout(tokenizer: Tokenizer, longest: int) -> Layout:
    """The layout for texts: headings between the parts.

    Raises:
        SettingError: it has no room for a prompt and answers.
    """
    one, two, three = (tuple(tokenizer.encode(text)) for text in SEPARATORS)
    begin = tuple(tokenizer.prompt(""))
    if longest < (least := sum(map(len, (one, two, three, begin))) + 3):
        reason = f"of which headings take {least - 3} tokens"
        raise SettingError(f"expected {{max_length}}, and the judge's context, >= {least}, {reason}, got {longest}")
    return Layout((one, two, three), longest, begin)


# ------------------------------------------------------------------------------------------------ training


class JudgeState(NamedTuple):
    """What training a judge carries from step to step.

    Attributes:
        weights: those that are trained, by name; "head" among them.
        optimizer: optax's.
        round: steps done.
        skipped: steps in a row whose gradient was not finite.
    """

    weights: dict[str, Array]
    optimizer: Any
    round: Array
    skipped: Array


@dataclass(frozen=True, eq=False)
class PreferenceTraining:
    """How a preference model is trained from a policy.

    Attributes:
        policy: where it starts; with an adapter, the adapter and the head are trained and nothing else.
        layout: of a row.
        tokenizer: the policy's; None where prompts and answers are tuples of token ids.
        steps: how many there will be; the learning rate rises for a twentieth of them and then falls to 0.
        learning_rate, weight_decay: of AdamW.
        clip: of the gradient's norm.
    """

    policy: Policy
    layout: Layout
    tokenizer: Tokenizer | None
    steps: int
    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    clip: float = 1.0

    def init(self, key: Key[Array, ""]) -> JudgeState:
        """Before the first step; the head is drawn at random.

        Raises:
            SettingError: a number is out of its range.
        """
        for name in ("steps", "learning_rate", "weight_decay", "clip"):
            require(name, getattr(self, name))
        arrays = self.policy.arrays()
        adapter = {name: array for name, array in arrays.items() if ".lora_" in name}
        width = own_decoder(self.policy, "cannot be trained as a judge").architecture.width
        drawn = np.asarray(jax.random.normal(key, (width,), jnp.float32)) * width**-0.5
        weights = jax.tree.map(jnp.copy, adapter or arrays) | {"head": jax.device_put(drawn, whole(self.policy.mesh))}
        zeros = (jax.device_put(np.int32(0), whole(self.policy.mesh)) for _ in range(2))  # donated, so not one buffer
        everywhere = whole(self.policy.mesh)  # where single numbers are after a step, or it would be compiled twice
        begun = jax.jit(self._optimizer().init)(weights)
        begun = jax.tree.map(lambda m: m if m.ndim else jax.device_put(m, everywhere), begun)
        return JudgeState(weights, begun, *zeros)

    def round(self, state: JudgeState, rows: Sequence[ComparedPair]) -> tuple[JudgeState, dict[str, float]]:
        """One step on preferences; `state` is used up.

        Args:
            state: before it.
            rows: prompt, two answers, and the probability that the first is preferred (`Row.comparison`).

        Returns:
            The state after it, and loss, accuracy and grad_norm of these rows.
        """
        judge = self.export(state)
        chosen, rejected = [], []
        for row in rows:
            prompt, a, b = map(judge.ids, row[:3])
            chosen.append(self.layout.row(prompt, a, b))
            rejected.append(self.layout.row(prompt, b, a))
        target = jax.device_put(np.array([row[3] for row in rows], np.float32), whole(self.policy.mesh))
        frozen = {name: array for name, array in self.policy.arrays().items() if name not in state.weights}
        batch = (*self.policy.batch(*padded([*chosen, *rejected])), target)
        state, metrics = _step(self.policy.decoder, self._optimizer(), state, frozen, batch)
        return state, {name: float(value) for name, value in metrics.items()}

    def export(self, state: JudgeState) -> PreferenceModel:
        """The judge as it is now."""
        weights = {name: array for name, array in state.weights.items() if name != "head"}
        policy = Policy(self.policy.decoder, self.policy.arrays() | weights, self.policy.origin)
        return PreferenceModel(policy, state.weights["head"], self.layout, self.tokenizer)

    def _optimizer(self) -> optax.GradientTransformation:
        return _optimizer(self.steps, self.learning_rate, self.weight_decay, self.clip)


def train_judge(
    training: PreferenceTraining,
    rows: Sequence[ComparedPair],
    *,
    seed: int = 0,
    rows_per_step: int = 16,
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
) -> PreferenceModel:
    """Train a judge from its beginning to its end.

    Args:
        training: how, and from what.
        rows: prompt, two answers, and the probability that the first is preferred.
        seed: of the head and of the order of the rows.
        rows_per_step: how many each step sees.
        on_step: called with the number of steps done and the metrics of the last one.
    """
    state = training.init(jax.random.key(seed))
    for step in range(training.steps):
        index = take(len(rows), [seed], step * rows_per_step, rows_per_step)
        state, metrics = training.round(state, [rows[i] for i in index])
        if on_step is not None:
            on_step(step + 1, metrics)
    return training.export(state)


@cache
def _optimizer(steps: int, learning_rate: float, weight_decay: float, clip: float) -> optax.GradientTransformation:
    warmup = max(1, steps // 20)
    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, max(steps, warmup + 1))
    return optax.chain(optax.clip_by_global_norm(clip), optax.adamw(schedule, weight_decay=weight_decay))


@partial(jax.jit, static_argnames="decoder")
def rated(
    decoder: Network, weights: Weights, head: Float[Array, " D"], tokens: Int[Array, "B T"], mask: Bool[Array, "B T"]
) -> Float[Array, " B"]:
    """F of each row, float32."""
    last = last_activations(decoder, weights, tokens, mask).astype(jnp.float32)
    return jnp.matmul(last, head.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)


@partial(jax.jit, static_argnames=("decoder", "optimizer"), donate_argnames="state")
def _step(
    decoder: Network,
    optimizer: optax.GradientTransformation,
    state: JudgeState,
    frozen: Weights,
    batch: tuple[Int[Array, "B2 T"], Bool[Array, "B2 T"], Float[Array, " B"]],
) -> tuple[JudgeState, dict[str, Array]]:
    """A step of the likelihood; a gradient that is not finite changes nothing and is counted."""
    tokens, mask, target = batch

    def loss(weights: dict[str, Array]) -> tuple[Array, Array]:
        head = weights["head"]
        scores = rated(decoder, frozen | {n: w for n, w in weights.items() if n != "head"}, head, tokens, mask)
        forth, back = jnp.split(scores, 2)
        return jnp.mean(optax.sigmoid_binary_cross_entropy(forth - back, target)), forth - back

    (value, margin), gradient = jax.value_and_grad(loss, has_aux=True)(state.weights)
    norm = optax.tree.norm(gradient)
    updates, moments = optimizer.update(gradient, state.optimizer, state.weights)
    new = (optax.apply_updates(state.weights, updates), moments)
    finite = jnp.isfinite(norm) & jnp.isfinite(value)
    weights, moments = jax.tree.map(lambda n, old: jnp.where(finite, n, old), new, (state.weights, state.optimizer))
    skipped = jnp.where(finite, jnp.zeros_like(state.skipped), state.skipped + jnp.ones_like(state.skipped))
    right = jnp.mean(jnp.where(margin == 0, 0.5, ((margin > 0) == (target > 0.5)).astype(jnp.float32)))
    metrics = {"loss": value, "accuracy": right, "grad_norm": norm, "skipped": skipped}
    return JudgeState(weights, moments, state.round + jnp.ones_like(state.round), skipped), metrics
