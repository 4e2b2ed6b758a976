"""The `mmd` command as a process: how fast it answers, what it leaves behind, and how it ends when it is told to."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from mmd.command.cli import main
from mmd.host import progress
from mmd.measure.solution import TRACE_COLUMNS
from mmd.solving import programs
from tests.mmd.command.test_cli import CYCLE, ROOT, result_of

COMMAND = [sys.executable, "-m", "mmd"]
HOPELESS = [
    "--algorithm",
    "mmd",
    "--tolerance",
    "0",
    "--regularized-tolerance",
    "0",
]  # so a fixed magnet goes on for ever


def test_compiled_programs_are_kept_for_the_next_process_unless_told_otherwise(tmp_path):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", programs.SWITCH):
        environment.pop(name, None)
    line = [*COMMAND, "solve", CYCLE, "--algorithm", "restarted", "--quiet"]
    subprocess.run(line, cwd=ROOT, env=environment | {"JAX_COMPILATION_CACHE_DIR": ""}, check=True)
    assert not list(tmp_path.iterdir())
    subprocess.run(line, cwd=ROOT, env=environment, check=True)
    assert list(tmp_path.glob("magnetic-mirror/jax/*/advance-*"))


def test_ctrl_c_waits_for_the_end_of_a_chunk_where_nothing_can_swallow_it():
    row = dict.fromkeys(TRACE_COLUMNS, 0.0)
    handler = signal.getsignal(signal.SIGINT)
    with progress.interruptible(None) as on_check:
        on_check(row)
        signal.raise_signal(signal.SIGINT)  # not here, where it might be lost
        with pytest.raises(KeyboardInterrupt):
            on_check(row)
        with pytest.raises(KeyboardInterrupt):  # the impatient are heard at once
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_ends_with_130_and_the_run_so_far_saved(tmp_path):
    run = tmp_path / "run"
    line = [*COMMAND, "solve", CYCLE, *HOPELESS, "--max-iterations", "1000000000", "--out", str(run)]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "iteration" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "interrupted by the user" in output
    result = result_of(run)
    assert result["status"] == "interrupted by the user; the policy is the one reached so far"
    assert result["iterations"] > 0
    assert main(["verify", CYCLE, str(run)]) == 0


def test_ctrl_c_ends_a_command_that_compiles_within_two_seconds(tmp_path):
    """Five-sided liar's dice compiles for many seconds, in which Python hears nothing."""
    environment = os.environ | {"JAX_LOG_COMPILES": "1", "JAX_COMPILATION_CACHE_DIR": ""}
    line = [*COMMAND, "solve", "liars_dice:faces=5", "--algorithm", "restarted", "--out", str(tmp_path / "run")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(line, cwd=ROOT, env=environment, **pipes) as process:
        assert process.stderr is not None
        assert any("Compiling" in said and "init" in said for said in process.stderr)
        time.sleep(0.5)
        pressed = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        assert time.monotonic() - pressed < 2
    assert process.returncode == 130
    assert output == ""
    assert errors.splitlines()[-1] == "mmd: interrupted"
    assert not any((tmp_path / "run").iterdir())


DEAF = """
import hashlib
import sys
from mmd.host.command_line import run_process
from mmd.host.interruption import INTERRUPTION

def main(argv):
    INTERRUPTION.patient = argv == ["patient"]
    print("in the buffer")
    with INTERRUPTION.leaving(lambda: print("what is done")):
        try:
            sys.stderr.write("deaf\\n")
            hashlib.pbkdf2_hmac("sha256", b"", b"", 4_000_000 if INTERRUPTION.patient else 2**31 - 1)  # no bytecodes
            sys.stderr.write("not deaf\\n")
        except KeyboardInterrupt:
            print("seen to")
    return 3

run_process(main, program="deaf")
"""


@pytest.mark.parametrize(
    ("patience", "status", "output"),
    [("impatient", 130, "in the buffer\nwhat is done\n"), ("patient", 3, "in the buffer\nseen to\n")],
)
def test_what_is_done_is_said_before_ctrl_c_ends_a_process_that_is_deaf(patience, status, output):
    """Unless its main thread sees to it, however late."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", DEAF, patience], cwd=ROOT, **pipes) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "deaf\n"
        time.sleep(0.5)  # until it is
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == (output, "deaf: interrupted\n" if status == 130 else "")
    assert process.returncode == status


def test_a_reader_that_stops_reading_is_no_error():
    true = shutil.which("true")
    assert true is not None
    line = f'"{sys.executable}" -m mmd games | {true}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 141
    assert done.stderr == ""
