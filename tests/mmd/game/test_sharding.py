"""A mesh of devices changes where numbers are computed, and nothing else: the same iterates, and payoffs that stay.

Eight pretended devices in this process, and two processes of four that talk over the loopback.
"""

import functools
import math
import re
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import games
import mmd
from mmd.command.cli import main
from mmd.game import game as game_module
from mmd.game import sharding
from mmd.game.game import Game, Pair
from mmd.game.payoff import Buckets, Sparse
from mmd.game.sharding import Placement, ShardedTreeplex, flat, settled
from tests.processes import JOIN, run_two

FIXED = mmd.MagneticMirrorDescent(eta=0.1, alpha=0.1)
STEPS = 100
FLOAT64 = np.dtype(np.float64)


def mesh_of(n: int) -> Mesh:
    return Mesh(np.array(jax.devices()[:n]), ("devices",))


def advance(algorithm: mmd.Algorithm, game: Game, start: Pair) -> Pair:
    """The last iterate after `STEPS` steps."""
    state = settled(game, algorithm.init(game, start))
    state = jax.lax.fori_loop(0, STEPS, lambda _, s: settled(game, algorithm.step(game, s)), state)
    return state.iterate.log_policy


class Run(NamedTuple):
    """A game where it is placed, the program that advances on it, and the log-policies that come out."""

    game: Game
    program: str
    log_policy: Pair


def run(game: Game, place: Placement) -> Run:
    uniform = tuple(player.uniform() for player in game.players)
    placed = place.game(game)
    # Leaves, not pytrees: `lower` rebuilds its arguments with descriptions in them, which are no arrays.
    leaves, tree = jax.tree.flatten((place.whole(FIXED.resolve(game)), placed, place.whole(uniform)))
    program = jax.jit(lambda *leaves: advance(*jax.tree.unflatten(tree, leaves))).lower(*leaves).compile()
    return Run(placed, program.as_text() or "", program(*leaves))


@functools.cache
def on_one_device(spec: str) -> Run:
    return run(games.load(spec), Placement(FLOAT64))


def collectives(program: str) -> set[tuple[str, tuple[int, ...]]]:
    """Kind and shape of the result of everything that moves data between devices."""
    found = re.findall(r"\w+\[([\d,]*)\]\S* (all-[\w-]+|collective-[\w-]+|reduce-scatter)\(", program)
    return {(kind, tuple(int(n) for n in shape.split(",") if n)) for shape, kind in found}


# -------------------------------------------------------------------- one process, eight devices


