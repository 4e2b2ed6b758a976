"""Two recordings of one source are equal: what differs from one start to the next is left out."""

import json
from pathlib import Path

from benchmarks.faults.golden_runs import differences, plain


def test_times_are_left_out_and_numbers_are_not(tmp_path: Path) -> None:
    row = {"loss": 2.0, "timing_s/update": 1.0, "seconds": {"solve": 3.0}, "tokens_per_second": 4.0}
    assert plain(row) == {"loss": 2.0}
    paths = [tmp_path / "one.json", tmp_path / "other.json"]
    for path, loss in zip(paths, (2.0, 2.0 + 1e-4), strict=True):
        path.write_text(json.dumps(plain(row | {"loss": loss})))
    assert not differences("train_mpo", [paths[0], paths[0]], ())
    (found,) = differences("train_mpo", paths, ())
    assert (found.path, found.within, found.why) == ("/loss", False, "")
