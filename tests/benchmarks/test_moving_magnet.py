"""What docs/how-to/choose-an-algorithm.md says of annealed and moving magnets is what is stored."""

import json

from benchmarks.claims import moving_magnet
from benchmarks.report import RESULTS

PAGE = (RESULTS.parents[1] / "docs" / "how-to" / "choose-an-algorithm.md").read_text("utf-8")
STORED = json.loads((RESULTS / "moving_magnet.json").read_text("utf-8"))


def test_the_table_is_that_of_the_stored_numbers() -> None:
    for row in moving_magnet.rows(STORED["results"]):
        assert row in PAGE.splitlines()


def test_the_advice_for_leduc_poker_is_what_was_measured() -> None:
    leduc = STORED["results"]["leduc_poker"]
    largest = {word: one["largest_late"] for word, one in leduc.items()}
    default, mpo = largest["mmd-behavioral"], largest["mpo"]
    behavioral, constant = (
        sorted(largest[word] for word in moving_magnet.ON_LEDUC if word.startswith(name))
        for name in ("mmd-behavioral:", "mmd:")
    )
    assert [len(behavioral), len(constant)] == [10, 7]
    assert mpo < default < behavioral[0] < constant[0]
    said = (default, STORED["long"]["largest_late"], mpo, leduc["mpo"]["exploitability_after"]["10000"])
    for number in (*said, behavioral[0], behavioral[-1], constant[0], constant[-1]):
        assert f" {number:.1e}" in PAGE
