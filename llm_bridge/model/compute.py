"""How a policy computes: precision, what the backward pass keeps, the form of attention."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.attention import Implementation

PRECISIONS = ("float32", "bfloat16", "float16")
Remat = Literal["none", "layer", "projections"]


@dataclass(frozen=True)
class Compute:
    """How a policy computes; nothing here changes the mathematics.

    Attributes:
        dtype: precision of activations, "float32", "bfloat16" or "float16"; None for the weights' own.
        remat: what the backward pass recomputes instead of keeping: nothing, all but the input of each layer, or all
            but the results of projections.
        attention: the form of attention; "auto" takes the fused one where the device has it.
        unroll: how many layers a step of the scan holds.

    Raises:
        BridgeError: an attribute is none of these.
    """

    dtype: Any = None
    remat: Remat = "projections"
    attention: Implementation = "auto"
    unroll: int = 1

    def __post_init__(self) -> None:
        """Checks, and the precision by its name."""
        if self.dtype is not None:
            object.__setattr__(self, "dtype", precision(self.dtype))
        for name, known in (("remat", get_args(Remat)), ("attention", get_args(Implementation))):
            if getattr(self, name) not in known:
                raise BridgeError(f"expected {name} to be {' or '.join(known)}, got {getattr(self, name)!r}")
        if not isinstance(self.unroll, int) or self.unroll < 1:
            raise BridgeError(f"expected unroll to be a number of layers >= 1, got {self.unroll!r}")


def precision(dtype: Any) -> str:
    """The name of a precision that policies compute in.

    Raises:
        BridgeError: it is none.
    """
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = ""
    if name not in PRECISIONS:
        raise BridgeError(f"expected a dtype among {', '.join(PRECISIONS)}, got {dtype!r}")
    return name
