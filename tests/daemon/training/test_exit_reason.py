"""The reason of a failed training contains the trainer's code once, or the cause of the exit without a code."""

from __future__ import annotations

import subprocess
import sys

import pytest

from daemon.ledger.cycle import Failed
from daemon.process.output_log import last_error
from daemon.training.exit_reason import CLOSING_S, MEMORY_ATTEMPTS, ConsoleClosed, exit_reason
from schemas.errors import split_code
from schemas.job import ExitCode, Failure
from schemas.process.exit_codes import CONTROL_C, NO_MEMORY

FAILURE = Failure(code="E_CONFIG", message="trainer.loss cannot be imported -> correct it [E_CONFIG]")
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def reason(exit_code, failure=None, **arguments):
    known = {"last_words": "", "is_script": False, "was_ready": True, "command": "python -m trainer serve"}
    return exit_reason(exit_code, failure, **(known | arguments))


@pytest.mark.parametrize("was_ready", [True, False])
def test_a_trainers_code_is_at_the_end_of_the_reason_once(was_ready):
    failed = reason(ExitCode.BAD_CONFIG, FAILURE, was_ready=was_ready)
    assert failed.why.count("[E_") == 1
    assert split_code(failed.why)[1] == "E_CONFIG"
    assert failed.code == (ExitCode.BAD_CONFIG if was_ready else ExitCode.TEMPORARY)


def test_a_failure_without_its_code_in_the_message_gets_it():
    assert reason(65, Failure(code="E_DATA", message="no good")).why == "no good [E_DATA]"


@pytest.mark.parametrize(
    ("exit_code", "is_script", "words"),
    [
        pytest.param(
            *(
                -9,
                False,
                "the trainer was killed by the system with signal 9 (SIGKILL), usually because memory ran out",
            ),
            marks=posix,
        ),
        pytest.param(-11, False, "the trainer was ended by signal 11 (SIGSEGV): the end", marks=posix),
        (3, True, "the training script ended with exit code 3: the end"),
    ],
)
def test_an_exit_without_a_failure_is_described(exit_code, is_script, words):
    assert reason(exit_code, is_script=is_script, last_words="the end").why == words


@pytest.mark.parametrize(
    ("exit_code", "words", "may_retry"),
    [
        (0xC0000005, "the trainer ended with exit code 0xC0000005 (access violation): the end", True),
        (-1073741819, "the trainer ended with exit code 0xC0000005 (access violation): the end", True),
        (0xC0000135, "exit code 0xC0000135 (DLL not found): the end -> install the Visual C++ Redistributable", False),
        (0xC000001D, "exit code 0xC000001D (illegal instruction): the end -> use a CPU with AVX2", False),
        (0xFFFFFFFF, "the trainer ended with exit code -1: the end", False),
    ],
)
def test_a_crash_on_windows_is_temporary_unless_it_happens_again_for_certain(exit_code, words, may_retry):
    for was_ready in (True, exit_code == 0xFFFFFFFF):
        failed = reason(exit_code, last_words="the end", was_ready=was_ready)
        assert words in failed.why
        assert failed.is_final is not may_retry


def test_a_failure_that_the_trainer_reported_is_not_replaced_by_its_exit_code():
    assert reason(0xC0000135, FAILURE).why == FAILURE.message


@pytest.mark.parametrize("exit_code", sorted(NO_MEMORY))
def test_windows_without_memory_is_tried_a_second_time(exit_code):
    failed = reason(exit_code)
    assert f"killed by the system with exit code 0x{exit_code:08X} (" in failed.why
    assert "usually because memory ran out -> close other programs" in failed.why
    assert (failed.code, failed.max_attempts) == (ExitCode.TEMPORARY, MEMORY_ATTEMPTS)


def test_a_closed_console_interrupts_a_cycle_once():
    closed = ConsoleClosed()
    assert not closed.interrupts(1, 1, 100.0)
    assert closed.left_s(100.0) <= 0.0
    assert closed.interrupts(1, CONTROL_C, 100.0)
    assert closed.left_s(100.0) == CLOSING_S
    assert not closed.interrupts(1, CONTROL_C, 111.0)
    assert closed.interrupts(2, CONTROL_C - (1 << 32), 120.0)


def test_out_of_memory_is_tried_a_second_time():
    assert reason(-9) == Failed(reason(-9).why, ExitCode.TEMPORARY, MEMORY_ATTEMPTS, is_memory=True)
    assert reason(75, Failure(code="E_MEMORY", message="x")) == Failed(
        "x [E_MEMORY]", ExitCode.TEMPORARY, MEMORY_ATTEMPTS, is_memory=True
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "def f(x):\n    raise ValueError('too short: %d' % x)\nf(3)\n",
            "ValueError: too short: 3 (my_train.py, line 2)",
        ),
        ("import json\n\njson.loads('{')\n", " (my_train.py, line 3)"),
        ("x = (1,\n", " (my_train.py, line 1)"),
        ("raise ValueError('two\\nlines')\n", "ValueError: two (my_train.py, line 1)"),
        ("import sys\nsys.exit('no rollouts today')\n", "no rollouts today"),
        (
            "try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise KeyError('a')\n",
            "KeyError: 'a' (my_train.py, line 4)",
        ),
    ],
    ids=["function", "library", "syntax", "two lines", "message", "chained"],
)
def test_the_last_words_of_a_script_name_the_file_and_line(tmp_path, source, expected):
    script, log = tmp_path / "my_train.py", tmp_path / "cycle_1.log"
    script.write_text(source, encoding="utf-8")
    with log.open("wb") as file:
        file.write(b"epoch 1 of 10\n")
        file.flush()
        subprocess.run([sys.executable, str(script)], stderr=file, check=False)
    assert last_error(log).endswith(expected)


def test_a_log_without_a_traceback_ends_with_its_last_line(tmp_path):
    log = tmp_path / "cycle_1.log"
    assert last_error(log) == ""
    log.write_bytes(b"one\n\ntwo \n\n")
    assert last_error(log) == "two"
