"""Run the tests of the gradient with the oldest torch that pyproject.toml admits, if its CPU build is offered."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from scripts.devtools.checkout import Checkout, SetupError
from scripts.devtools.install import QUIET, create_venv, install, is_ready
from scripts.devtools.pip_output import SetupProgress, explain_failure
from scripts.devtools.processes import run

if TYPE_CHECKING:
    from pathlib import Path

TESTS = ["tests/trainer/ppo", "tests/trainer/networks", "tests/trainer/common"]
#: pip's words if the index has no build for this Python and system
NOT_OFFERED = re.compile(r"No matching distribution found for torch|ResolutionImpossible")
#: without a network, pip's last words are the same
UNREACHABLE = re.compile(r"Retrying|NewConnectionError|ProxyError|SSLError|[Tt]imed out")
GPU_PACKAGE = re.compile(r"nvidia|cuda|triton|pytorch-triton|rocm")
GPU_BUILD = re.compile(r"\+(?:cu|rocm|xpu)")


class Offer(NamedTuple):
    """What an index offers for a version of torch."""

    has_cpu_build: bool
    reason: str  #: if it has not


def oldest_torch(root: Path) -> str:
    """Return the oldest version of torch in pyproject.toml's range."""
    found = re.search(r'"torch>=([\d.]+)', (root / "pyproject.toml").read_text(encoding="utf-8"))
    if not found:
        raise SetupError("pyproject.toml does not state the oldest torch: write it as torch>=VERSION")
    return found.group(1)


def judge(code: int, report: str, version: str) -> Offer:
    """Return the offer that pip's report describes. Raises ValueError if pip failed for another reason."""
    if code:
        if UNREACHABLE.search(report):
            raise ValueError(report)
        if NOT_OFFERED.search(report):
            return Offer(False, f"the index has no torch {version} for this Python and system")
        raise ValueError(report)
    packages = [entry["metadata"] for entry in json.loads(report)["install"]]
    names = sorted(f"{entry['name']} {entry['version']}" for entry in packages)
    for name in names:
        if GPU_PACKAGE.match(name.lower()) or (name.startswith("torch ") and GPU_BUILD.search(name)):
            return Offer(False, f"the build of torch {version} on the index needs {name}")
    return Offer(True, "")


def ask_index(checkout: Checkout, version: str) -> Offer:
    """Return whether the index has a CPU build. Only reads metadata. Raises SetupError if the index does not answer."""
    argv = [str(checkout.python), "-m", "pip", "install", *QUIET, "--quiet", "--dry-run", "--ignore-installed"]
    done = subprocess.run(
        [*argv, "--only-binary", "torch", "--report", "-", f"torch=={version}"],
        capture_output=True,
        check=False,
    )
    out, err = (data.decode("utf-8", "replace") for data in (done.stdout, done.stderr))
    try:
        return judge(done.returncode, err if done.returncode else out, version)
    except ValueError:
        raise SetupError(explain_failure(err or out, checkout)) from None


def write_constraints(checkout: Checkout) -> None:
    """Copy constraints.txt without torch into the environment, for pip to read."""
    lines = checkout.constraints.read_text(encoding="utf-8").splitlines()
    checkout.constraints = checkout.venv / "constraints.txt"
    text = "\n".join(line for line in lines if not line.startswith("torch==")) + "\n"
    checkout.constraints.write_text(text, encoding="utf-8")


def run_with_oldest_torch(root: Path, arguments: list[str]) -> int:
    """Install the oldest torch into an environment of its own and run the tests of the gradient; 0 if not offered."""
    version = oldest_torch(root)
    checkout = Checkout(root, ".venv-oldest-torch")
    if not is_ready(checkout, ["dev"]):
        progress = SetupProgress()
        create_venv(checkout, progress)
        offer = ask_index(checkout, version)
        if not offer.has_cpu_build:
            print(f"[oldest-torch] no CPU build of torch {version} on this index: skipped ({offer.reason})", flush=True)
            return 0
        write_constraints(checkout)
        install(checkout, frozenset(["dev"]), progress, f"torch=={version}")
    return run([str(checkout.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS, *arguments], root)
