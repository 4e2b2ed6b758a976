"""A judge from any Python function of one pair.

    judge = PairFunction(lambda prompt, a, b: 0.5 + 0.5 * (len(a) < len(b)))

A function of whole lists is a judge as it is. What the function raises ends what asked it, as the cause of a
`llm_bridge.judges.JudgeError`: it is a mistake in the function, not a missing answer; for that it returns None or NaN.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from llm_bridge.judges import Prompt, Response, columns_for, name_of, numbers


@dataclass(frozen=True)
class PairFunction:
    """A judge that calls a function for each pair.

    Attributes:
        function: of a prompt and two responses; P(the first is preferred), True or False, or None for no answer.
            Further arguments by keyword are what the prompt's row has in the columns of their names.
        symmetric: whether f(x, a, b) = 1 - f(x, b, a) for all pairs; then each pair is asked in one order only.
    """

    function: Callable[..., float | bool | None]
    symmetric: bool = False

    @property
    def name(self) -> str:
        """The function's, for complaints."""
        return name_of(self.function)

    def __call__(
        self, prompts: Sequence[Prompt], a: Sequence[Response], b: Sequence[Response]
    ) -> Float[np.ndarray, " n"]:
        """[n] what the function answers for each pair, as float64; NaN where it returned None.

        Raises:
            BridgeError: the function returns something else than numbers and None.
        """
        columns, pairs = columns_for(self.function, prompts), enumerate(zip(prompts, a, b, strict=True))
        answers = [self.function(*pair, **{name: values[i] for name, values in columns.items()}) for i, pair in pairs]
        return numbers(self.name, answers)
