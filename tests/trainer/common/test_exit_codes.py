"""Every exception has an exit code and one line of text; an unexpected one names the place."""

import errno
import pickle
import sys

import pytest
import torch

from schemas.errors import ConfigError, ContractError, RolloutError
from schemas.job import ExitCode
from trainer.common import exit_codes, user_code
from trainer.common.exit_codes import failure_of
from trainer.ppo.loss import ppo_loss

FAILURES = [
    (RolloutError("x"), ExitCode.BAD_DATA),
    (ContractError("x"), ExitCode.BAD_DATA),
    (ConfigError("x"), ExitCode.BAD_CONFIG),
    (MemoryError(), ExitCode.TEMPORARY),
    (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), ExitCode.TEMPORARY),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), ExitCode.TEMPORARY),
    (OSError(errno.ENOSPC, "No space left on device"), ExitCode.TEMPORARY),
    (FileNotFoundError(errno.ENOENT, "gone"), ExitCode.BUG),
    (RuntimeError("shape mismatch"), ExitCode.BUG),
    (ZeroDivisionError("x\ny"), ExitCode.BUG),
]


@pytest.mark.parametrize(("error", "code"), FAILURES, ids=repr)
def test_every_exception_has_its_exit_code(error, code):
    exit_code, failure = failure_of(error)
    assert exit_code == code
    assert "\n" not in failure.message


def message_of(work):
    with pytest.raises(Exception) as caught:
        work()
    return failure_of(caught.value)[1].message


def load(folder, monkeypatch, text):
    """Import a user's module from a folder."""
    (folder / "my_losses.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop("my_losses", None)
    import my_losses

    return my_losses


def test_a_bug_names_the_innermost_line_of_user_code(tmp_path, monkeypatch):
    """Also if a library that the user's code calls has raised."""
    text = "import torch\n\ndef loss():\n    return torch.stack([])\n"
    module = load(tmp_path, monkeypatch, text)
    assert " (my_losses.py, line 4) -> correct my_losses.py; the log has the traceback [E_BUG]" in message_of(
        module.loss
    )


def test_a_bug_without_user_code_names_hotlaps_innermost_line(monkeypatch):
    monkeypatch.setattr(user_code, "is_user_code", lambda filename: False)
    message = message_of(lambda: ppo_loss(None, None, None))
    assert "(loss.py, line " in message
    assert message.endswith("-> report it with the log [E_BUG]")


def test_a_bug_in_a_library_alone_names_its_line(monkeypatch):
    monkeypatch.setattr(user_code, "is_user_code", lambda filename: False)
    assert "(functional.py, line " in message_of(lambda: torch.einsum("ij->ik", torch.zeros(2, 2)))


def test_files_of_installed_packages_and_of_python_are_not_user_code():
    not_users = (torch.__file__, errno.__spec__.origin or "built-in", pytest.__file__, exit_codes.__file__, "<string>")
    assert [name for name in not_users if user_code.is_user_code(name)] == []
    assert user_code.is_user_code(__file__)


def test_an_exception_is_described_with_the_line_of_the_user_else_of_a_library(tmp_path, monkeypatch):
    module = load(tmp_path, monkeypatch, "import json\n\ndef loss():\n    return json.loads('{')\n")
    with pytest.raises(ValueError, match="Expecting") as caught:
        module.loss()
    assert user_code.describe(caught.value).endswith("(my_losses.py, line 4)")
    assert user_code.file_of(caught.value) == "my_losses.py"
    monkeypatch.setattr(user_code, "is_user_code", lambda filename: False)
    assert "(decoder.py, line " in user_code.describe(caught.value)
    assert user_code.file_of(caught.value) == ""


def test_a_file_that_python_cannot_parse_is_named_and_not_the_importer(tmp_path, monkeypatch):
    (tmp_path / "my_broken_net.py").write_text("x = 1\ndef f(:\n")
    message = message_of(lambda: load(tmp_path, monkeypatch, "import my_broken_net\n"))
    assert message.startswith("SyntaxError: invalid syntax (my_broken_net.py, line 2) -> correct my_broken_net.py")


def test_an_error_keeps_its_line_when_it_is_pickled():
    error = ConfigError("x is 1", hint="set 2", code="E_ENV")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "x is 1 -> set 2 [E_ENV]"
