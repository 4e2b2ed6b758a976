"""What a decoder computes, as data: everything in which the model families differ, and nothing else.

A family's file turns a `config.json` into an `Architecture`; the decoder reads only this. All of it is hashable, so it
is a static argument of every compiled function. What varies from layer to layer (window, rotary form, scale of the
scores) is a tuple with one entry a layer: layers are scanned, and these entries ride along as arrays.

Letters, here and in all modules: B rows (sequences), T tokens of a row, S cached tokens, V vocabulary, D width, H query
heads, K key-value heads, C channels of a head, F width of the MLP, E experts, L layers.
"""

from dataclasses import dataclass
from typing import Literal

Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]
Form = Literal["default", "linear", "dynamic", "llama3", "yarn", "longrope", "none"]


class BridgeError(ValueError):
    """Not a checkpoint, prompt or setting that this package can use; the message says what, where and what instead."""


@dataclass(frozen=True)
class Rotary:
    """A rotary position embedding (Su et al. 2021, RoFormer) and how it is stretched to longer contexts.

    Attributes:
        form: how frequencies are changed: not at all, all divided by a factor ("linear"), by parts ("llama3", "yarn"),
            as a function of the row's length ("dynamic", "longrope"), or "none": no rotation, for layers without
            positions.
        theta: the base of the wavelengths.
        n_channels: how many of a head's channels are rotated, the first ones.
        factor: by how much the context is stretched.
        original_length: the context before it was stretched, tokens.
        attention_factor: what cosine and sine are multiplied with.
        low, high: borders between what is stretched and what is kept: frequency factors (llama3), rotations within the
            original context (yarn: slow, fast).
        truncated: whether yarn's borders are rounded to whole channels.
        short, long: longrope's factors by channel pair, up to and beyond the original length.
    """

    form: Form = "default"
    theta: float = 10_000.0
    n_channels: int = 0
    factor: float = 1.0
    original_length: int = 0
    attention_factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    truncated: bool = True
    short: tuple[float, ...] = ()
    long: tuple[float, ...] = ()

    @property
    def depends_on_length(self) -> bool:
        """Whether a token's rotation depends on how many tokens follow it in its row."""
        return self.form in ("dynamic", "longrope")


@dataclass(frozen=True)
class Norm:
    """A normalisation over channels.

    Attributes:
        kind: "rms" (Zhang and Sennrich 2019) is scaled after rounding to the input's precision, "rms_float32" before,
            and "rms_plus_one" by 1 + weight before. "layer" (Ba et al. 2016) has a bias.
        epsilon: added to the mean square.
    """

    kind: Literal["rms", "rms_float32", "rms_plus_one", "layer"] = "rms"
    epsilon: float = 1e-6


@dataclass(frozen=True)
class Experts:
    """A mixture of MLPs (Shazeer et al. 2017): each token takes the `n_chosen` that its router likes best.

    Attributes:
        n: number of experts.
        n_chosen: how many a token takes.
        width: channels inside each.
        normalized: whether the chosen ones' probabilities are scaled to sum 1.
    """

    n: int
    n_chosen: int
    width: int
    normalized: bool


@dataclass(frozen=True)
class Outline:
    """What has to be known of any language model, also of one that this package did not write.

    Attributes:
        vocabulary: V.
        max_length: most tokens of a row.
    """

    vocabulary: int
    max_length: int

    @property
    def cached_length(self) -> int:
        """How long a row may grow with a cache."""
        return self.max_length


@dataclass(frozen=True)
class Architecture(Outline):
    """A decoder-only transformer.

    Attributes:
        vocabulary, width, n_layers, n_heads, n_kv_heads, head_width, mlp_width: sizes V, D, L, H, K, C, F.
        max_length: tokens of a row that positions exist for.
        norm: the kind of all normalisations.
        norm_before, norm_after: whether attention and MLP have a norm of their input, and one of their output.
        query_key_norm: of queries and keys before rotation, over each head or over all heads at once.
        activation, gated: of the MLP; gated multiplies by a second projection (Shazeer 2020).
        qkv_bias, output_bias, mlp_bias: which projections have biases.
        tied: the embedding is also the head.
        parallel: attention and MLP both read the layer's input, and both are added to it.
        embedding_scale: factor of the embedded tokens.
        residual_scale: factor of what attention and MLP add.
        logit_scale: factor of the logits, before a soft cap.
        score_scale: factor of the attention scores, by layer.
        score_softcap, logit_softcap: s of s * tanh(x / s), for scores and logits.
        windows: how many tokens a layer looks back, itself included; None for all.
        rotaries, rotary_of_layer: the rotary forms, and which of them each layer takes; none with learned positions.
        experts: a mixture in place of the MLP.
        init_scale: standard deviation of random weights.
    """

    width: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_width: int
    mlp_width: int
    norm: Norm
    score_scale: tuple[float, ...]
    windows: tuple[int | None, ...]
    rotaries: tuple[Rotary, ...]
    rotary_of_layer: tuple[int, ...]
    norm_before: bool = True
    norm_after: bool = False
    query_key_norm: Literal["head", "whole"] | None = None
    activation: Activation = "silu"
    gated: bool = True
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    tied: bool = False
    parallel: bool = False
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    score_softcap: float | None = None
    logit_softcap: float | None = None
    experts: Experts | None = None
    init_scale: float = 0.02

    @property
    def learned_positions(self) -> bool:
        """Whether positions are an embedding of their own instead of a rotation."""
        return not self.rotaries

    @property
    def cached_length(self) -> int:
        """How long a row may grow with a cache: as long as rotations do not depend on the length."""
        lengths = [rotary.original_length for rotary in self.rotaries if rotary.depends_on_length]
        return min([self.max_length, *lengths])
