"""Checkpoints: all that a run has to remember, in one file that is whole or refused.

The file is an NPZ archive without pickle: an array for each leaf of the algorithm's state and of its candidate, the
trace, the polished policy if there is one, and `run.json`: what the host keeps, and which run it is of (game, start
and given policies by SHA-256, algorithm, numbers, precision). Its comment, the last 32 bytes, is the SHA-256 of all
bytes before.

A new checkpoint is written beside the old one, synced and renamed over it, so a process that is killed at any instant
leaves the last good one. While a run writes it, it is locked, so that two processes never write the same one in turns
(`mmd.host.folder_lock`). Between two chunks of iterations a run is nothing but a `Reached`, and where chunks end
influences no number; so a run that goes on from a checkpoint repeats bit for bit what it would have done, on the same
machine with the same versions and devices.
"""

import hashlib
import json
import logging
import os
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmd.algorithms.contract import Algorithm, Candidate, describe
from mmd.game.game import Game, HostPair
from mmd.game.policy import Policy
from mmd.game.sharding import Placement
from mmd.host.files import OutputError, discard_parts, prepare_file, replacing
from mmd.host.folder_lock import FolderLock
from mmd.host.interruption import INTERRUPTION
from mmd.measure.certificate import certify
from mmd.measure.solution import TRACE_COLUMNS, Certified

LAYOUT = 3  # raised whenever the same arrays mean something else
SECONDS_BETWEEN = 2.0
WRITING_SHARE = 0.01  # of the time that a run takes
DIGEST_BYTES = 32
BLOCK_BYTES = 1 << 20
HASHED = "sha256:"
LOGGER = logging.getLogger("mmd")

Rows = list[dict[str, float]]  # each in the order of TRACE_COLUMNS


class CheckpointError(ValueError):
    """A checkpoint is damaged or of another run; the message says what differs."""


class Reached(NamedTuple):
    """What a run has reached between two chunks; never changed, only replaced.

    Attributes:
        state: the algorithm's.
        candidate: the policy that would be returned now.
        rows: how many rows of the trace belong to it.
        seconds: {"compile", "solve"}, of all processes so far.
        tolerance: exploitability asked for; -1 if none was.
        target: exploitability at which the certificate is asked next; below the tolerance once it has disagreed.
        polish_at: exploitability at which the polish is tried next.
        polished: the best polished policy.
        polish_report: what `Solution.polish` will say if there was a try.
    """

    state: Any
    candidate: Candidate
    rows: int
    seconds: dict[str, float]
    tolerance: float
    target: float
    polish_at: float
    polish_report: dict[str, Any]
    polished: Certified | None = None


HOST_FIELDS = ("rows", "seconds", "tolerance", "target", "polish_at", "polish_report")


