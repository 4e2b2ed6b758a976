"""One folder, one process: a lock file in a folder that results are written to. A single file can be locked as well.

`.lock`, or `.lock.NAME` for the file NAME, says which process works there: host, process id, when that process began.
Its modification time is a heartbeat, renewed every 10 seconds by a thread. A process that comes later reads it and is
refused, or takes the folder over:

* on the same host, if the process is gone. A process id that the system has given to another process meanwhile is told
  by the time at which that process began;
* from another host, or another container, if there was no heartbeat for 60 seconds. Both times are the file system's,
  that of the lock and that of a file written now, so clocks of hosts may differ.

A lock appears whole or not at all: it is written under another name and linked, which is atomic on NFS as well. A lock
that is taken over is renamed first, and what was renamed is looked at: of two processes that take over at the same
instant one finds the other's lock in its hands, and puts it back.
"""

import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from mmd.host.files import OutputError
from mmd.host.interruption import INTERRUPTION

FILE = ".lock"
SECONDS_BETWEEN_BEATS = 10.0
SECONDS_WITHOUT_A_BEAT = 60.0
TRIES = 5  # to take a lock that others take at the same time

_held: set["FolderLock"] = set()


class Found(NamedTuple):
    """A lock that is there.

    Attributes:
        owner: what its file says; empty if it cannot be read.
        age: seconds since its heartbeat, by the file system's clock.
    """

    owner: dict[str, Any]
    age: float

    @property
    def name(self) -> str:
        """The owner, for people to read."""
        return f"process {self.owner['pid']} on {self.owner['host']}" if self.owner else "an unknown process"

    def is_gone(self) -> bool:
        """Whether its owner works no more."""
        mine, its = _myself(), self.owner
        if its and all(mine[part] == its.get(part) for part in ("host", "boot", "space")):
            began = _began(its["pid"])
            if began is None or its["began"] is None:  # a system that does not tell
                return not _exists(its["pid"]) or self.age > SECONDS_WITHOUT_A_BEAT
            return began != its["began"]
        return self.age > SECONDS_WITHOUT_A_BEAT


class FolderLock:
    """The lock of a folder, or of one file in it, held from `acquire` to `release`.

    Args:
        folder: which is there and can be written.
        shown: what it is called in messages; None for the same.
        file: the name of the file; None for the folder.
    """

    def __init__(
        self, folder: str | os.PathLike[str], shown: str | os.PathLike[str] | None = None, file: str | None = None
    ) -> None:
        self._path = Path(folder).absolute() / (FILE if file is None else f"{FILE}.{file}")
        self._shown = os.fspath(folder if shown is None else shown)
        self._noun, self._where = ("folder", "in this folder") if file is None else ("file", "on this file")
        self._owner = {**_myself(), "key": uuid.uuid4().hex}
        self._stop, self._turn = threading.Event(), threading.Lock()
        self._lost = ""

    def acquire(self) -> str:
        """Take the lock; what is to be said of it, "" for nothing.

        Raises:
            OutputError: another process works in the folder, or the lock cannot be written.
        """
        said = ""
        for _ in range(TRIES):
            try:
                if self._create():
                    break
                if (found := self._read()) is None:  # released meanwhile
                    continue
            except OSError as error:
                raise OutputError(f"{self._path}: cannot write the lock ({error.strerror})") from None
            if not found.is_gone():
                raise OutputError(self._refusal(found))
            if self._take_away(found):
                said = f"{self._shown}: {found.name}, which worked {self._where}, is gone; taking its place"
        else:
            raise OutputError(f"{self._shown}: other processes begin to work {self._where}; choose another one")
        _held.add(self)
        threading.Thread(target=self._beat, name=f"lock of {self._shown}", daemon=True).start()
        return said

    def check(self) -> None:
        """That the lock is still this process's, as far as the newest heartbeat has seen.

        Raises:
            OutputError: another process has taken the folder over.
        """
        if self._lost:
            raise OutputError(f"{self._shown}: {self._lost} has taken this {self._noun} over; nothing more is written")

    def release(self) -> None:
        """Remove the lock, if it is this process's."""
        _held.discard(self)
        if self._owner["pid"] != os.getpid():  # a fork's copy
            return
        with self._turn, suppress(OSError):
            self._stop.set()
            if (found := self._read()) is not None and found.owner == self._owner:
                self._path.unlink()

    def _refusal(self, found: Found) -> str:
        since = found.owner.get("since")
        begun = f" since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(since))}" if since else ""
        beat = f"heartbeat {max(0.0, found.age):.0f} s ago"
        remedy = f"wait for it, or choose another {self._noun}"
        return f"{self._shown}: {found.name} works {self._where}{begun} ({beat}); {remedy}"

    def _create(self) -> bool:
        """Write the lock; False if there is one."""
        part = self._path.with_name(f"{self._path.name}.{self._owner['key']}.part")
        try:
            part.write_text(json.dumps(self._owner) + "\n", "utf-8")
            try:
                os.link(part, self._path)
            except FileExistsError:
                return part.stat().st_nlink == 2  # NFS may say so of a link that it has just made
            except OSError:  # a file system without links
                return self._create_alone()
            return True
        finally:
            part.unlink(missing_ok=True)

    def _create_alone(self) -> bool:
        try:
            with self._path.open("x", encoding="utf-8") as file:
                file.write(json.dumps(self._owner) + "\n")
        except FileExistsError:
            return False
        return True

    def _read(self) -> Found | None:
        """The lock that is there."""
        now = self._path.with_name(f"{self._path.name}.{self._owner['key']}.now")
        try:
            with self._path.open(
                encoding="utf-8", errors="replace"
            ) as file:  # opening asks an NFS server, `stat` may not
                text, beat = file.read(), os.fstat(file.fileno()).st_mtime
            now.write_text("", "utf-8")
            return Found(_parsed(text), now.stat().st_mtime - beat)
        except FileNotFoundError:
            return None
        finally:
            now.unlink(missing_ok=True)

    def _take_away(self, gone: Found) -> bool:
        """Remove the lock of an owner who is gone, and no other one; whether that was done."""
        aside = self._path.with_name(f"{self._path.name}.{self._owner['key']}.gone")
        try:
            self._path.rename(aside)
        except FileNotFoundError:
            return False
        try:
            if _parsed(aside.read_text("utf-8", "replace")) == gone.owner:
                return True
            with suppress(OSError):  # somebody else's, who was faster
                os.link(aside, self._path)
            return False
        finally:
            aside.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._lost and not self._stop.wait(SECONDS_BETWEEN_BEATS):
            with self._turn, suppress(OSError):  # a disk that does not answer now may do so the next time
                if not self._stop.is_set():
                    self._renew()

    def _renew(self) -> None:
        found = self._read()
        if found is None:
            self._create()  # somebody has removed it
        elif found.owner == self._owner:
            os.utime(self._path)  # the file server's time
        else:
            self._lost = found.name


