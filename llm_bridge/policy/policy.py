"""A language model as a policy: tokens are actions, prefixes are information sets, `log_probs` is what training needs.

A `Policy` is a Flax NNX module whose parameters lie on a mesh; `nnx.Optimizer`, `nnx.grad` and `nnx.jit` work on it.
Its methods compile themselves, once for each shape. The magnet or the reference of a training run is another `Policy`,
a `copy`, because donated buffers of one must not be buffers of the other.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from inspect import signature
from types import MethodType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from llm_bridge.model import sharding
from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.decoder import Decoder
from llm_bridge.model.network import ADAPTER, BUFFER, Network, is_trained
from llm_bridge.model.ranges import POSITIVE, SettingError, require
from llm_bridge.model.sharding import whole
from llm_bridge.policy import layout, scoring
from llm_bridge.policy.generate import Generation, Shape, bucket, copies_of, padded_left, run, stop_table
from llm_bridge.policy.sampling import Settings
from llm_bridge.policy.scoring import Comparison
from llm_bridge.text.tokenizer import Tokenizer, tokenizer_of


@dataclass(frozen=True)
class Origin:
    """Where a policy comes from: what `save` writes besides weights.

    Attributes:
        model_type: its family.
        config: the text of its `config.json`.
        folder: the checkpoint's, for its tokenizer files; None if it has none.
        stop_tokens: what ends a generated row unless something else is asked for: every token that configuration,
            generation settings, tokenizer and chat template name (see `Tokenizer.ends`).
        pad_token: what fills the rest of it.
        family: the family from outside this package that was named for it; None where `model_type` finds it.
    """

    model_type: str
    config: str
    folder: str | None = None
    stop_tokens: tuple[int, ...] = ()
    pad_token: int = 0
    family: str | None = None


class NotNumbersError(BridgeError):
    """A policy's log-probabilities are NaN."""


def broken(origin: Origin) -> NotNumbersError:
    """What is said of a policy whose log-probabilities are NaN."""
    name = origin.folder or f"the {origin.model_type} policy"
    return NotNumbersError(
        f"{name}: gives log-probabilities that are not numbers (NaN), so its weights are broken or overflow; "
        "load it again, or compute in another precision"
    )


