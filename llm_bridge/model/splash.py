"""Fused attention on TPUs: JAX's splash attention, a kernel of blocks, on each device for its own rows and heads.

What a query may see is told by three things, and no table of booleans is made: keys come no later than it in the
row, no earlier than the window, and belong to the same piece (`pieces`), which is 0 for padding. So a row's tokens
stand side by side, with padding before or after them, and several texts may be packed into a row.

Scores are float32, and the scale is put into the queries, which rounds them once. Padding sees padding and itself:
finite, and read by nobody. Elsewhere than on a TPU the kernel is interpreted, which is exact and slow. The kernel
counts in 32 bits, so it can be neither traced nor differentiated where JAX has 64 enabled.

Source: Dao 2023, "FlashAttention-2"; `jax.experimental.pallas.ops.tpu.splash_attention`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from llm_bridge.model import sharding

LANES = 128  # of a TPU's vector unit: lengths and channels are padded to a multiple
LARGEST_BLOCK = 512


def attend(
    mesh: Mesh,
    arrays: tuple[Float[Array, "B T K G C"], Float[Array, "B K S C"], Float[Array, "B K S C"]],
    pieces: tuple[Int[Array, "B T"], Int[Array, "B S"]],
    softcap: float | None,
    window: int | None,
) -> Float[Array, "B T K G C"]:
    """Attention of the last T of S tokens to all of them.

    Args:
        mesh: that rows and heads are divided over.
        arrays: queries, scaled, keys and values.
        pieces: which text each query and each key belongs to; 0 for padding.
        softcap: of the scores; None for none.
        window: the newest tokens that a query sees, itself included; None for all.
    """
    query, key, value = arrays
    length, n_slots, channels = query.shape[1], key.shape[2], query.shape[-1]
    by_head = jnp.transpose(query, (0, 2, 3, 1, 4)).reshape(query.shape[0], -1, length, channels)
    block_q, block_kv = block(length), block(n_slots)
    parts = [_padded(by_head, 2, block_q), *(_padded(part, 2, block_kv) for part in (key, value))]
    parts = [_padded(part, 3, LANES) for part in parts]
    ids = _padded(pieces[0], 1, block_q), _padded(pieces[1], 1, block_kv)
    over = tuple(name for name in sharding.ROWS if name in mesh.axis_names) or None
    heads, by_row = sharding.rows(mesh, 4, heads_at=1).spec, PartitionSpec(over)

    def of_device(query: Array, key: Array, value: Array, *ids: Array) -> Array:
        kernel = _kernel((query.shape[1], query.shape[2], key.shape[2]), n_slots - length, softcap, window, mesh)
        return jax.vmap(kernel)(query, key, value, _library().SegmentIds(*ids))

    if mesh.size > 1:
        specs = (heads, heads, heads, by_row, by_row)
        of_device = jax.shard_map(of_device, mesh=mesh, in_specs=specs, out_specs=heads, check_vma=False)
    out = of_device(*parts, *ids)[:, :, :length, :channels]
    out = out.reshape(query.shape[0], query.shape[2], query.shape[3], length, channels)
    return jnp.transpose(out, (0, 3, 1, 2, 4))


def block(length: int) -> int:
    """Tokens of a block: as many as divide the padded length, up to `LARGEST_BLOCK`."""
    padded = -(-length // LANES) * LANES
    return math.gcd(padded, LARGEST_BLOCK)


def _kernel(shape: tuple[int, int, int], offset: int, softcap: float | None, window: int | None, mesh: Mesh):
    """The kernel for these numbers of heads, queries and keys; `offset` tokens come before the first query."""
    library, (n_heads, length, n_slots) = _library(), shape
    size = (length, n_slots)
    mask = (
        library.CausalMask(size, offset=offset)
        if window is None
        else library.LocalMask(size, window_size=(window - 1, 0), offset=offset)
    )
    q, kv = block(length), block(n_slots)
    sizes = library.BlockSizes(
        block_q=q, block_kv=kv, block_kv_compute=kv, block_q_dkv=q, block_kv_dkv=kv, block_kv_dkv_compute=kv,
        block_q_dq=q, block_kv_dq=kv,
    )  # fmt: skip
    return library.make_splash_mha_single_device(
        library.MultiHeadMask([mask] * n_heads),
        block_sizes=sizes,
        attn_logits_soft_cap=softcap,
        interpret=mesh.devices.flat[0].platform != "tpu",
    )


def _library() -> Any:
    """Imported where it is used: elsewhere nothing needs kernels."""
    from jax.experimental.pallas.ops.tpu import splash_attention

    return splash_attention


def _padded(array: Array, axis: int, multiple: int) -> Array:
    short = -array.shape[axis] % multiple
    return array if not short else jnp.pad(array, [(0, short * (i == axis)) for i in range(array.ndim)])