@contextmanager
def held(
    folder: str | os.PathLike[str] | None, program: str, shown: str | os.PathLike[str] | None = None
) -> Iterator[FolderLock | None]:
    """Inside, this process alone works in a folder; None for no folder. A take-over is said on stderr.

    Args:
        folder: which is there and can be written.
        program: the command's name, before what is said.
        shown: as in `FolderLock`.

    Raises:
        OutputError: another process works in it; the message names host and process.
    """
    if folder is None:
        yield None
        return
    lock = FolderLock(folder, shown)
    if said := lock.acquire():
        sys.stderr.write(f"{program}: {said}\n")
    _discard_parts_of_the_dead(Path(folder))
    try:
        with INTERRUPTION.leaving(lock.release):
            yield lock
    finally:
        lock.release()


def refuse_if_held(folder: str | os.PathLike[str], file: str | None = None) -> None:
    """Refuse a folder, or a file in it, that another process works in, before anything is begun.

    Raises:
        OutputError: another process works in it; the message names host and process.
    """
    lock = FolderLock(folder, None if file is None else Path(folder) / file, file)
    with suppress(OSError):  # no such folder, or one that cannot be written
        if (found := lock._read()) is not None and not found.is_gone():
            raise OutputError(lock._refusal(found))


def release_all() -> None:
    """Release every lock of this process, which is going to end without unwinding."""
    for lock in [*_held]:
        lock.release()


def _parsed(text: str) -> dict[str, Any]:
    """What a lock says of its owner; empty if it is none of ours."""
    try:
        owner = json.loads(text)
        return owner if isinstance(owner["pid"], int) and {"host", "began", "key"} <= set(owner) else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def _myself() -> dict[str, Any]:
    """Where and what this process is. Ids of processes mean the same only within a boot and a container."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "began": _began(os.getpid()),
        "boot": _told(Path("/proc/sys/kernel/random/boot_id").read_text),
        "space": _told(lambda: os.readlink("/proc/self/ns/pid")),
        "since": int(time.time()),
    }


def _told(ask: Any) -> str | None:
    """What the system says; None where it does not."""
    try:
        return ask().strip()
    except OSError:
        return None


def _began(pid: int) -> str | None:
    """When a process began, in ticks since the system did; "" if it is gone, None where the system does not tell."""
    if not Path("/proc/self/stat").exists():
        return None
    stat = _told(Path(f"/proc/{pid}/stat").read_text)
    fields = stat.rpartition(")")[2].split() if stat else []  # a name may hold anything before its last bracket
    return fields[19] if fields and fields[0] not in "ZX" else ""  # a zombie has ended


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _discard_parts_of_the_dead(folder: Path) -> None:
    """Remove what `mmd.host.files.replacing` left in a folder in processes of this host that were killed."""
    for part in folder.glob(".*.part"):
        pid = part.name.split(".")[-2]
        if pid.isdecimal() and not _exists(int(pid)):
            part.unlink(missing_ok=True)
