"""Folders as `bridge.save` writes them, for `make_golden.py --check FOLDER` to load with torch transformers.

    python -m tests.llm.save_for_torch FOLDER

Every case, loaded and saved again in several files with an index; and for every family a policy from its configuration
alone, beside the log-probabilities that it has here, which no stored value knows.
"""

import sys
from pathlib import Path

import jax
import numpy as np

import llm_bridge as bridge
from tests.llm.cases import CASES, FAMILIES, config_of, rows
from tests.llm.checkpoints import folder_of, padded, real

SHARD_BYTES = 20_000


def main() -> None:
    out = Path(sys.argv[1])
    for case in CASES:
        bridge.save(bridge.load(folder_of(out / "source", case)), out / case, shard_bytes=SHARD_BYTES)
    for i, family in enumerate(FAMILIES):
        config = config_of(family) | {"initializer_range": 0.2}
        policy = bridge.init(config, jax.random.key(i))
        bridge.save(policy, out / f"{family}_fresh")
        tokens, mask = padded(rows(family), [0, 0, 0], 40)
        np.save(out / f"{family}_fresh.npy", real(policy.log_probs(tokens, mask), mask))


if __name__ == "__main__":
    main()
