"""One folder, one process: who may work in a folder is decided right in every case, and by one process at a time."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mmd.host import folder_lock
from mmd.host.files import OutputError
from mmd.host.folder_lock import FILE, FolderLock, held
from tests.mmd.command.test_cli import main

ROOT = Path(__file__).resolve().parents[3]
HOLDER = """
import sys, time
from mmd.host.folder_lock import FolderLock
FolderLock(sys.argv[1]).acquire()
print("held", flush=True)
time.sleep(100)
"""


@contextmanager
def working(folder: Path) -> Iterator[subprocess.Popen]:
    """Another process that works in a folder."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def forge(folder: Path, *, beat: float = 0.0, **changed: Any) -> None:
    """A lock of this process, with other words in it and a heartbeat so many seconds ago."""
    lock = FolderLock(folder)
    (folder / FILE).write_text(json.dumps({**lock._owner, **changed}))
    now = time.time()
    os.utime(folder / FILE, (now, now - beat))


def test_a_second_process_is_refused_and_told_by_whom_until_the_first_is_gone(tmp_path: Path) -> None:
    with working(tmp_path) as process:
        begun = time.monotonic()
        with pytest.raises(OutputError, match=f"process {process.pid} on {socket.gethostname()} works in this folder"):
            FolderLock(tmp_path).acquire()
        with pytest.raises(OutputError, match=f"process {process.pid} on"):
            folder_lock.refuse_if_held(tmp_path)
        assert time.monotonic() - begun < 5
        process.send_signal(signal.SIGSTOP)  # its heart does not beat any more, and it is there
        os.utime(tmp_path / FILE, (0, 0))
        with pytest.raises(OutputError, match=f"process {process.pid} on"):
            FolderLock(tmp_path).acquire()
    mine = FolderLock(tmp_path)
    assert f"process {process.pid} on {socket.gethostname()}, which worked in this folder, is gone" in mine.acquire()
    mine.release()
    assert os.listdir(tmp_path) == []


def test_a_zombie_and_another_process_with_its_number_are_gone(tmp_path: Path) -> None:
    with working(tmp_path) as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, not collected: its number still exists
        mine = FolderLock(tmp_path)
        assert "is gone" in mine.acquire()
        mine.release()
    forge(tmp_path, began="1", key="another")  # this process's number, which another one had before
    assert "is gone" in mine.acquire()
    mine.release()


@pytest.mark.parametrize("elsewhere", [{"host": "node7"}, {"boot": "another"}, {"space": "pid:[1]"}])
def test_another_host_or_container_is_believed_while_its_heart_beats(elsewhere: Any, tmp_path: Path) -> None:
    """Its number means nothing here, whether there is a process of this number or not."""
    forge(tmp_path, beat=50, **elsewhere)
    with pytest.raises(OutputError, match=r"heartbeat (49|50|51|52) s ago.; wait for it, or choose another folder"):
        FolderLock(tmp_path).acquire()
    forge(tmp_path, beat=61, **elsewhere)
    mine = FolderLock(tmp_path)
    assert "is gone; taking its place" in mine.acquire()
    mine.release()


def test_clocks_of_hosts_may_differ(tmp_path: Path, monkeypatch: Any) -> None:
    forge(tmp_path, beat=1, host="node7")
    for skew in (-1e6, 1e6):
        with monkeypatch.context() as patch:
            patch.setattr(folder_lock.time, "time", lambda skew=skew: 1.7e9 + skew)
            with pytest.raises(OutputError, match=r"process .* on node7 works in this folder"):
                FolderLock(tmp_path).acquire()


