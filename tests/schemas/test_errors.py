"""One message has one code, and an unexpected exception names the place that raised it."""

from __future__ import annotations

import json

import pytest

from schemas.errors import ConfigError, describe_exception, split_code


def test_split_code_takes_the_code_off_a_line():
    line = ConfigError("epochs is 0", hint="set it to 1").line()
    assert split_code(line) == ("epochs is 0 -> set it to 1", "E_CONFIG")
    assert split_code("[E_CONFIG] at the beginning") == ("[E_CONFIG] at the beginning", None)


def test_describe_exception_names_the_last_place_outside_of_libraries():
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("{")
    line = next(entry.lineno + 1 for entry in caught.traceback if entry.path.name == "test_errors.py")
    assert describe_exception(caught.value).endswith(f" (test_errors.py, line {line})")


def test_describe_exception_is_one_line_without_a_traceback():
    assert describe_exception(ValueError("two\nlines")) == "ValueError: two | lines"
