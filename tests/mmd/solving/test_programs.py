"""Compiled programs on disk: the same numbers without tracing, and nothing else is ever taken for the program."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from mmd.solving import programs

X = np.linspace(0.0, 1.0, 7)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of JAX's, switched on as the command does it; where the programs are."""
    monkeypatch.delenv(programs.SWITCH)
    monkeypatch.setattr(programs, "KNOWN", programs.KNOWN | {__name__.partition(".")[0]})
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield tmp_path / programs.FOLDER
    jax.config.update("jax_compilation_cache_dir", before[0])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", before[1])
    compilation_cache.reset_cache()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scaled:
    """A pytree with a number that is traced, and something static."""

    by: Any
    power: Any = dataclasses.field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Checked(Scaled):
    """The same, made of nothing but a number or an array."""

    def __post_init__(self) -> None:
        assert isinstance(self.by, np.float64 | jax.Array), self.by


def counted() -> tuple[Callable[..., Any], list[int]]:
    """A jitted function as a new process would have it, and how often it was traced."""
    traces = [0]

    @jax.jit
    def powers(scaled: Scaled, x: jax.Array) -> jax.Array:
        traces[0] += 1
        return jnp.sin(scaled.by * x) ** scaled.power

    return powers, traces


def called(scaled: Scaled, x: np.ndarray) -> tuple[np.ndarray, int]:
    """The result in a process that starts now, and how often it traced."""
    function, traces = counted()
    result = np.asarray(programs.ready(function, scaled, x)(scaled, x))
    return result, traces[0]


def test_a_program_that_is_kept_is_not_traced_again_and_gives_the_same_bits(folder: Path) -> None:
    first, traces = called(Scaled(np.float64(2.0), 3), X)
    assert traces == 1
    again, traces = called(Scaled(np.float64(2.0), 3), X)
    assert traces == 0
    np.testing.assert_array_equal(again, first)
    other, traces = called(Scaled(np.float64(0.5), 3), X)  # another number: the same program
    assert traces == 0
    np.testing.assert_allclose(other, np.sin(0.5 * X) ** 3, rtol=1e-14, atol=0)


def test_shapes_static_parts_source_and_settings_are_part_of_the_key(folder: Path, monkeypatch) -> None:
    scaled = Scaled(np.float64(2.0), 3)
    called(scaled, X)
    result, traces = called(dataclasses.replace(scaled, power=2), X)
    assert traces == 1
    np.testing.assert_allclose(result, np.sin(2 * X) ** 2, rtol=1e-14, atol=0)
    assert called(scaled, X[:3])[1] == called(scaled, X.astype(np.float32).astype(np.float64)[:2])[1] == 1
    for what, value in (("_source", lambda: b"edited"), ("_processor", lambda: "another")):
        with monkeypatch.context() as patch:
            patch.setattr(programs, what, value)
            assert called(scaled, X)[1] == 1
    monkeypatch.setenv("XLA_FLAGS", "--xla_another_flag")
    assert called(scaled, X)[1] == 1


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "writable by others"])
def test_what_cannot_be_trusted_is_compiled_anew(folder: Path, damage: str) -> None:
    scaled = Scaled(np.float64(2.0), 3)
    expected, _ = called(scaled, X)
    (path,) = folder.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    match damage:
        case "flipped":
            path.write_bytes(content)
        case "truncated":
            path.write_bytes(path.read_bytes()[:-100])
        case "empty":
            path.write_bytes(b"")
        case _:
            path.chmod(0o666)
    result, traces = called(scaled, X)
    assert traces == 1
    np.testing.assert_array_equal(result, expected)
    assert called(scaled, X)[1] == 0  # and the place is good again


def test_what_another_process_would_not_know_is_left_to_jax(folder: Path) -> None:
    function, _ = counted()
    assert programs.ready(function, Scaled(np.float64(2.0), lambda: 3), X) is function
    assert not folder.exists()


def test_other_platforms_are_left_to_jax(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(programs, "PLATFORMS", ("tpu",))
    function, _ = counted()
    assert programs.ready(function, Scaled(np.float64(2.0), 3), X) is function


def test_a_program_that_cannot_be_written_still_runs(folder: Path, monkeypatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("this runtime serializes nothing")

    monkeypatch.setattr(programs.serialize_executable, "serialize", refuse)
    result, traces = called(Scaled(np.float64(2.0), 3), X)
    assert traces == 1
    np.testing.assert_allclose(result, np.sin(2 * X) ** 3, rtol=1e-14, atol=0)


def test_nothing_is_kept_where_jax_keeps_nothing(folder: Path) -> None:
    jax.config.update("jax_compilation_cache_dir", None)
    function, _ = counted()
    assert programs.ready(function, Scaled(np.float64(2.0), 3), X) is function


def test_the_environment_can_switch_it_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(programs.SWITCH, "off")
    function, _ = counted()
    assert programs.ready(function, Scaled(np.float64(2.0), 3), X) is function
    assert not folder.exists()


def test_arguments_that_check_what_they_are_made_of_are_kept_like_others(folder: Path) -> None:
    """As every class of this package does under jaxtyping's import hook: JAX may put nothing else in their fields."""
    for expected in (1, 0):
        result, traces = called(Checked(np.float64(2.0), 3), X)
        assert traces == expected
        np.testing.assert_allclose(result, np.sin(2 * X) ** 3, rtol=1e-14, atol=0)


SOLVE = """
import sys
import games, mmd
def forbidden(*_):
    raise AssertionError("traced")
if "again" in sys.argv:
    mmd.MagneticMirrorDescent.init = mmd.MagneticMirrorDescent.step = mmd.MagneticMirrorDescent.policy = forbidden
found = mmd.solve(games.load("preference:cycle"), mmd.MagneticMirrorDescent(eta=0.3, alpha=0.2), max_iterations=300)
print([x.hex() for p in found.policy.probabilities for x in p], [x.hex() for x in found.trace["nash_conv"]])
"""


def test_a_solution_by_kept_programs_is_the_same_to_the_last_bit_and_traces_nothing(tmp_path: Path) -> None:
    settings = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", programs.SWITCH))}
    said = [
        subprocess.run(
            [sys.executable, "-c", SOLVE, when],
            cwd=Path(__file__).resolve().parents[3],
            env=clean | settings,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for when in ("first", "again")
    ]
    assert said[0] == said[1] != ""
    assert sorted(p.name.split("-")[0] for p in (tmp_path / programs.FOLDER).iterdir()) == ["advance", "init"]


def test_a_program_with_code_from_outside_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its source may change and the key would not: a program of yesterday's source would be taken for today's."""
    powers, _ = counted()
    scaled = Scaled(np.float64(2.0), 3)
    assert programs.ready(powers, scaled, X) is not powers
    monkeypatch.setattr(programs, "KNOWN", programs.KNOWN - {__name__.partition(".")[0]})
    assert programs.ready(powers, scaled, X) is powers