@pytest.mark.parametrize("content", ["", "{}", "notes of mine\n", "[1]"])
def test_a_lock_that_cannot_be_read_is_respected_for_a_minute(content: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(OutputError, match="an unknown process works in this folder"):
        FolderLock(tmp_path).acquire()
    os.utime(tmp_path / FILE, (0, 0))
    mine = FolderLock(tmp_path)
    assert "an unknown process, which worked in this folder, is gone" in mine.acquire()
    mine.release()


@pytest.mark.parametrize("links", [True, False])
def test_of_many_that_come_at_once_one_gets_the_folder(links: bool, tmp_path: Path, monkeypatch: Any) -> None:
    """Over the lock of a dead process, with links and on a file system without."""
    if not links:
        monkeypatch.setattr(folder_lock.os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no links")))
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        forge(folder, began="1", key="dead")
        locks, got, gate = [FolderLock(folder) for _ in range(6)], [], threading.Barrier(6)

        def take(lock: FolderLock, got: list[FolderLock] = got, gate: threading.Barrier = gate) -> None:
            gate.wait()
            try:
                lock.acquire()
            except OutputError:
                return
            got.append(lock)

        threads = [threading.Thread(target=take, args=(lock,)) for lock in locks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        owner = json.loads((folder / FILE).read_text())["key"]
        kept = []
        for lock in got:
            lock._renew()  # a heartbeat, by which each knows
            if not lock._lost:
                kept.append(lock._owner["key"])
        assert kept == [owner]
        for lock in got:
            lock.release()
        assert os.listdir(folder) == []


def test_the_heart_beats_and_notices_a_lock_that_is_lost_or_removed(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(folder_lock, "SECONDS_BETWEEN_BEATS", 0.02)

    def comes(true: Any) -> bool:
        return any(true() or time.sleep(0.01) for _ in range(500))

    with held(tmp_path, "mpo") as lock:
        assert lock is not None
        os.utime(tmp_path / FILE, (0, 0))
        assert comes(lambda: (tmp_path / FILE).stat().st_mtime > 0)
        (tmp_path / FILE).unlink()
        assert comes((tmp_path / FILE).exists)
        lock.check()
        forge(tmp_path, host="node7", key="another")
        assert comes(lambda: lock._lost)
        with pytest.raises(OutputError, match=r"process \d+ on node7 has taken this folder over; nothing more"):
            lock.check()
    assert json.loads((tmp_path / FILE).read_text())["host"] == "node7"  # not this process's to remove


WORK = {  # status when the folder is free
    ("solve", "kuhn_poker", "--resume", "--max-iterations", "1"): 3,
    ("compare", "preference:cycle", "--algorithms", "mmd", "--max-iterations", "1"): 0,
    ("lab", "preference:cycle", "--methods", "mmd", "--iterations", "1", "--seeds", "1"): 0,
}


@pytest.mark.parametrize(("words", "status"), WORK.items(), ids=[words[0] for words in WORK])
def test_commands_refuse_a_folder_in_which_another_works(
    words: tuple[str, ...], status: int, tmp_path: Path, capsys: Any
) -> None:
    command = [*words, "--out", str(tmp_path), "--quiet"]
    with held(tmp_path / ".", "mmd"):
        assert main(command) == 2
        assert f"process {os.getpid()} on {socket.gethostname()} works in this folder" in capsys.readouterr().err
    assert main(command) == status
    assert FILE not in os.listdir(tmp_path)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe{", b"[" * 100_000, b"", b"null"], ids=["bytes", "deep", "empty", "null"]
)
def test_a_lock_that_nobody_can_read_is_of_an_unknown_process(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(OutputError, match="an unknown process works in this folder"):
        FolderLock(tmp_path).acquire()
    old = time.time() - 100
    os.utime(tmp_path / FILE, (old, old))
    lock = FolderLock(tmp_path)
    assert "an unknown process" in lock.acquire()
    lock.release()
    assert not (tmp_path / FILE).exists()


def test_who_holds_a_folder_clears_away_what_killed_processes_were_writing(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, own = tmp_path / f".policy.csv.{gone.pid}.part", tmp_path / f".policy.csv.{os.getpid()}.part"
    for part in (dead, own):
        part.touch()
    with held(tmp_path, "mmd"):
        assert not dead.exists()
        assert own.exists()
