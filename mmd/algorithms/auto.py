"""Auto, the default: it names no method but asks `mmd.solve` to choose one, and the solution says which.

`mmd.solving.automatic` has the rule: the interior point (`interior`) on the host where its factors are affordable; else
a few iterations of regret minimisation and then restarted primal-dual steps (`restarted`), compiled. Neither is
magnetic mirror descent: for a last iterate of that ask for `mmd`, `mpo` or `anchored`.

With numbers of its own, or traced inside a program of the user, it is `restarted`.

Proven: nothing of its own. What makes the answer safe is its certificate.
"""

from dataclasses import dataclass, fields
from typing import ClassVar

import jax

from mmd.algorithms.restarted import Restarted


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Auto(Restarted):
    """The default: the method that is likely the quickest on this game; returns the best certified policy met."""

    name: ClassVar[str] = "auto"

    @property
    def steps(self) -> Restarted:
        """The compiled method with these numbers: what it is where steps are traced, and nothing else can be chosen."""
        return Restarted(**{field.name: getattr(self, field.name) for field in fields(self)})


ALGORITHM = Auto
