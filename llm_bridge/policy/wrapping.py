"""Policies of Flax modules from anywhere: `wrap` makes one, `unwrap` gives the module back.

A wrapped module is a policy like any other: log-probabilities, generation, training, magnet, checkpoints of a run. What
knows this package's own decoder has no part in it: Hugging Face folders, our adapters, the estimate of memory.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from llm_bridge.model import sharding
from llm_bridge.model.architecture import BridgeError, Outline
from llm_bridge.model.network import Weights
from llm_bridge.model.wrapped import Calls, Wrapped, of_module
from llm_bridge.policy.policy import Origin, Policy
from llm_bridge.text.tokenizer import tokenizer_of

LOG = logging.getLogger(__name__)

TRIED, BEFORE = 6, 2  # tokens of the row that a module is tried on, and padding before it
LOOSE = {"float32": 1e-3, "float64": 1e-3}  # difference of two logits that are equal, as a share of the largest one
LOOSER = 6e-2  # in half precision


def wrap(
    module: Any,
    variables: Mapping[str, Any] | None = None,
    *,
    max_length: int,
    calls: Calls | None = None,
    mesh: Mesh | None = None,
    rules: Mapping[str, str | None] | None = None,
    tokenizer: str | PathLike[str] | None = None,
    stop_tokens: Sequence[int] = (),
    pad_token: int = 0,
    check: bool = True,
) -> Policy:
    """A policy of a Flax module that maps tokens, positions and a mask to logits.

    Args:
        module: of NNX, with its arrays or their shapes (`nnx.eval_shape`); or of Linen. Switch dropout off first, as
            `module.eval()` does in NNX.
        variables: of a Linen module; `params` is trained, other collections are not.
        max_length: most tokens of a row.
        calls: how the module is called, where not as `module(tokens, positions, mask)`; its own cache, and its
            activations and head.
        mesh: where weights and rows go. Weights are divided as the module's metadata says, rows over the axes "data"
            and "fsdp". None for where the weights lie already, or the first device.
        rules: the axis of the mesh for each axis name of the metadata, None for none. Names that are left out mean
            axes of that name, if there are such.
        tokenizer: a folder with the module's tokenizer, whose end tokens then end rows.
        stop_tokens: further tokens that end a row.
        pad_token: what fills the rest of a row.
        check: whether the module is run on a few tokens. So it is seen that no token sees those behind it or padding,
            and that its cache changes nothing.

    Raises:
        BridgeError: it is no such module, cannot be called so, does not fit the mesh, or fails the check.
    """
    calls = calls or Calls()
    if not isinstance(calls, Calls):
        raise BridgeError(f"expected calls to be bridge.Calls(...), got {type(calls).__name__}")
    wrapped, arrays = of_module(module, variables, calls, rules or {})
    wrapped, places = wrapped.placed(arrays, mesh or wrapped.mesh)
    abstract = any(isinstance(array, jax.ShapeDtypeStruct) for array in arrays.values())
    if not abstract:
        arrays = {name: jax.device_put(array, places[name]) for name, array in arrays.items()}
    name = type(module).__name__
    vocabulary = _vocabulary(wrapped, arrays, name, max_length)
    wrapped = replace(wrapped, architecture=Outline(vocabulary, max_length))
    folder = None if tokenizer is None else str(Path(fspath(tokenizer)).absolute())
    words = tokenizer_of(folder)
    if folder and words is None:
        raise BridgeError(f"{folder}: has no tokenizer")
    ends = tuple(dict.fromkeys([*(words.ends if words else ()), *stop_tokens]))
    if wrong := [token for token in (*ends, pad_token) if not 0 <= token < vocabulary]:
        raise BridgeError(f"token {wrong[0]} is not in the vocabulary of {vocabulary} tokens that {name} has")
    policy = Policy(wrapped, arrays, Origin(name, json.dumps({"module": _qualified(module)}), folder, ends, pad_token))
    if check and not abstract:
        _check(policy)
    if calls.prefill is None:
        LOG.warning(
            "%s: has no cache here (Calls.prefill and Calls.step), so each new token of an answer is computed from all "
            "that precede it",
            name,
        )
    return policy


def unwrap(policy: Policy) -> Any:
    """The module of a wrapped policy with the policy's weights, not copied.

    Returns:
        Of NNX a new module; of Linen the module and its variables.

    Raises:
        BridgeError: the policy has this package's own decoder.
    """
    found = wrapped_of(policy).module(policy.arrays())
    return found.unbind() if isinstance(found, nn.Module) else found


def wrapped_of(policy: Policy) -> Wrapped:
    """The module of a policy as a function of its weights.

    Raises:
        BridgeError: the policy has this package's own decoder.
    """
    if not isinstance(policy.decoder, Wrapped):
        raise BridgeError(f"expected a policy of bridge.wrap, got {policy!r}")
    return policy.decoder


def _qualified(module: Any) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _vocabulary(wrapped: Wrapped, weights: dict[str, Any], name: str, max_length: Any) -> int:
    """How many logits the module gives for a token.

    Raises:
        BridgeError: it cannot be called, or gives something else.
    """
    if not isinstance(max_length, int) or max_length < 1:
        raise BridgeError(f"expected max_length to be a number of tokens >= 1, got {max_length!r}")
    n_rows = sharding.n_row_shares(wrapped.mesh)
    shape = (n_rows, min(TRIED, max_length))

    def logits(weights: Weights) -> Array:
        return wrapped.logits(weights, wrapped.hidden(weights, jnp.zeros(shape, jnp.int32), jnp.ones(shape, bool)))

    try:
        found = jax.eval_shape(logits, weights)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        how = "as its calls say" if wrapped.calls != Calls() else "as module(tokens, positions, mask)"
        raise BridgeError(
            f"{name}: cannot be called {how} ({type(error).__name__}: {reason}); bridge.Calls says how it is"
        ) from error
    if found.shape[:2] != shape or found.ndim != 3:
        raise BridgeError(f"{name}: expected logits [B, T, V] = ({shape[0]}, {shape[1]}, V), got {found.shape}")
    return found.shape[2]


def _check(policy: Policy) -> None:
    """Run the module on a few tokens, in three ways that have to give the same logits.

    Raises:
        BridgeError: they do not.
    """
    decoder, n = policy.decoder, min(TRIED, policy.architecture.max_length)
    if n < 2:
        return
    row = np.random.default_rng(0).integers(0, policy.architecture.vocabulary, n)
    found = _tried(decoder, policy.arrays(), jnp.asarray(row, jnp.int32), n)
    alone, padded, changed, cached = (np.asarray(one, np.float64) for one in found)
    name = policy.origin.model_type
    if not all(np.isfinite(one).all() for one in (alone, padded, changed, cached)):
        raise BridgeError(f"{name}: gives logits that are not finite, perhaps where a padded token may see nothing")
    bound = LOOSE.get(jnp.dtype(decoder.dtype(policy.arrays())).name, LOOSER) * max(1.0, np.abs(alone).max())

    def differ(one: Float[np.ndarray, "..."], other: Float[np.ndarray, "..."]) -> bool:
        return bool(np.abs(one - other).max() > bound)

    remedy = "; check=False leaves this out"
    if differ(alone[: n - 1], changed[: n - 1]):
        raise BridgeError(f"{name}: a token's logits change with the token behind it, which it must not see{remedy}")
    if differ(alone, padded[BEFORE:]):
        text = "mask and positions have to be heeded, and dropout to be off"
        raise BridgeError(f"{name}: logits change with padding before a row, so {text}{remedy}")
    if differ(alone, cached):
        raise BridgeError(
            f"{name}: logits with its cache (Calls.prefill and Calls.step) are others than without{remedy}"
        )


@partial(jax.jit, static_argnames=("decoder", "n"))
def _tried(decoder: Wrapped, weights: Weights, row: Array, n: int) -> tuple[Array, Array, Array, Array]:
    """Logits [n, V] of a row: alone; padded before it, [BEFORE + n, V]; with another last token; and with the cache."""
    shares = sharding.n_row_shares(decoder.mesh)

    def read(tokens: Array, mask: Array) -> Array:
        many = (jnp.broadcast_to(part[None, :], (shares, *part.shape)) for part in (tokens, mask))
        return decoder.logits(weights, decoder.hidden(weights, *many))[0]

    before = jnp.concatenate([jnp.zeros(BEFORE, jnp.int32), row])
    padded = read(before, jnp.arange(BEFORE + n) >= BEFORE)
    alone = read(row, jnp.ones(n, bool))
    changed = read(row.at[-1].set((row[-1] + 1) % decoder.architecture.vocabulary), jnp.ones(n, bool))
    if decoder.calls.prefill is None:
        return alone, padded, changed, alone
    rows = jnp.broadcast_to(before[None, : BEFORE + 1], (shares, BEFORE + 1))
    hidden, cache = decoder.prefill(weights, rows, jnp.full(shares, BEFORE, jnp.int32), BEFORE + n)
    logits = [decoder.logits(weights, hidden)[0]]
    for i in range(1, n):
        token = jnp.broadcast_to(row[i], (shares,))
        hidden, cache = decoder.step(weights, token, jnp.int32(BEFORE + i), cache)
        logits.append(decoder.logits(weights, hidden)[0])
    return alone, padded, changed, jnp.stack(logits)