class Checkpoint:
    """The checkpoint of one run: where it is, what it must be of, and when the next one is due."""

    def __init__(self, path: Path, of: str, identity: dict[str, Any]) -> None:
        self.path, self.of, self.identity = path, of, identity
        self.lock = FolderLock(path.parent, path, path.name)
        self.saved_rows = 0
        self.due_at = time.monotonic() + SECONDS_BETWEEN

    @classmethod
    def of_run(
        cls,
        path: str | os.PathLike[str],
        game: Game,
        algorithm: Algorithm,
        start: HostPair,
        *,
        dtype: str,
        check_every: int,
    ) -> "Checkpoint":
        """The checkpoint of a run, identified by everything that its numbers depend on, which limits are not.

        Args:
            path: the file; its folder is created.
            game, algorithm, start, dtype, check_every: as `mmd.solve` has them, defaults resolved.

        Raises:
            OutputError: nothing can be written there, or the name does not end in .npz.
        """
        described = describe(algorithm)
        name = described.pop("name")
        identity = {
            "layout": LAYOUT,
            "game": fingerprint((game, game.description.offset)),
            "algorithm": name,
            **described,
            "given policy": fingerprint([leaf for leaf in jax.tree.leaves(algorithm) if np.ndim(leaf)]),
            "start": fingerprint(start),
            "dtype": dtype,
            "check_every": check_every,
        }
        return cls(prepare_file(path, (".npz",)), f"{game.name} by {name}", json.loads(json.dumps(identity)))

    @contextmanager
    def held(self, place: Placement) -> Iterator[None]:
        """Inside, the checkpoint is this run's alone; of several processes the first one holds it for all.

        Raises:
            OutputError: another process writes it; the message names host and process.
        """
        problem = None
        if place.leads:
            try:
                if said := self.lock.acquire():
                    LOGGER.info("%s", said)
            except OutputError as error:  # the others wait for a word
                problem = error
        refused = any(place.of_all_processes(float(problem is not None)))
        try:
            if refused:
                raise problem or OutputError(f"{self.path}: the first process was refused; what it says stands there")
            with INTERRUPTION.leaving(self.lock.release):
                yield
        finally:
            self.lock.release()

    def discard(self) -> None:
        """Remove the file, and what killed processes left of others."""
        self.path.unlink(missing_ok=True)
        discard_parts(self.path)

    def load(self, game: Game, template: Reached) -> tuple[Reached, Rows] | None:
        """What was reached and its trace; None if there is no checkpoint yet.

        Args:
            game: whose checkpoint it is.
            template: shapes and dtypes of the state and the candidate.

        Raises:
            CheckpointError: the file is unreadable, not whole, or of another run.
        """
        discard_parts(self.path)
        content = _read(self.path)
        if content is None:
            return None
        run = json.loads(content.pop("run.json"))
        self._check(run)
        trace = content.pop("trace")
        polished = None
        if run["polished"]:
            policy = Policy(game, (content.pop("polished[0]"), content.pop("polished[1]")))
            polished = Certified(policy, "polished", certify(game, policy.probabilities))
        on_device = {"state": template.state, "candidate": template.candidate}
        self._check_arrays(run, content, _named(on_device))
        restored = jax.tree_util.tree_map_with_path(lambda path, _: jnp.asarray(content[_name(path)]), on_device)
        reached = Reached(**restored, polished=polished, **run["host"])
        self.saved_rows = reached.rows
        return reached, [dict(zip(TRACE_COLUMNS, row, strict=True)) for row in trace.tolist()]

    def save_if_due(self, reached: Reached, trace: Rows) -> None:
        """Write a checkpoint if the last one is some seconds old, or more if writing takes long."""
        if time.monotonic() >= self.due_at:
            self.save(reached, trace)

    def save(self, reached: Reached, trace: Rows) -> None:
        """Replace the checkpoint, unless nothing has been reached since.

        Args:
            reached: the point.
            trace: rows of the trace, of which the first `reached.rows` are saved.

        Raises:
            OutputError: the file cannot be written; the one before is untouched. Or another process has taken it over.
        """
        if reached.rows == self.saved_rows:
            return
        self.lock.check()
        begun = time.monotonic()
        arrays = _named({"state": reached.state, "candidate": reached.candidate})
        arrays["trace"] = _table(trace[: reached.rows])
        if reached.polished is not None:
            arrays |= {f"polished[{i}]": p for i, p in enumerate(reached.polished.policy.probabilities)}
        host = {name: getattr(reached, name) for name in HOST_FIELDS}
        run = {"of": self.of, "identity": self.identity, "host": host, "polished": reached.polished is not None}
        try:
            with replacing(self.path) as part:
                _write(part, json.dumps(run), arrays)
        except OSError as error:
            size = sum(array.nbytes for array in arrays.values())
            kept = "the one before is untouched" if self.path.exists() else "there is none before"
            reason = f"{error.strerror}; about {size:,} bytes are needed; {kept}"
            raise OutputError(f"{self.path}: cannot write the checkpoint ({reason})") from None
        self.saved_rows = reached.rows
        ended = time.monotonic()
        self.due_at = ended + max(SECONDS_BETWEEN, (ended - begun) / WRITING_SHARE)

    def _check(self, run: dict[str, Any]) -> None:
        """Refuse a checkpoint of another run."""
        found = run["identity"]
        for name in [*self.identity, *found]:
            mine, its = self.identity.get(name), found.get(name)
            if mine != its:
                hashed = HASHED in f"{mine}{its}"
                by = ", another version wrote it" if name == "layout" else ""
                raise self._refusal(run, f"the {name} differs" + ("" if hashed else f" ({its}, not {mine}){by}"))

    def _check_arrays(self, run: dict[str, Any], found: dict[str, Any], expected: dict[str, Any]) -> None:
        """Refuse a state of another layout."""
        for name in [*expected, *found]:
            mine, its = expected.get(name), found.get(name)
            if mine is None or its is None or (mine.shape, mine.dtype) != (its.shape, its.dtype):
                raise self._refusal(run, f"the layout of the state differs, in {name}")

    def _refusal(self, run: dict[str, Any], difference: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path}: cannot resume {self.of} from a checkpoint of {run['of']}: {difference}; "
            "start without resuming to replace it"
        )


def fingerprint(tree: Any) -> str:
    """SHA-256 of the arrays of a pytree: their order, shapes, dtypes and contents."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{np.shape(leaf)} {array.dtype.str} ".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return HASHED + digest.hexdigest()


def _table(trace: Rows) -> np.ndarray:
    """[rows, columns]; a long trace is most of what saving costs, and this is the fast way."""
    cells = chain.from_iterable(row.values() for row in trace)
    return np.fromiter(cells, np.float64, len(trace) * len(TRACE_COLUMNS)).reshape(len(trace), len(TRACE_COLUMNS))


def _name(path: Sequence[Any]) -> str:
    """The array's name in the archive, such as state.iterate.plan[0]."""
    return path[0].key + jax.tree_util.keystr(tuple(path[1:]))


def _named(tree: dict[str, Any]) -> dict[str, Any]:
    """The leaves of a dictionary of pytrees by name: arrays come to the host, shapes stay shapes."""
    return {
        _name(path): leaf if isinstance(leaf, jax.ShapeDtypeStruct) else np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _write(path: Path, run: str, arrays: dict[str, np.ndarray]) -> None:
    """Write the archive, its digest last, through to the disk."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = bytes(DIGEST_BYTES)
        archive.writestr("run.json", run)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    with path.open("r+b") as file:
        file.write(_digest(file))
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> dict[str, Any] | None:
    """The members of the archive; None if there is no file."""
    try:
        with path.open("rb") as file:
            if _digest(file) != file.read():
                raise CheckpointError(
                    f"{path}: expected a whole checkpoint, got a file whose checksum is wrong: it is damaged or "
                    "something else; start without resuming to replace it"
                )
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read the checkpoint ({error.strerror})") from None


def _digest(file: BinaryIO) -> bytes:
    """SHA-256 of all bytes but the last 32, in front of which the file is left."""
    left = file.seek(0, os.SEEK_END) - DIGEST_BYTES
    file.seek(0)
    digest = hashlib.sha256()
    while left > 0:
        block = file.read(min(left, BLOCK_BYTES))
        digest.update(block)
        left -= len(block)
    return digest.digest()
