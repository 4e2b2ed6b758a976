"""The decoder: one block that every family is an instance of, scanned over the layers.

    x <- x + norm_after(attention(norm_before(x)));   x <- x + norm_after(mlp(norm_before(x)))

(where a family says so, the MLP reads what attention has read, and both terms have a factor).

Layers are one `jax.lax.scan` over stacked weights, so compile time does not grow with depth; what differs from layer to
layer (window, rotary form, scale) is scanned along. Arithmetic follows the reference implementation (transformers) in
where it rounds: norms, softmax and logits are float32, everything else is in the compute precision.

A `Decoder` is a function of weights: hashable, without arrays, so it is a static argument of compiled functions.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Bool, Float, Int

from llm_bridge.model import cpu_steps, sharding, splash
from llm_bridge.model.architecture import Architecture, BridgeError, Norm
from llm_bridge.model.attention import attend, attend_fused, chosen, exact, visible, within
from llm_bridge.model.compute import Compute
from llm_bridge.model.network import Network, Weights
from llm_bridge.model.rotary import Rotation, rotate, rotations

LAYERS = "layers."
NO_WINDOW = 2**30  # tokens, more than any context
ACTIVATIONS = {
    "silu": jax.nn.silu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
}


class Cache(NamedTuple):
    """Keys (rotated) and values of all layers, one slot a token, and where each row begins.

    Attributes:
        keys, values: [L, B, K, S, C]; or arrays of each layer, keys [B, K, C, S] and values [B, K, S, C].
        padding: how many of a row's first slots are empty; the token in slot s has position s - padding.
    """

    keys: Float[Array, "L B K S C"] | tuple[Float[Array, "B K C S"], ...]
    values: Float[Array, "L B K S C"] | tuple[Float[Array, "B K S C"], ...]
    padding: Int[Array, " B"]


class Read(NamedTuple):
    """Prompts that were read for answers that follow, as `Decoder.read` leaves them.

    Attributes:
        last: normalised activations of each prompt's last token.
        keys, values: of all layers, one slot a token.
    """

    last: Float[Array, "N 1 D"]
    keys: Float[Array, "L N K P C"]
    values: Float[Array, "L N K P C"]


class View(NamedTuple):
    """What attention needs to know of the tokens, the same for all layers.

    Attributes:
        rotation: of positions; of those of a prompt with its answers where they go through a layer at once.
        positions, key_positions: of queries and keys.
        visible: whether a query may see a key.
        pieces: for the fused form of TPUs, see `llm_bridge.model.splash`; None where queries are single tokens.
    """

    rotation: Rotation | None
    positions: Int[Array, "B T"]
    key_positions: Int[Array, "B S"]
    visible: Bool[Array, "B T S"]
    pieces: tuple[Int[Array, "B T"], Int[Array, "B S"]] | None = None


@dataclass(frozen=True)
class Decoder(Network):
    """A decoder as a function of its weights.

    Attributes:
        architecture: what it computes.
        compute: how.
        mesh: where; its axes are those of `llm_bridge.model.sharding`.
        adapter_scale: factor of low-rank adapters, alpha / rank.
        temperature: what the head's logits are divided by; a part of the policy, so of all that is made of it.
    """

    architecture: Architecture  # pyrefly: ignore[bad-override] - a frozen class's are read only
    compute: Compute
    mesh: Mesh  # pyrefly: ignore[bad-override]
    adapter_scale: float = 0.0
    temperature: float = 1.0  # pyrefly: ignore[bad-override]

    def __post_init__(self) -> None:
        """That the mesh has what `compute` asks for."""
        if not isinstance(self.compute, Compute):
            raise BridgeError(f"expected compute to be a Compute, got {type(self.compute).__name__}")
        platform = self.mesh.devices.flat[0].platform
        if self.compute.attention == "cudnn" and platform != "gpu":
            raise BridgeError(f"attention='cudnn' needs a GPU and the policy is on a {platform}; 'auto' chooses")

    @property
    def shares_prompts(self) -> bool:
        """Whether a prompt is read once for its answers: where rotations do not depend on a row's length."""
        return not any(rotary.depends_on_length for rotary in self.architecture.rotaries)

    def fixed(self, weights: Weights) -> "Decoder":
        """The same, whose activations have the precision of these weights where `compute` names none."""
        precision = self.compute.dtype or weights["embedding"].dtype.name
        return replace(self, compute=replace(self.compute, dtype=precision))

    def placed(self, names: Iterable[str], mesh: Mesh | None) -> tuple["Decoder", dict[str, NamedSharding]]:
        """The same on another mesh, and where each weight lies there: by the table of `llm_bridge.model.sharding`."""
        mesh = sharding.as_mesh(mesh)
        sharding.check(self.architecture, mesh)
        return replace(self, mesh=mesh), {name: sharding.named(self.architecture, name, mesh) for name in names}

    def dtype(self, weights: Any) -> Any:
        """That of the embedding."""
        return weights["embedding"].dtype

    def described(self) -> str:
        """Layers, width, vocabulary, context."""
        a = self.architecture
        return f"{a.n_layers} layers of width {a.width}, {super().described()}"

    def hidden(self, weights: Weights, tokens: Int[Array, "B T"], mask: Bool[Array, "B T"]) -> Float[Array, "B T D"]:
        """Normalised activations of the last layer. Padding, False in the mask, may be anywhere."""
        positions = jnp.maximum(jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0)
        lengths = jnp.sum(mask, axis=1, dtype=jnp.int32)
        x, view = self._begin(weights, tokens, positions, lengths, visible(positions, positions, mask))
        view = view._replace(pieces=_pieces(mask, mask))

        def block(x: Array, layer: Weights) -> tuple[Array, None]:
            query, key, value = self._qkv(layer, x, view)
            return self._finish(layer, x, self._attend(layer, query, _by_head(key), _by_head(value), view)), None

        return self._final_norm(weights, self._scan(block, x, self._layers(weights)))

    def answers(
        self,
        weights: Weights,
        prompts: tuple[Int[Array, "N P"], Bool[Array, "N P"]],
        answers: tuple[Int[Array, "B R"], Bool[Array, "B R"]],
    ) -> Float[Array, "B R D"]:
        """Normalised activations that predict each token of answers, G = B / N of which follow each prompt.

        The prompt goes through the model once for all of its answers, which see its keys and values: the same
        activations as those of rows that hold prompt and answer, where rotations do not depend on a row's length.
        Where all weights are trained, all but attention is made of a prompt with its answers at once. So a weight has
        one gradient to be summed over devices, and not two.

        Args:
            weights: of the decoder.
            prompts: tokens and which of them are no padding, all of it on the left.
            answers: the same, prompt by prompt, padding on the right.
        """
        (tokens, real), (own, mask), (n, p) = prompts, answers, prompts[0].shape
        g, together = own.shape[0] // n, not self.adapter_scale

        def joined(prompt: Array, answer: Array) -> tuple[Array, ...]:
            if not together:
                return prompt, answer
            return (jnp.concatenate([prompt, answer.reshape(n, -1, *answer.shape[2:])], axis=1),)

        def apart(parts: tuple[Array, ...]) -> tuple[Array, ...]:
            if not together:
                return parts
            (both,) = parts
            return both[:, :p], both[:, p:].reshape(n * g, -1, *both.shape[2:])

        lengths, after = jnp.sum(real, axis=1, dtype=jnp.int32), jnp.cumsum(mask, axis=1, dtype=jnp.int32)
        at = jnp.maximum(jnp.cumsum(real, axis=1, dtype=jnp.int32) - 1, 0)
        before, shared = jnp.repeat(lengths, g)[:, None], jnp.repeat(real, g, axis=0)
        own_at = jnp.maximum(before + after - 1, 0)
        keys_at = jnp.concatenate([jnp.repeat(at, g, axis=0), own_at], axis=1)
        keys_real = jnp.concatenate([shared, mask], axis=1)
        both = zip(joined(tokens, own), joined(at, own_at), (lengths, before[:, 0] + after[:, -1]), strict=False)
        x, rotations = zip(*(self._enter(weights, *each) for each in both), strict=True)
        view = View(rotations[0], at, at, visible(at, at, real), _pieces(real, real))
        own_view = View(rotations[-1], own_at, keys_at, visible(own_at, keys_at, keys_real), _pieces(mask, keys_real))

        def block(x: tuple[Array, ...], layer: Weights) -> tuple[tuple[Array, ...], None]:
            made = zip(*map(partial(self._qkv, layer), x, (view, own_view)), strict=True)
            (query, own_query), *found = map(apart, made)
            (key, own_key), (value, own_value) = (map(_by_head, each) for each in found)
            attended = self._attend(layer, query, key, value, view)
            key, value = (
                jnp.concatenate([jnp.repeat(old, g, axis=0), fresh], axis=2)
                for old, fresh in ((key, own_key), (value, own_value))
            )
            out = joined(attended, self._attend(layer, own_query, key, value, own_view))
            return tuple(map(partial(self._finish, layer), x, out)), None

        x, y = apart(self._scan(block, x, self._layers(weights)))
        first = jnp.repeat(self._final_norm(weights, x[:, -1:]), g, axis=0)
        return jnp.concatenate([first, self._final_norm(weights, y[:, :-1])], axis=1)

    def read(self, weights: Weights, prompts: tuple[Int[Array, "N P"], Bool[Array, "N P"]]) -> Read:
        """Read prompts, for `continued`.

        Args:
            weights: of the decoder.
            prompts: tokens and which of them are no padding, all of it on the left.
        """
        tokens, real = prompts
        at = _positions(real)
        x, view = self._begin(weights, tokens, at, jnp.sum(real, axis=1, dtype=jnp.int32), visible(at, at, real))
        view = view._replace(pieces=_pieces(real, real))

        def block(x: Array, layer: Weights) -> tuple[Array, tuple[Array, Array]]:
            query, key, value = self._qkv(layer, x, view)
            key, value = _by_head(key), _by_head(value)
            return self._finish(layer, x, self._attend(layer, query, key, value, view)), (key, value)

        x, filled = self._scan_all(block, x, self._layers(weights))
        return Read(self._final_norm(weights, x[:, -1:]), *map(self._place_cache, filled))

    def continued(
        self,
        weights: Weights,
        read: Read,
        real: Bool[Array, "N P"],
        answers: tuple[Int[Array, "B R"], Bool[Array, "B R"]],
        of: Int[Array, "S m"],
    ) -> Float[Array, "B R D"]:
        """What `answers` gives, where prompts were read before and an answer may follow any of them.

        Args:
            weights: of the decoder.
            read: the prompts.
            real: which of their tokens are no padding.
            answers: tokens and which of them are no padding, all of it on the right; B = S m rows.
            of: which prompt each follows, counted in the row's share of the S equal shares that prompts and rows are
                divided among, so that no key has to move between devices.
        """
        own, mask = answers
        after = jnp.cumsum(mask, axis=1, dtype=jnp.int32)
        shared, at = (_following(part, of) for part in (real, _positions(real)))
        before = jnp.sum(shared, axis=1, dtype=jnp.int32)
        own_at = jnp.maximum(before[:, None] + after - 1, 0)
        keys_at, keys_real = jnp.concatenate([at, own_at], axis=1), jnp.concatenate([shared, mask], axis=1)
        y, view = self._begin(weights, own, own_at, before + after[:, -1], visible(own_at, keys_at, keys_real), keys_at)
        view = view._replace(pieces=_pieces(mask, keys_real))

        def block(y: Array, layer: Weights) -> tuple[Array, None]:
            query, *new = self._qkv(layer, y, view)
            key, value = (
                jnp.concatenate([self._place_keys(_following(layer[name], of)), _by_head(fresh)], axis=2)
                for name, fresh in zip(("read_keys", "read_values"), new, strict=True)
            )
            return self._finish(layer, y, self._attend(layer, query, key, value, view)), None

        layers = self._layers(weights) | {"read_keys": read.keys, "read_values": read.values}
        y = self._final_norm(weights, self._scan(block, y, layers)[:, :-1])
        return jnp.concatenate([_following(read.last, of), y], axis=1)

    def prefill(
        self, weights: Weights, tokens: Int[Array, "N P"], padding: Int[Array, " N"], n_slots: int, copies: int = 1
    ) -> tuple[Float[Array, "B D"], Cache]:
        """Read prompts that are padded on the left.

        Args:
            weights: of the decoder.
            tokens: the prompts.
            padding: how many of a row's first tokens are none.
            n_slots: S, of the cache.
            copies: how many rows each prompt then has, one after another: B = N times as many.

        Returns:
            Activations of the last token, and the cache, filled up to slot P - 1.
        """
        length = tokens.shape[1]
        slots = jnp.arange(length, dtype=jnp.int32)[None, :] - padding[:, None]
        positions = jnp.maximum(slots, 0)
        x, view = self._begin(weights, tokens, positions, length - padding, visible(positions, positions, slots >= 0))
        view = view._replace(pieces=_pieces(slots >= 0, slots >= 0))

        def block(x: Array, layer: Weights) -> tuple[Array, tuple[Array, Array]]:
            query, key, value = self._qkv(layer, x, view)
            key, value = _by_head(key), _by_head(value)
            return self._finish(layer, x, self._attend(layer, query, key, value, view)), (key, value)

        x, filled = jax.lax.scan(block, x, self._layers(weights), unroll=self.compute.unroll)
        room = ((0, 0), (0, 0), (0, 0), (0, n_slots - length), (0, 0))
        keys, values = (self._place_cache(jnp.pad(jnp.repeat(part, copies, axis=1), room)) for part in filled)
        hidden = jnp.repeat(self._final_norm(weights, x[:, -1:])[:, 0], copies, axis=0)
        return hidden, Cache(keys, values, jnp.repeat(padding, copies))

    def apart(self, weights: Weights, cache: Cache, n_tokens: int) -> tuple[Weights | cpu_steps.Apart, Cache]:
        """Weights and cache as `step` is fastest with them for so many tokens: on a CPU often each layer by itself."""
        if not self._on_cpu or not cpu_steps.pays(self.architecture.n_layers, n_tokens):
            return weights, cache
        keys, values = cpu_steps.caches_apart(cache.keys, cache.values)
        return cpu_steps.apart(weights, LAYERS), Cache(keys, values, cache.padding)

    def step(
        self, weights: Weights | cpu_steps.Apart, tokens: Int[Array, " B"], slot: Int[Array, ""], cache: Cache
    ) -> tuple[Float[Array, "B D"], Cache]:
        """Append one token to every row, in the same slot; activations of it."""
        n_slots = cache.values[0].shape[2]
        positions = (slot - cache.padding)[:, None]
        key_positions = jnp.arange(n_slots, dtype=jnp.int32)[None, :] - cache.padding[:, None]
        seen = visible(positions, key_positions, key_positions >= 0)
        x, view = self._begin(weights, tokens[:, None], positions, positions[:, 0] + 1, seen, key_positions)
        layers = self._layers(weights)
        if isinstance(cache.keys, tuple):

            def block(layer: Weights, x: Array, store: cpu_steps.Store) -> Array:
                query, key, value = self._qkv(layer, x, view)
                key, value = store(key, value)
                return self._finish(layer, x, self._attend(layer, query, key, value, view))

            x, keys, values = cpu_steps.step(block, layers, x, slot, (cache.keys, cache.values))
        else:
            x, keys, values = self._step_scanned(layers, x, view, slot, cache)
        return self._final_norm(weights, x)[:, 0], Cache(keys, values, cache.padding)

    def _step_scanned(self, layers: Weights, x: Array, view: View, slot: Array, cache: Cache) -> tuple[Array, Any, Any]:
        layers["index"] = jnp.arange(self.architecture.n_layers, dtype=jnp.int32)

        def block(carry: tuple[Array, Array, Array], layer: Weights) -> tuple[tuple[Array, Array, Array], None]:
            x, keys, values = carry
            query, key, value = self._qkv(layer, x, view)
            keys = _put(keys, _by_head(key)[None], slot, layer["index"])
            values = _put(values, _by_head(value)[None], slot, layer["index"])
            key, value = (jax.lax.dynamic_index_in_dim(c, layer["index"], keepdims=False) for c in (keys, values))
            return (self._finish(layer, x, self._attend(layer, query, key, value, view)), keys, values), None

        carry: Any = (x, cache.keys, cache.values)
        (x, keys, values), _ = jax.lax.scan(block, carry, layers, unroll=self.compute.unroll)
        return x, self._place_cache(keys), self._place_cache(values)

    def logits(self, weights: Weights, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Float32 logits, soft cap and temperature included."""
        if "head" not in weights:
            flat, table = hidden.reshape(-1, hidden.shape[-1]), weights["embedding"].astype(hidden.dtype)
            if self._on_cpu and cpu_steps.is_slow(flat, table):
                logits = cpu_steps.by_table(flat, table, exact(hidden.dtype))
            else:
                logits = jnp.matmul(flat, table.T, precision=exact(hidden.dtype), preferred_element_type=jnp.float32)
            logits = logits.reshape(*hidden.shape[:-1], -1)
        else:
            logits = self._product(hidden, weights["head"].astype(hidden.dtype), jnp.float32)
        logits = logits.astype(jnp.float32)
        if (scale := self.architecture.logit_scale) != 1:
            logits = logits * scale
        if (cap := self.architecture.logit_softcap) is not None:
            logits = cap * jnp.tanh(logits / cap)
        return logits if self.temperature == 1 else logits / self.temperature

    def head(self, weights: Weights) -> tuple[str, Array]:
        """The name of what makes logits of activations, and the array: the head, or the embedding if it is tied."""
        name = "head" if "head" in weights else "embedding"
        return name, weights[name]

    def cache_shape(self, n_rows: int, n_slots: int) -> tuple[int, ...]:
        """[L, B, K, S, C]: of the keys, and of the values."""
        a = self.architecture
        return (a.n_layers, n_rows, a.n_kv_heads, n_slots, a.head_width)

    # ------------------------------------------------------------------------------------------------ the parts

    def _begin(
        self,
        weights: Any,
        tokens: Int[Array, "B T"],
        positions: Int[Array, "B T"],
        lengths: Int[Array, " B"],
        seen: Bool[Array, "B T S"],
        key_positions: Int[Array, "B S"] | None = None,
    ) -> tuple[Float[Array, "B T D"], View]:
        x, rotation = self._enter(weights, tokens, positions, lengths)
        return x, View(rotation, positions, positions if key_positions is None else key_positions, seen)

    def _enter(
        self, weights: Any, tokens: Int[Array, "B T"], positions: Int[Array, "B T"], lengths: Int[Array, " B"]
    ) -> tuple[Float[Array, "B T D"], Rotation | None]:
        """What the first layer reads, and how queries and keys are rotated."""
        a = self.architecture
        dtype = jnp.dtype(self.compute.dtype) if self.compute.dtype else weights["embedding"].dtype
        x = jnp.take(weights["embedding"], tokens, axis=0).astype(dtype)  # NaN for a token beyond the vocabulary
        if a.embedding_scale != 1:
            x = x * jnp.asarray(a.embedding_scale, dtype)
        if a.learned_positions:
            x = x + jnp.take(weights["positions"], positions, axis=0).astype(dtype)
        rotation = None if a.learned_positions else rotations(a, positions, lengths)
        x = jax.lax.with_sharding_constraint(x, sharding.looked_up(self.mesh))
        return self._place(x), rotation

    @property
    def _on_cpu(self) -> bool:
        return self.mesh.devices.flat[0].platform == "cpu"

    def _layers(self, weights: Any) -> Any:
        """What is scanned: weights of the layers, and what varies from layer to layer."""
        a = self.architecture
        layers = {name.removeprefix(LAYERS): w for name, w in weights.items() if name.startswith(LAYERS)}
        if any(window is not None for window in a.windows):
            layers["window"] = jnp.asarray([window or NO_WINDOW for window in a.windows], jnp.int32)
        if len(a.rotaries) > 1:
            layers["rotary"] = jnp.asarray(a.rotary_of_layer, jnp.int32)
        if len(set(a.score_scale)) > 1:
            layers["scale"] = jnp.asarray(a.score_scale, jnp.float32)
        return layers

    def _scan(self, block, x: Any, layers: Weights) -> Any:
        """What a block carries, after all layers."""
        return self._scan_all(block, x, layers)[0]

    def _scan_all(self, block, x: Any, layers: Weights) -> tuple[Any, Any]:
        match self.compute.remat:
            case "none":
                pass
            case "layer":
                block = jax.checkpoint(block, prevent_cse=False)
            case "projections":
                saved = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
                block = jax.checkpoint(block, prevent_cse=False, policy=saved)
        return jax.lax.scan(block, x, layers, unroll=self.compute.unroll)

    def _qkv(self, layer: Weights, x: Float[Array, "B T D"], view: View) -> tuple[Array, Array, Array]:
        """Queries [B, T, H, C], keys and values [B, T, K, C], normalised and rotated."""
        a = self.architecture
        inner = self._norm(layer, "attention_norm", x) if a.norm_before else x
        query, key, value = (self._linear(layer, name, inner) for name in ("query", "key", "value"))
        if a.query_key_norm == "whole":
            query, key = self._norm(layer, "query_norm", query), self._norm(layer, "key_norm", key)
        query, key, value = (part.reshape(*part.shape[:2], -1, a.head_width) for part in (query, key, value))
        if a.query_key_norm == "head":
            query, key = self._norm(layer, "query_norm", query), self._norm(layer, "key_norm", key)
        if view.rotation is not None:
            index = layer.get("rotary", 0)
            cosine, sine = view.rotation.cosine[index], view.rotation.sine[index]
            query, key = rotate(query, cosine, sine), rotate(key, cosine, sine)
        return query, key, value

    def _attend(
        self, layer: Weights, query: Array, key: Float[Array, "B K S C"], value: Float[Array, "B K S C"], view: View
    ) -> Float[Array, "B T heads"]:
        a = self.architecture
        query = query.reshape(*query.shape[:2], a.n_kv_heads, a.n_heads // a.n_kv_heads, a.head_width)
        platform = self.mesh.devices.flat[0].platform
        form = chosen(self.compute.attention, platform, query.dtype, a.score_softcap, a.head_width)
        if form == "splash" and view.pieces is not None:
            out = self._attend_by_kernel(layer, query, key, value, view.pieces)
            return out.reshape(*out.shape[:2], -1)
        allowed = view.visible
        if "window" in layer:
            allowed = allowed & within(layer["window"], view.positions, view.key_positions)
        if form in ("plain", "splash") or "scale" in layer or query.shape[1] == 1:
            scale = layer.get("scale", a.score_scale[0])
            out = attend(query, key, value, allowed, scale, a.score_softcap)
        else:
            out = attend_fused(query, key, value, allowed, a.score_scale[0], form)
        return out.reshape(*out.shape[:2], -1)

    def _attend_by_kernel(
        self, layer: Weights, query: Array, key: Array, value: Array, pieces: tuple[Array, Array]
    ) -> Float[Array, "B T K G C"]:
        """By the TPU's kernel; layers that differ in their window are different kernels."""
        a, windows = self.architecture, sorted(set(self.architecture.windows), key=lambda w: w or 0)
        scale = layer.get("scale", a.score_scale[0])
        query = (query.astype(jnp.float32) * scale).astype(query.dtype)

        def kernel(window: int | None, query: Array, key: Array, value: Array) -> Array:
            return splash.attend(self.mesh, (query, key, value), pieces, a.score_softcap, window)

        if len(windows) == 1:
            return kernel(windows[0], query, key, value)
        known = jnp.asarray([window or NO_WINDOW for window in windows], jnp.int32)
        which = jnp.argmax(known == layer["window"])
        return jax.lax.switch(which, [partial(kernel, window) for window in windows], query, key, value)

    def _finish(self, layer: Weights, x: Float[Array, "B T D"], attended: Array) -> Float[Array, "B T D"]:
        """Output projection, MLP, and the norms around them."""
        a, start = self.architecture, x
        out = self._linear(layer, "output", attended)
        x = x + self._scaled(self._norm(layer, "attention_output_norm", out) if a.norm_after else out)
        read = start if a.parallel else x
        inner = self._norm(layer, "mlp_norm", read) if a.norm_before else read
        out = self._mlp(layer, inner) if a.experts is None else self._mixture(layer, inner)
        x = x + self._scaled(self._norm(layer, "mlp_output_norm", out) if a.norm_after else out)
        return self._place(x)

    def _scaled(self, branch: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """What is added to the residual stream."""
        scale = self.architecture.residual_scale
        return branch if scale == 1 else branch * jnp.asarray(scale, branch.dtype)

    def _mlp(self, layer: Weights, x: Array) -> Array:
        up = self._linear(layer, "up", x)
        gate = self._linear(layer, "gate", x) if self.architecture.gated else None
        return self._linear(layer, "down", self._activated(up, gate))

    def _activated(self, up: Array, gate: Array | None) -> Array:
        """activation(gate) * up, or activation(up); the activation is computed in float32."""
        activation = ACTIVATIONS[self.architecture.activation]
        inner = activation((up if gate is None else gate).astype(jnp.float32)).astype(up.dtype)
        return inner if gate is None else inner * up

    def _mixture(self, layer: Weights, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Tokens sorted by expert, one grouped product for all experts, back in order, weighted (Gale et al. 2023)."""
        experts = self.architecture.experts
        assert experts is not None
        flat = x.reshape(-1, x.shape[-1])
        router = self._linear(layer, "router", flat)
        shares, chosen_experts = jax.lax.top_k(jax.nn.softmax(router.astype(jnp.float32), axis=-1), experts.n_chosen)
        if experts.normalized:
            shares = shares / jnp.sum(shares, axis=-1, keepdims=True)
        order = jnp.argsort(chosen_experts.reshape(-1), stable=True)
        sizes = jnp.bincount(chosen_experts.reshape(-1), length=experts.n).astype(jnp.int32)
        mine = flat[order // experts.n_chosen]

        def grouped(name: str, inputs: Array) -> Array:
            matrices = layer[name].astype(inputs.dtype)
            return jax.lax.ragged_dot(inputs, matrices, sizes, precision=exact(inputs.dtype))

        out = grouped("down", self._activated(grouped("up", mine), grouped("gate", mine)))
        out = jnp.zeros_like(out).at[order].set(out).reshape(*shares.shape, -1)
        return jnp.sum(out * shares.astype(x.dtype)[:, :, None], axis=1).reshape(x.shape)

    def _linear(self, layer: Weights, name: str, x: Array) -> Array:
        """X W + b, and the adapter's low-rank part if there is one (Hu et al. 2022)."""
        bias = layer.get(f"{name}_bias")
        wide = jnp.float32 if bias is not None else None  # the sum with the bias is rounded once
        out = self._product(x, layer[name].astype(x.dtype), wide)
        if bias is not None:
            out = (out + _aligned(bias.astype(jnp.float32), out)).astype(x.dtype)
        if (down := layer.get(f"{name}.lora_a")) is not None:
            low = self._product(x, down.astype(x.dtype))
            out = out + self.adapter_scale * self._product(low, layer[f"{name}.lora_b"].astype(x.dtype))
        return out

    def _product(self, x: Float[Array, "... D"], matrix: Float[Array, "D F"], dtype: Any = None) -> Array:
        """X W as one product of two matrices, so that its gradients are as well, without copies in another order."""
        flat, precision = x.reshape(-1, x.shape[-1]), exact(x.dtype)
        if self._on_cpu and cpu_steps.is_slow(flat, matrix):
            out = cpu_steps.product(flat, matrix, precision, dtype)
        else:
            out = jnp.matmul(flat, matrix, precision=precision, preferred_element_type=dtype)
        return out.reshape(*x.shape[:-1], -1)

    def _norm(self, weights: Weights, name: str, x: Array) -> Array:
        return normalized(self.architecture.norm, x, weights[name], weights.get(f"{name}_bias"))

    def _final_norm(self, weights: Any, x: Array) -> Array:
        return self._norm(weights, "final_norm", x)

    def _place(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        return jax.lax.with_sharding_constraint(x, sharding.rows(self.mesh, x.ndim))

    def _place_keys(self, x: Float[Array, "B K P C"]) -> Float[Array, "B K P C"]:
        return jax.lax.with_sharding_constraint(x, sharding.rows(self.mesh, 4, heads_at=1))

    def _place_cache(self, x: Float[Array, "L B K S C"]) -> Float[Array, "L B K S C"]:
        return jax.lax.with_sharding_constraint(x, sharding.rows(self.mesh, 5, heads_at=2, rows_at=1))


def normalized(
    norm: Norm, x: Float[Array, "... D"], scale: Float[Array, " D"], bias: Float[Array, " D"] | None
) -> Float[Array, "... D"]:
    """A norm over the last axis, computed in float32."""
    wide = x.astype(jnp.float32)
    if norm.kind == "layer":
        wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
    wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + norm.epsilon)
    if norm.kind == "rms":
        return wide.astype(x.dtype) * _aligned(scale.astype(x.dtype), x)
    factor = _aligned(scale.astype(jnp.float32), x)
    out = wide * (1 + factor if norm.kind == "rms_plus_one" else factor)
    if bias is not None:
        out = out + _aligned(bias.astype(jnp.float32), x)
    return out.astype(x.dtype)


def _aligned(vector: Float[Array, " D"], x: Array) -> Array:
    """A vector over the last axis of x."""
    return vector.reshape((1,) * (x.ndim - 1) + vector.shape)


def _pieces(real: Bool[Array, "B T"], keys: Bool[Array, "B S"]) -> tuple[Int[Array, "B T"], Int[Array, "B S"]]:
    """One text a row; 0 is padding."""
    return real.astype(jnp.int32), keys.astype(jnp.int32)


def _positions(real: Bool[Array, "B T"]) -> Int[Array, "B T"]:
    """Of tokens, padding not counted."""
    return jnp.maximum(jnp.cumsum(real, axis=1, dtype=jnp.int32) - 1, 0)


def _following(array: Array, of: Int[Array, "S m"]) -> Array:
    """Entries of an array of prompts, [N, ...], for the rows that follow them, [S m, ...]; see `Decoder.continued`.

    Of numbers that have gradients they are products with ones and zeros, which are exact, and whose transpose adds up
    without scattering.
    """
    apart = array.reshape(of.shape[0], -1, *array.shape[1:])
    if jnp.issubdtype(array.dtype, jnp.inexact):
        ones = jax.nn.one_hot(of, apart.shape[1], dtype=array.dtype)
        found = jnp.einsum("smn,sn...->sm...", ones, apart, precision=jax.lax.Precision.HIGHEST)
    else:
        found = jnp.take_along_axis(apart, of.reshape(*of.shape, *[1] * (array.ndim - 1)), axis=1)
    return found.reshape(-1, *array.shape[1:])


def _by_head(x: Float[Array, "B T K C"]) -> Float[Array, "B K T C"]:
    return jnp.swapaxes(x, 1, 2)


def _put(cache: Array, new: Array, slot: Int[Array, ""], layer: Int[Array, ""]) -> Array:
    """The cache, [L, B, K, S, C], with one token of a layer written."""
    first = [jnp.zeros((), jnp.int32)] * cache.ndim
    first[0], first[-2] = layer, slot
    return jax.lax.dynamic_update_slice(cache, new, first)
