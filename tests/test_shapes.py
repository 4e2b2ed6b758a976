"""The suite checks shapes, dtypes and types of all that it calls, results too."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import pytest
from beartype.roar import BeartypeCallHintParamViolation, BeartypeCallHintReturnViolation
from jaxtyping import Array, Float

from mmd.update import magnetic_step
from tests.shapes import checked

POLICY = jnp.zeros(3)


@pytest.mark.parametrize(
    ("payoff", "eta", "parameter"),
    [(jnp.zeros(4), 0.1, "payoff"), (jnp.zeros(3, int), 0.1, "payoff"), (POLICY, "0.1", "eta")],
    ids=["shape", "dtype", "type"],
)
def test_a_wrong_argument_of_the_packages_is_refused(payoff: Any, eta: Any, parameter: str) -> None:
    with pytest.raises(BeartypeCallHintParamViolation, match=rf"mmd\.update\.magnetic_step.* {parameter}="):
        magnetic_step(POLICY, POLICY, payoff, eta, 0.1)


def test_a_wrong_result_is_refused() -> None:
    @checked
    def half(x: Float[Array, " n"]) -> Float[Array, " n"]:
        return x[: len(x) // 2]

    with pytest.raises(BeartypeCallHintReturnViolation, match=r"half.* dimension n is 1 .* existing value of 3"):
        half(POLICY)


def test_sizes_of_one_call_are_unknown_to_the_next() -> None:
    @checked
    def same(x: Float[Array, " n"], y: Float[Array, " n"]) -> Float[Array, " n"]:
        return x + y

    @checked
    def both(x: Float[Array, " n"]) -> Float[Array, " n"]:
        same(x[1:], x[1:])
        return x

    assert [len(both(jnp.zeros(n))) for n in (3, 5)] == [3, 5]
    with pytest.raises(BeartypeCallHintParamViolation, match=r"same.* y="):
        same(POLICY, POLICY[1:])


def test_fields_of_a_dataclass_agree() -> None:
    @checked
    @dataclass
    class Pair:
        x: Float[Array, " n"]
        y: Float[Array, " n"]

    assert Pair(POLICY, POLICY).x is POLICY
    with pytest.raises(BeartypeCallHintParamViolation, match=r"Pair.* y="):
        Pair(POLICY, POLICY[1:])
