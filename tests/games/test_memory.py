"""The memory estimate, and labels that are worked out when asked for."""

import math
import pickle
import tracemalloc

import pytest

import games
from games import memory
from games.labels import LazyLabels


@pytest.mark.parametrize(
    ("spec", "payoffs"), [("liars_dice:faces=6", 4_095 * 36), ("goofspiel:cards=6", math.factorial(6) ** 2)]
)
def test_the_estimate_is_what_building_takes(spec, payoffs):
    games.load(spec)  # what is allocated once and for all
    tracemalloc.start()
    games.load(spec)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.8 * memory.BYTES_PER_PAYOFF * payoffs <= peak <= memory.BYTES_PER_PAYOFF * payoffs


def test_a_container_may_allow_less_than_the_machine_has(tmp_path, monkeypatch):
    machine = memory.machine_memory()
    limit, none = tmp_path / "limit", tmp_path / "none"
    limit.write_text("1048576\n")
    none.write_text("max\n")
    monkeypatch.setattr(memory, "CONTAINER_LIMITS", (str(none), str(tmp_path / "missing")))
    assert memory.machine_memory() >= machine > 2**20
    monkeypatch.setattr(memory, "CONTAINER_LIMITS", (str(none), str(limit)))
    assert memory.machine_memory() == 2**20


def test_lazy_labels_are_a_sequence():
    """They read like the tuple of all labels, and work out only what is read."""
    worked_out = []

    def label(j: int) -> str:
        worked_out.append(j)
        return f"I{j}"

    lazy = LazyLabels(10**12, label)
    assert (len(lazy), lazy[7], lazy[-1], list(lazy[2:9:3])) == (10**12, "I7", f"I{10**12 - 1}", ["I2", "I5", "I8"])
    assert worked_out == [7, 10**12 - 1, 2, 5, 8]
    assert tuple(LazyLabels(3, label)) == ("I0", "I1", "I2")
    with pytest.raises(IndexError):
        lazy[10**12]


def test_games_with_lazy_labels_can_be_sent_to_a_worker():
    game = games.load("liars_dice:faces=3")
    again = pickle.loads(pickle.dumps(game))
    assert list(again.description.labels[1].infosets) == list(game.description.labels[1].infosets)