class Policy(nnx.Module):
    """A decoder with weights.

    Attributes:
        decoder: the function that the weights are put into, a `Decoder` or, of `bridge.wrap`, another `Network`.
        origin: where the policy comes from.
        weights: parameters by name (see `llm_bridge.model.weights`); those of all layers are one array, layers first.
    """

    def __init__(self, decoder: Network, weights: Mapping[str, Any], origin: Origin):
        self.decoder: Any = decoder
        self.origin = origin
        self.weights = nnx.Dict({name: _variable(name)(value) for name, value in weights.items()})

    __signature__ = signature(MethodType(__init__, object()))  # for `help` and the reference: nnx hides it

    def __repr__(self) -> str:
        """On one line: the family, how large it is, where it lies and comes from."""
        sizes = {n: math.prod(w.shape) for n, w in self.weights.items() if BUFFER not in n}
        adapter = sum(size for name, size in sizes.items() if ADAPTER in name)
        trained = f", {adapter:,} of an adapter" if adapter else ""
        where = f"{self.mesh.size} x {self.mesh.devices.flat[0].platform}"
        where += f", from {self.origin.folder}" if self.origin.folder else ""
        return (
            f"Policy({self.origin.model_type}, {sum(sizes.values()):,} weights in {self.decoder.dtype(self.weights)}"
            f"{trained}, {self.decoder.described()}, on {where})"
        )

    __str__ = __repr__

    def __reduce__(self) -> tuple[Any, ...]:
        """For `pickle`: weights come to the host, whole, and are read back onto the first device.

        Devices are no part of a pickle. On a mesh of several processes all of them have to pickle, for each has some of
        the weights. See `on` for the way back to a mesh.
        """
        d = self.decoder
        settings = {field.name: getattr(d, field.name) for field in fields(d) if field.name != "mesh"}
        return _unpickled, (type(d), settings, sharding.gathered(self.arrays()), self.origin)

    def __copy__(self) -> "Policy":
        """Another object with the same weights, which are not copied; `copy` copies them."""
        return Policy(self.decoder, self.arrays(), self.origin)

    @property
    def architecture(self) -> Any:
        """The `Architecture`: sizes, and which operations the decoder has; of a wrapped module an `Outline`."""
        return self.decoder.architecture

    @property
    def mesh(self) -> Mesh:
        """The mesh of devices that the weights lie on."""
        return self.decoder.mesh

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer of the folder that it comes from; None if it comes from none, or there is none in it."""
        return tokenizer_of(self.origin.folder)

    @property
    def is_adapted(self) -> bool:
        """Whether it has an adapter, which then is what is trained."""
        return any(ADAPTER in name for name in self.weights)

    @property
    def n_trained(self) -> int:
        """How many weights are trained: those of the adapter if there is one."""
        sizes = {name: array.size for name, array in self.arrays().items()}
        return sum(size for name, size in sizes.items() if is_trained(name, adapted=self.is_adapted))

    def arrays(self) -> dict[str, Array]:
        """The weights as plain arrays, by name, in the precision that they have; not copied."""
        return {name: parameter[...] for name, parameter in self.weights.items()}

    def copy(self) -> "Policy":
        """The same policy in buffers of its own, which may be a magnet or a reference while this one is trained."""
        return Policy(self.decoder, jax.tree.map(jnp.copy, self.arrays()), self.origin)

    def on(self, mesh: Mesh | None) -> "Policy":
        """A copy of this policy on another mesh; None for the first device alone.

        Args:
            mesh: of all processes' devices if there are several processes.

        Raises:
            BridgeError: the mesh has an unknown axis, or the weights cannot be divided among its devices.
        """
        decoder, places = self.decoder.placed(self.weights, mesh)
        arrays = sharding.gathered(self.arrays())
        return Policy(decoder, {name: sharding.put(array, places[name]) for name, array in arrays.items()}, self.origin)

    def with_temperature(self, temperature: float) -> "Policy":
        """The policy whose logits are divided by a temperature; the weights are not copied.

        It is another policy. Its log-probabilities, what it draws and what `save` writes are those of the divided
        logits. So are the magnet and the start of a run that begins with it.

        Args:
            temperature: of the weights' own logits, not of this policy's.

        Raises:
            BridgeError: it is not above 0.
        """
        if complaint := POSITIVE.complaint("temperature", temperature):
            raise SettingError(complaint)
        return Policy(replace(self.decoder, temperature=float(temperature)), self.arrays(), self.origin)

    def with_compute(self, **changes: Any) -> "Policy":
        """The same weights, not copied, with attributes of `Compute` changed, such as `dtype="bfloat16"`.

        Raises:
            BridgeError: the policy wraps a module, which computes as it was made.
        """
        decoder = own_decoder(self, "computes as it was made")
        decoder = replace(decoder, compute=replace(decoder.compute, **changes))
        return Policy(decoder, self.arrays(), self.origin)

    def log_probs(self, tokens: Any, mask: Any, *, chunk: int | None = None) -> Float[Array, "B T"]:
        """Log-probability of each token given those before it in its row, nats, float32.

        Args:
            tokens: token ids [B, T]; rows are padded before or after, or both. What stands at padding does not matter.
            mask: [B, T], which of them are tokens and not padding, side by side in a row; no mask of a loss.
            chunk: of how many tokens a row the logits are made at a time; None for what 64 MiB hold. Changes nothing
                but memory and time.

        Returns:
            Entry (b, t) is that of token t; 0 at the first token of a row and at padding.

        Raises:
            BridgeError: a token is not in the vocabulary, a row is longer than the context or padded inside, or the
                arguments are no such arrays. Or what comes out is not a number, where values are known.
        """
        tokens, mask = self.batch(tokens, mask)
        if tokens.shape[1] == 1:
            return jnp.zeros(tokens.shape, jnp.float32)
        return self._numbers(scoring.log_probs(self.decoder, self.arrays(), tokens, mask, self._chunk(tokens, chunk)))

    def compare(
        self,
        magnet: Any,
        tokens: Any,
        mask: Any,
        *,
        chunk: int | None = None,
    ) -> Comparison:
        """`log_probs` of this policy and of a magnet, with the exact KL divergence from it, in one pass.

        Differentiable with respect to both. Arguments and errors are those of `log_probs`.

        Raises:
            BridgeError: also if the vocabularies or the meshes differ, or a row is longer than the magnet's context.
        """
        if not isinstance(magnet, Policy):
            raise BridgeError(f"expected the magnet to be a policy, got {type(magnet).__name__}")
        ours, theirs = self.architecture.vocabulary, magnet.architecture.vocabulary
        if ours != theirs:
            raise BridgeError(f"expected a magnet with the same vocabulary of {ours} tokens, got {theirs}")
        if self.mesh != magnet.mesh:
            raise BridgeError("expected a magnet on the policy's mesh; load it with mesh=policy.mesh")
        batch = self.batch(tokens, mask)
        magnet.batch(tokens, mask)  # which checks its context
        if batch[0].shape[1] == 1:
            return Comparison(*[jnp.zeros(batch[0].shape, jnp.float32)] * 3)
        chunk = self._chunk(batch[0], chunk)
        found = scoring.compare(self.decoder, self.arrays(), magnet.decoder, magnet.arrays(), batch, chunk)
        self._numbers(found.log_probs)
        magnet._numbers(found.magnet_log_probs)
        return found

    def generate(
        self,
        prompts: Any,
        *,
        key: Any = None,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: Any = None,
    ) -> Generation:
        """Continue prompts, all at once, in one compiled loop with a cache.

        Args:
            prompts: token ids of each, at least one; lengths may differ.
            key: of all draws, one of `jax.random`; a row's draws depend on it and the row's number only. Not needed if
                greedy.
            max_new_tokens: the most that is appended.
            temperature: what the policy's logits are divided by; 0 takes the likeliest token.
            top_k: draw from the k likeliest only.
            top_p: draw from the fewest tokens only that have this probability together.
            stop: token ids, or sequences of them, that end a row; None for those of the checkpoint, () for none.

        Raises:
            BridgeError: a prompt is empty, too long or has unknown tokens, a setting is out of its range, or logits are
                not numbers.
        """
        self.check_prompts(prompts, max_new_tokens)
        check_sampling(temperature, top_k, top_p, key)
        decoder, weights = layout.for_drawing(self.decoder, self.arrays(), len(prompts))
        a, n_shares = self.architecture, sharding.n_row_shares(decoder.mesh)
        origin, copies = self.origin, copies_of(prompts, n_shares)
        n_rows = -(-len(prompts) // copies // n_shares) * n_shares
        key = jax.random.key(0) if key is None else key
        numbers: Any = (
            np.asarray(jax.random.key_data(key)),
            np.int32(max_new_tokens),
            np.float32(temperature),
            np.int32(min(top_k or a.vocabulary, a.vocabulary)),
            np.float32(1.0 if top_p is None else top_p),
            stop_table(origin.stop_tokens if stop is None else stop, a.vocabulary),
        )
        settings = Settings(*numbers)
        truncates = top_k is not None or (top_p is not None and bool(top_p < 1))
        greedy, generator = bool(temperature == 0), str(jax.random.key_impl(key))
        shape = Shape(bucket(max_new_tokens), greedy, truncates, origin.pad_token, generator, copies)
        place = sharding.rows(decoder.mesh, 1)
        batch = jax.device_put(padded_left(prompts[::copies], n_rows, origin.pad_token), place)
        found = run(decoder, shape, weights, batch, settings)
        self._numbers(found.log_probs)
        return Generation(*(array[: len(prompts), :max_new_tokens] for array in found))

    def check_prompts(self, prompts: Any, max_new_tokens: Any) -> None:
        """That prompts can be continued by so many tokens.

        Raises:
            BridgeError: one is empty, too long, or has a token that is not in the vocabulary.
        """
        a = self.architecture
        if isinstance(prompts, str) or not isinstance(prompts, Sequence | np.ndarray | jax.Array):
            raise BridgeError(f"expected a list of prompts, each a list of token ids, got {type(prompts).__name__}")
        if any(isinstance(prompt, str) for prompt in prompts):
            raise BridgeError("expected prompts as token ids; encode text with bridge.Tokenizer(folder).prompt(text)")
        if any(np.ndim(prompt) != 1 for prompt in prompts):
            raise BridgeError("expected a list of prompts, each a list of token ids, such as [[1, 5, 9]]")
        if not len(prompts) or any(not len(prompt) for prompt in prompts):
            raise BridgeError("expected at least one prompt, and a token in each; begin with the BOS token")
        if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int | np.integer) or max_new_tokens < 1:
            raise BridgeError(f"expected an integer max_new_tokens >= 1, got {max_new_tokens}")
        check_tokens(np.concatenate([integers(prompt) for prompt in prompts]), a.vocabulary)
        longest = max(len(prompt) for prompt in prompts)
        if longest + max_new_tokens > a.cached_length:
            reason = "" if a.cached_length == a.max_length else " that can be generated with rotations of its kind"
            raise BridgeError(
                f"a prompt of {longest} tokens and {max_new_tokens} new ones exceed the context of {a.cached_length}"
                + reason
            )

    def batch(self, tokens: Any, mask: Any) -> tuple[Int[Array, "B T"], Bool[Array, "B T"]]:
        """Tokens and mask on the mesh, rows divided; checked where their values are known."""
        place = sharding.rows(self.mesh, 2)
        if isinstance(tokens, Tracer) or isinstance(mask, Tracer):
            tokens, mask = jnp.asarray(integers(tokens), jnp.int32), jnp.asarray(mask, bool)
            return jax.lax.with_sharding_constraint((jnp.where(mask, tokens, 0), mask), place)
        tokens, mask = self._checked(tokens, mask)
        even = tokens.shape[0] % sharding.n_row_shares(self.mesh) == 0
        return jax.device_put((tokens, mask), place if even else whole(self.mesh))

    def _checked(self, tokens: Any, mask: Any) -> tuple[Any, Any]:
        if any(isinstance(array, jax.Array) and not array.is_fully_addressable for array in (tokens, mask)):
            return tokens, mask  # each process knows its own rows only
        tokens, mask = integers(tokens), np.asarray(mask, bool)
        a = self.architecture
        if tokens.shape != mask.shape or tokens.ndim != 2 or not tokens.size:
            shapes = f"{tokens.shape} and {mask.shape}"
            raise BridgeError(f"expected tokens and mask of one shape [B, T] that holds something, got {shapes}")
        check_tokens(tokens[mask], a.vocabulary)
        if (np.diff(mask, axis=1, prepend=False) & mask).sum(axis=1).max() > 1:
            raise BridgeError("expected padding before or after a row's tokens, got a mask with a hole in a row")
        longest = int(mask.sum(axis=1).max())
        if longest > a.max_length:
            raise BridgeError(f"a row has {longest} tokens, more than the context of {a.max_length}")
        return np.where(mask, tokens, 0).astype(np.int32), mask

    def _numbers(self, log_probs: Array) -> Array:
        """What is given, of which nothing is NaN where values are known.

        Raises:
            BridgeError: something is.
        """
        known = not isinstance(log_probs, Tracer) and (log_probs.is_fully_addressable or log_probs.is_fully_replicated)
        if known and np.isnan(np.asarray(log_probs)).any():
            raise broken(self.origin)
        return log_probs

    def _chunk(self, tokens: Array, wanted: int | None) -> int:
        if wanted is not None:
            if not isinstance(wanted, int) or wanted < 1:
                raise BridgeError(f"expected chunk to be a number of tokens >= 1, got {wanted!r}")
            return wanted
        n_rows = -(-tokens.shape[0] // sharding.n_row_shares(self.mesh))
        return scoring.chunk_length(n_rows, tokens.shape[1] - 1, self.architecture.vocabulary)


def own_decoder(policy: Policy, otherwise: str) -> Decoder:
    """The decoder of a policy that this package's own decoder computes.

    Args:
        policy: any.
        otherwise: what is so of a module from outside.

    Raises:
        BridgeError: the policy wraps such a module.
    """
    if not isinstance(policy.decoder, Decoder):
        raise BridgeError(f"the policy wraps a {policy.origin.model_type}, which {otherwise}")
    return policy.decoder


def _variable(name: str) -> type[nnx.Variable]:
    """The kind of variable that holds a weight of this name."""
    return nnx.LoRAParam if ADAPTER in name else nnx.Variable if BUFFER in name else nnx.Param


def _unpickled(kind: Any, settings: Mapping[str, Any], weights: Mapping[str, np.ndarray], origin: Origin) -> Policy:
    """A policy that was pickled, on the first device."""
    mesh = sharding.as_mesh(None)
    placed = {name: sharding.put(array, whole(mesh)) for name, array in weights.items()}
    return Policy(kind(mesh=mesh, **settings), placed, origin)


def integers(tokens: Any) -> Any:
    """Token ids as an array of integers; tracers as they are.

    Raises:
        BridgeError: they are no integers, or rows of different lengths.
    """
    try:
        array = tokens if isinstance(tokens, Tracer) else np.asarray(tokens)
    except ValueError:
        raise BridgeError("expected token ids as one array [B, T], got rows of different lengths; pad them") from None
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise BridgeError(f"expected token ids as integers, got an array of {array.dtype}")
    return array


def check_sampling(temperature: Any, top_k: Any, top_p: Any, key: Any) -> None:
    """That settings are in their ranges.

    Raises:
        BridgeError: one is not.
    """
    if isinstance(key, Tracer):
        raise BridgeError("generate compiles its own loop: call it outside of jit")
    require("temperature", temperature)
    require("top_k", top_k, optional=True)
    require("top_p", top_p, optional=True)
    if key is None and temperature > 0:
        raise BridgeError("expected a key to draw with, such as jax.random.key(0); only temperature=0 needs none")
    if key is not None:
        check_key(key)


def check_key(key: Any) -> None:
    """That a key is one.

    Raises:
        BridgeError: it is not.
    """
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    raw = getattr(key, "dtype", None) == np.uint32
    if not (typed or raw) or np.ndim(key) != raw:
        raise BridgeError(f"expected one key, such as jax.random.key(0), got {type(key).__name__} {np.shape(key)}")


def check_tokens(tokens: Int[np.ndarray, " n"], vocabulary: int) -> None:
    """That token ids are in the vocabulary.

    Raises:
        BridgeError: one is not.
    """
    if tokens.size and not (tokens.min() >= 0 and tokens.max() < vocabulary):
        wrong = tokens[(tokens < 0) | (tokens >= vocabulary)][0]
        raise BridgeError(f"token {wrong} is not in the vocabulary of {vocabulary} tokens")
