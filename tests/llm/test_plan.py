"""What a plan says is what programs do: counts of compiled text, and the model without a compiler beside it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from llm_bridge.plan import counts

ROWS, INNER, OUT, TRIPS = 32, 64, 48, 7


def compiled(spec: PartitionSpec, function) -> counts.Counts:
    """On four devices, the matrix divided by the spec, the rows over all."""
    mesh = Mesh(np.array(jax.devices()[:4]), ("x",), axis_types=(AxisType.Auto,))
    x = jax.ShapeDtypeStruct((ROWS, INNER), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("x")))
    w = jax.ShapeDtypeStruct((INNER, INNER), jnp.float32, sharding=NamedSharding(mesh, spec))
    program = jax.jit(function, out_shardings=NamedSharding(mesh, PartitionSpec("x"))).lower(x, w).compile()
    return counts.counted(program.as_text() or "")


def test_a_loop_counts_as_often_as_it_goes_round() -> None:
    """Each trip multiplies a quarter of the rows; the matrix is gathered once, before the loop or in it."""

    def looped(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, TRIPS, lambda _, y: jnp.tanh(y @ w), x)

    found = compiled(PartitionSpec("x"), looped)
    assert found.flops == TRIPS * 2 * ROWS // 4 * INNER * INNER
    gathered = INNER * INNER * 4
    assert found.results["all-gather"] in (gathered, TRIPS * gathered)
    assert found.moved["all-gather"] == found.results["all-gather"] * 3 // 4
    assert found.unknown_loops == 0


def test_a_sum_over_devices_counts_twice_its_share() -> None:
    """A ring sends each part around once to add and once to tell."""

    def summed(x: jax.Array, w: jax.Array) -> jax.Array:
        return x * jnp.sum(x @ w)

    found = compiled(PartitionSpec(), summed)
    assert found.results["all-reduce"] == 4 and found.moved["all-reduce"] == 6
    assert found.flops == 2 * ROWS // 4 * INNER * INNER


def test_a_loop_of_unknown_length_is_counted_as_told() -> None:
    def until(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda y: jnp.max(y) < 9.0, lambda y: y @ w, x)

    mesh = Mesh(np.array(jax.devices()[:1]), ("x",))
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((ROWS, INNER), (INNER, INNER))]
    text = jax.jit(until).lower(*shapes).compile().as_text() or ""
    assert mesh.size == 1
    one, many = counts.counted(text), counts.counted(text, 5)
    assert (one.unknown_loops, many.flops, one.flops) == (1, 5 * one.flops, 2 * ROWS * INNER * INNER)


@pytest.mark.parametrize(
    ("line", "flops"),
    [
        ("bf16[8,32]{1,0} convolution(%a, %b), dim_labels=bf_io->bf", 2 * 8 * 16 * 32),
        # a batch of 4 products [8, 16] x [16, 32], as a TPU has it: a place of the window for each
        ("bf16[4,8,32]{2,1,0} convolution(%c, %d), window={size=4 stride=3 lhs_dilate=4}, dim_labels=0bf_0io->0bf",
         4 * 2 * 8 * 16 * 32),
    ],
)  # fmt: skip
def test_products_that_are_convolutions(line: str, flops: int) -> None:
    text = (
        "HloModule m\n\nENTRY %main (a: bf16[8,16]) -> bf16[8,32] {\n"
        "  %a = bf16[8,16]{1,0} parameter(0)\n  %b = bf16[16,32]{1,0} parameter(1)\n"
        "  %c = bf16[4,8,16]{2,1,0} parameter(2)\n  %d = bf16[4,16,32]{2,1,0} parameter(3)\n"
        f"  ROOT %r = {line}\n}}\n"
    )
    assert counts.counted(text).flops == flops
