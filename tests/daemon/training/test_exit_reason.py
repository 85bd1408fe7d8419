"""The reason of a failed training contains the trainer's code once, or the cause of the exit without a code."""

from __future__ import annotations

import pytest

from daemon.ledger.cycle import Failed
from daemon.training.exit_reason import MEMORY_ATTEMPTS, exit_reason
from schemas.errors import split_code
from schemas.job import ExitCode, Failure

FAILURE = Failure(code="E_CONFIG", message="trainer.loss cannot be imported -> correct it [E_CONFIG]")


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
        (-9, False, "the trainer was killed by the system with signal 9 (SIGKILL), usually because memory ran out"),
        (-11, False, "the trainer was ended by signal 11 (SIGSEGV): the end"),
        (3, True, "the training script ended with exit code 3: the end"),
    ],
)
def test_an_exit_without_a_failure_is_described(exit_code, is_script, words):
    assert reason(exit_code, is_script=is_script, last_words="the end").why == words


def test_out_of_memory_is_tried_a_second_time():
    assert reason(-9) == Failed(reason(-9).why, ExitCode.TEMPORARY, MEMORY_ATTEMPTS)
    assert reason(75, Failure(code="E_MEMORY", message="x")) == Failed(
        "x [E_MEMORY]", ExitCode.TEMPORARY, MEMORY_ATTEMPTS
    )