@pytest.mark.parametrize(("spec", "rows_per_device"), [("leduc_poker", 1_024), ("liars_dice:faces=4", 4)])
def test_eight_devices_iterate_as_one(spec: str, rows_per_device: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 steps with fixed numbers agree to 1e-12; each device holds an eighth of the payoffs, which never move.

    Leduc poker's sweeps are too small to be divided; those of liar's dice are made to be.
    """
    monkeypatch.setattr(sharding, "ROWS_PER_DEVICE", rows_per_device)
    game = games.load(spec)
    alone = on_one_device(spec)
    divided = run(game, Placement(FLOAT64, flat(jax.make_mesh((4, 2), ("hosts", "chips")))))
    for ours, theirs in zip(divided.log_policy, alone.log_policy, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12, rtol=0)

    payoff = divided.game.payoff
    buckets = [*payoff.by_row.buckets, *payoff.by_column.buckets]
    arrays = [array for bucket in buckets for array in bucket]
    held = {device: 0 for device in jax.devices()}
    for array in arrays:
        for shard in array.addressable_shards:
            held[shard.device] += shard.data.nbytes
    assert set(held.values()) == {sum(array.nbytes for array in arrays) // 8}
    host = sum(a.nbytes for b in (game.payoff.by_row, game.payoff.by_column) for bucket in b.buckets for a in bucket)
    assert sum(held.values()) <= 1.05 * host  # the empty rows

    moved = collectives(divided.program)
    assert {kind for kind, _ in moved} == {"all-gather"}
    assert not {shape for _, shape in moved} & {array.shape for array in arrays}
    assert max(math.prod(shape) for _, shape in moved) < max(array.size for array in arrays)
    assert not collectives(alone.program)
    if rows_per_device < 1_024:
        assert ("all-gather", (280, 5)) in moved  # the policies of a group, of which each device computed 35
        assert re.search(r"f64\[35,5\]\S* \S*fusion\(", divided.program)


def random_rows(seed: int, shape: tuple[int, int]) -> np.ndarray:
    """A matrix with empty rows and rows of many lengths, one of them full."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=shape) * (rng.random(shape) < rng.random((shape[0], 1)) ** 2)
    matrix[rng.integers(shape[0], size=3)] = 0
    matrix[rng.integers(shape[0])] = rng.normal(size=shape[1])
    return matrix


@pytest.mark.parametrize(("n_devices", "shape"), [(3, (61, 30)), (8, (5, 12))])
def test_products_on_a_mesh_are_products(n_devices: int, shape: tuple[int, int]) -> None:
    """Sparse and dense, both ways, with numbers of rows that no number of devices divides."""
    place = Placement(FLOAT64, flat(mesh_of(n_devices)))
    matrix = random_rows(n_devices, shape)
    rows, columns = np.nonzero(matrix)
    values = matrix[rows, columns]
    sparse = Sparse(Buckets.build(rows, columns, values, shape[0]), Buckets.build(columns, rows, values, shape[1]))
    players = tuple(mmd.game.treeplex.Treeplex.simplex(n - 1) for n in shape)
    rng = np.random.default_rng(n_devices)
    x, y = rng.normal(size=shape[0]), rng.normal(size=shape[1])
    for payoff in (sparse, game_module.Dense(matrix)):
        game = Game(players, payoff, game_module.Description("random", 1.0))
        on_mesh = place.game(game).payoff
        for operator, dense in ((on_mesh, matrix), (on_mesh.absolute(), np.abs(matrix))):
            np.testing.assert_allclose(jax.jit(lambda a, v: a.times(v))(operator, y), dense @ y, rtol=0, atol=1e-12)
            transposed = jax.jit(lambda a, v: a.transposed_times(v))(operator, x)
            np.testing.assert_allclose(transposed, dense.T @ x, rtol=0, atol=1e-12)
        for ours, theirs in zip(on_mesh.entries(), game.payoff.entries(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def sparse_kuhn(monkeypatch: pytest.MonkeyPatch) -> Game:
    """Kuhn poker with a sparse operator, and sweeps that two devices divide."""
    monkeypatch.setattr(game_module, "DENSE_CELLS", 0)
    monkeypatch.setattr(game_module, "DENSE_SHARE", 2.0)
    monkeypatch.setattr(sharding, "ROWS_PER_DEVICE", 1)
    return games.load("kuhn_poker")


def test_the_default_converges_on_a_mesh_and_resumes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Kuhn poker is worth -1/18 on three devices as well; a run that was stopped goes on bit for bit."""
    game, mesh = sparse_kuhn(monkeypatch), mesh_of(3)
    assert isinstance(game.payoff, Sparse)
    whole = mmd.solve(game, tolerance=1e-9, polish=False, mesh=mesh)
    assert whole.converged
    np.testing.assert_allclose(whole.value, -1 / 18, rtol=0, atol=1e-9)
    kept = tmp_path / "kuhn.npz"
    mmd.solve(game, tolerance=1e-9, polish=False, mesh=mesh, max_iterations=100, checkpoint=kept)
    resumed = mmd.solve(game, tolerance=1e-9, polish=False, mesh=mesh, checkpoint=kept, resume=True)
    assert resumed.iterations == whole.iterations > 100
    for ours, theirs in zip(resumed.policy.probabilities, whole.policy.probabilities, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    polished = mmd.solve(game, tolerance=1e-13, mesh=mesh)
    assert polished.iterate == "polished"
    np.testing.assert_allclose(polished.value, -1 / 18, rtol=0, atol=1e-13)


def test_sweeps_that_are_scanned_or_padded_are_divided_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prox of a tree with three numbers of actions in one level, in a loop over levels on six devices."""
    monkeypatch.setattr(sharding, "ROWS_PER_DEVICE", 1)
    monkeypatch.setattr(mmd.game.treeplex, "MAX_UNROLLED_LEVELS", 0)
    parent, n_actions = np.array([0] * 7 + [1, 2, 3, 5, 8, 8, 9, 9]), np.array([2, 3, 4, 2, 3, 4, 1] + [2, 3] * 4)
    player = mmd.game.treeplex.Treeplex.build(parent, n_actions)[0]
    mesh = flat(mesh_of(6))
    on_mesh = ShardedTreeplex(**vars(player), mesh=mesh)
    rng = np.random.default_rng(0)
    policy, magnet = (player.normalized(jnp.asarray(rng.normal(size=player.n_sequences))) for _ in range(2))
    arguments = (policy, magnet, jnp.asarray(rng.normal(size=player.n_sequences)), 0.3, 0.7, jnp.ones(15))
    step = jax.jit(on_mesh.magnetic_step).lower(*arguments).compile()
    np.testing.assert_allclose(step(*arguments), player.magnetic_step(*arguments), rtol=0, atol=1e-14)
    np.testing.assert_allclose(jax.jit(on_mesh.top_down)(policy), player.top_down(policy), rtol=0, atol=1e-15)
    plan, weights = player.top_down(policy), jnp.asarray(rng.random(player.n_sequences))
    divergence = jax.jit(on_mesh.bregman)(plan, policy, magnet, weights)
    np.testing.assert_allclose(divergence, player.bregman(plan, policy, magnet, weights), rtol=1e-13)
    assert {kind for kind, _ in collectives(step.as_text() or "")} == {"all-gather"}


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        ("--device cpu --devices 3 --tolerance 1e-9", 0, ""),
        ("--devices 9", 2, "expected --devices from 1 to 8: there are 8 cpu devices here, got 9"),
        ("--devices 0", 2, "expected --devices from 1 to 8"),
        ("--device cpu:1 --devices 2", 2, "expected --device cpu, gpu or tpu, got cpu:1"),
    ],
)
def test_the_command_takes_or_refuses_a_number_of_devices(
    words: str, status: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["solve", "preference:cycle", *words.split()]) == status
    said = capsys.readouterr()
    assert "0.363636  a" in said.out if status == 0 else sentence in said.err


# -------------------------------------------------------------------- batches


def test_a_batch_over_devices_is_64_single_runs() -> None:
    """64 regularizations in one vmap, eight on a device, each as if alone."""
    game, alphas = games.load("kuhn_poker"), np.geomspace(0.05, 1.0, 64)
    on_device, start = game.astype(jnp.float64), tuple(jnp.asarray(player.uniform()) for player in game.players)

    def final(alpha: jax.Array) -> Pair:
        return advance(mmd.MagneticMirrorDescent(eta=0.1, alpha=alpha), on_device, start)

    divided = jax.device_put(alphas, NamedSharding(mesh_of(8), PartitionSpec("devices")))
    together, alone = jax.jit(jax.vmap(final))(divided), jax.jit(final)
    assert {shard.data.shape for shard in together[0].addressable_shards} == {(8, game.row.n_sequences)}
    for i, alpha in enumerate(alphas):
        for ours, theirs in zip(together, alone(alpha), strict=True):
            np.testing.assert_allclose(ours[i], theirs, atol=1e-12, rtol=0)


# -------------------------------------------------------------------- two processes of four devices

WORKER = """
folder = sys.argv[3]
import numpy as np
import games, mmd
from mmd.game import game, sharding

mesh = jax.make_mesh((8,), ("devices",))
assert mesh.is_multi_process and len(jax.local_devices()) == 4
with jax.enable_x64(True):
    payoff = sharding.Placement(np.dtype(float), sharding.flat(mesh)).game(games.load("leduc_poker")).payoff
assert all(len(b.values.addressable_shards) == 4 for b in payoff.by_row.buckets)
fixed = mmd.MagneticMirrorDescent(eta=0.1, alpha=0.1)
for spec in ("leduc_poker", "kuhn_poker"):
    solution = mmd.solve(games.load(spec), fixed, tolerance=0.0, max_iterations=100, check_every=50, mesh=mesh)
    np.savez(f"{folder}/{spec}-{process}.npz", *solution.policy.probabilities)
    game.DENSE_CELLS, game.DENSE_SHARE, sharding.ROWS_PER_DEVICE = 0, 2.0, 0  # Kuhn poker: sparse, all sweeps divided
cycle, kept = games.load("preference:cycle"), f"{folder}/auto.npz"
solution = mmd.solve(cycle, tolerance=1e-9, time_limit=300, mesh=mesh, checkpoint=kept)
assert solution.converged, solution.status
again = mmd.solve(cycle, tolerance=1e-9, time_limit=300, mesh=mesh, checkpoint=kept, resume=True)
assert again.converged and again.iterations == solution.iterations
np.savez(f"{folder}/auto-{process}.npz", *again.policy.probabilities)
try:
    mmd.solve(cycle, mesh=jax.devices())
except mmd.GameError as error:
    assert "expected a jax.sharding.Mesh, such as" in str(error)
"""


def test_two_processes_iterate_as_one_device(tmp_path: Path) -> None:
    """Over gloo: 100 steps agree with one device to 1e-12, in both processes bit for bit; the default converges."""
    done = run_two(JOIN + WORKER, tmp_path)
    assert [status for status, _ in done] == [0, 0], done
    for spec in ("kuhn_poker", "leduc_poker"):
        expected = [np.exp(log_policy) for log_policy in on_one_device(spec).log_policy]
        first, second = (np.load(tmp_path / f"{spec}-{process}.npz") for process in range(2))
        for player in ("arr_0", "arr_1"):
            np.testing.assert_array_equal(first[player], second[player])
            np.testing.assert_allclose(first[player], expected[int(player[-1])], atol=1e-12, rtol=0)
    first, second = (np.load(tmp_path / f"auto-{process}.npz") for process in range(2))
    np.testing.assert_array_equal(first["arr_0"], second["arr_0"])
