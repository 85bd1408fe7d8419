"""What a trainer reports about an exception."""

from __future__ import annotations

import pytest

from schemas.errors import ConfigError
from schemas.job import ExitCode
from trainer.common.exit_codes import failure_of


def test_an_unexpected_exception_is_reported_with_the_place_that_raised_it():
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 // 0
    code, failure = failure_of(caught.value)
    assert (code, failure.code) == (ExitCode.BUG, "E_BUG")
    assert failure.message.startswith(f"ZeroDivisionError: {caught.value} (test_exit_codes.py, line ")
    assert failure.message.endswith(" -> please report it with the log [E_BUG]")


def test_an_error_of_ours_keeps_its_code_and_its_remedy():
    code, failure = failure_of(ConfigError("epochs is 0", hint="set it to 1"))
    assert (code, failure.code) == (ExitCode.BAD_CONFIG, "E_CONFIG")
    assert failure.message == "epochs is 0 -> set it to 1 [E_CONFIG]"
