"""Checks the Python that runs trainers, and the user's training script, before they are started."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from daemon.errors import DaemonError
from schemas.process.console import window_flags
from schemas.process.exit_codes import exit_words, is_crash, remedy
from schemas.program.children import PYTHON, console_python
from schemas.settings.models import DaemonSettings
from schemas.storage.windows_paths import error_text, for_system, plain_path, shown_path

_PROBE = (
    "import importlib.util as u, sys; print('hotlap', *sys.version_info[:2], int(u.find_spec('torch') is not None))"
)
_PROBE_TIMEOUT_S = 30.0
_TORCH_PROBE = (
    "import sys, torch; cuda = torch.cuda.is_available();"
    " print('hotlap', torch.__version__, torch.cuda.get_device_name() if cuda else 'cpu', torch.cuda.device_count(),"
    " sep='|')"
)
_TORCH_TIMEOUT_S = 120.0


def command_line(arguments: Sequence[str]) -> str:
    """Return a command as one line that can be pasted into a shell."""
    return subprocess.list2cmdline(arguments) if sys.platform == "win32" else shlex.join(arguments)


def python_for(executable: str) -> str:
    """Return the Python that runs trainers: `executable`, or else the daemon's own. Raises DaemonError (E_PYTHON)."""
    if not executable:
        return PYTHON
    path = Path(executable).expanduser()
    if not path.is_file():
        raise DaemonError(
            f"python_executable {executable} does not exist",
            hint="set it to the full path of a Python with torch, or remove it",
            code="E_PYTHON",
        )
    if not os.access(path, os.X_OK):
        raise DaemonError(
            f"python_executable {executable} cannot be executed", hint=f"chmod +x {executable}", code="E_PYTHON"
        )
    return console_python(str(path.absolute()))


def script_for(training_script: str, project: Path) -> Path:
    """Return the path of the user's training script. Raises DaemonError if it does not exist."""
    script = for_system(plain_path(project) / training_script)
    if not script.is_file():
        raise DaemonError(
            f"training_script {shown_path(training_script)} does not exist",
            hint="set it to an absolute path, or one relative to the project folder",
            code="E_SCRIPT",
        )
    return script


def check_launch(settings: DaemonSettings, project: Path) -> None:
    """Raise DaemonError if the Python or the script that a cycle starts does not exist. Starts no process."""
    python = python_for(settings.python_executable)
    if not Path(python).is_file():
        raise DaemonError(
            f"{shown_path(python)}, which runs the daemon, no longer exists",
            hint="install Python again",
            code="E_PYTHON",
        )
    if settings.training_script:
        script_for(settings.training_script, project)


def check_python(executable: str) -> None:
    """Run `executable`, and raise DaemonError if it is not a Python of at least 3.11 with torch."""
    python = python_for(executable)
    if python == PYTHON:
        if find_spec("torch") is None:
            raise _no_torch(python)
        return
    probe = [python, "-I", "-c", _PROBE]
    stderr = ""
    try:
        done = _run(probe, timeout_s=_PROBE_TIMEOUT_S)
        answer = done.stdout.decode("utf-8", "replace").split()
        stderr = next(iter(reversed(done.stderr.decode("utf-8", "replace").strip().splitlines())), "")
        if is_crash(done.returncode):
            raise _crashed(f"python_executable {executable}", probe, done.returncode)
    except OSError as error:
        answer, stderr = [], error.strerror or str(error)
    except subprocess.TimeoutExpired:
        answer, stderr = [], f"no answer within {_PROBE_TIMEOUT_S:.0f} s"
    if len(answer) != 4 or answer[0] != "hotlap":
        why = f": {stderr}" if stderr else ""
        raise DaemonError(
            f"python_executable {executable} is not a Python{why} (command: {command_line(probe)})",
            hint="set it to the full path of a Python with torch, or remove it",
            code="E_PYTHON",
        )
    if (int(answer[1]), int(answer[2])) < (3, 11):
        raise DaemonError(
            f"python_executable {executable} is Python {answer[1]}.{answer[2]}, but must be at least 3.11",
            hint="set it to the full path of a newer Python with torch, or remove it",
            code="E_PYTHON",
        )
    if answer[3] != "1":
        raise _no_torch(python)


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """What torch in the trainer's Python can use."""

    version: str
    device: str  #: the name of the first GPU, or cpu
    gpu_count: int


def check_device(executable: str, device: str) -> None:
    """Raise DaemonError (E_DEVICE) if `device` is a GPU that torch in this Python does not find.

    Importing torch takes seconds, so other devices are not checked.
    """
    if device.startswith("cuda"):
        python = python_for(executable)
        require_device(torch_in(python), python, device)


def require_device(torch: TorchBuild, python: str, device: str) -> None:
    """Raise DaemonError (E_DEVICE) if `device` is a GPU that torch does not find."""
    number = device.partition(":")[2]
    if not device.startswith("cuda") or torch.gpu_count > int(number if number.isdecimal() else 0):
        return
    gpus = {0: "no GPU", 1: "one GPU"}.get(torch.gpu_count, f"{torch.gpu_count} GPUs")
    raise DaemonError(
        f"trainer.device is {device}, but torch {torch.version} in {python} finds {gpus}",
        hint='set it to "auto" or "cpu", or install a CUDA build of torch',
        code="E_DEVICE",
    )


def torch_in(python: str) -> TorchBuild:
    """Import torch in another process and return what it can use. Raises DaemonError."""
    command = [python, "-P", "-c", _TORCH_PROBE]
    try:
        done = _run(command, timeout_s=_TORCH_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DaemonError(
            f"{shown_path(python)} cannot be run: {error_text(error)}",
            hint="correct python_executable in daemon.toml",
            code="E_PYTHON",
        ) from None
    if is_crash(done.returncode):
        raise _crashed(f"{python}, which imported torch,", command, done.returncode)
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    words = lines[-1].split("|") if lines else []
    if done.returncode != 0 or len(words) != 4 or words[0] != "hotlap":
        raise _no_torch(python)
    return TorchBuild(words[1], words[2], int(words[3]))


def _run(command: Sequence[str], *, timeout_s: float) -> subprocess.CompletedProcess[bytes]:
    """Run a Python that answers a question. Raises OSError or subprocess.TimeoutExpired."""
    return subprocess.run(
        command,
        capture_output=True,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
        creationflags=window_flags(),
    )


def _crashed(what: str, command: Sequence[str], exit_code: int) -> DaemonError:
    message = f"{what} ended with {exit_words(exit_code)} (command: {command_line(command)})"
    return DaemonError(message, hint=remedy(exit_code) or "install it again", code="E_PYTHON")


def _no_torch(python: str) -> DaemonError:
    return DaemonError(
        f"{shown_path(python)} has no torch",
        hint=f"run `{command_line([python, '-m', 'pip', 'install', 'torch'])}`",
        code="E_TORCH",
    )
