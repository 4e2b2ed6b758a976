"""The suite checks shapes, dtypes and types of all that it calls, results too."""

from typing import Any

import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float, TypeCheckError, jaxtyped

from mmd.update import magnetic_step
from tests.shapes import checked

POLICY = jnp.zeros(3)


@pytest.mark.parametrize(
    ("payoff", "eta", "parameter"),
    [(jnp.zeros(4), 0.1, "payoff"), (jnp.zeros(3, int), 0.1, "payoff"), (POLICY, "0.1", "eta")],
    ids=["shape", "dtype", "type"],
)
def test_a_wrong_argument_of_the_packages_is_refused(payoff: Any, eta: Any, parameter: str) -> None:
    with pytest.raises(TypeCheckError, match=rf"mmd\.update\.magnetic_step.*\n?.*'{parameter}'"):
        magnetic_step(POLICY, POLICY, payoff, eta, 0.1)


def test_a_wrong_result_is_refused() -> None:
    @jaxtyped(typechecker=checked)
    def half(x: Float[Array, " n"]) -> Float[Array, " n"]:
        return x[: len(x) // 2]

    with pytest.raises(TypeCheckError, match=r"return value of .*half"):
        half(POLICY)
