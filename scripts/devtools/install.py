"""Create .venv and install what a verb needs."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from scripts.devtools.checkout import OLDEST, Checkout, SetupError
from scripts.devtools.pip_output import SetupProgress, describe_line, explain_failure, summarise_packages
from scripts.devtools.processes import stream

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_INSTALL_GB = 2.0  #: the size of a new .venv with the CPU build of torch, and of the files while unpacking


def run_step(checkout: Checkout, argv: list[str], progress: SetupProgress) -> list[str]:
    """Run one step of the setup and return its output lines. Raises SetupError if it fails."""
    pins = checkout.pins()
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        progress.doing = describe_line(line, pins) or progress.doing

    code = stream(argv, checkout.root, on_line, progress.tick)
    if checkout.venv.is_dir():
        checkout.log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if code:
        progress.show("stopped")
        raise SetupError(explain_failure("\n".join(lines), checkout))
    return lines


def create_venv(checkout: Checkout, progress: SetupProgress) -> None:
    """Create `.venv`, or repair one whose Python or pip is missing."""
    if not checkout.python.exists():
        free_gb = shutil.disk_usage(str(checkout.root)).free / 1e9
        if free_gb < FIRST_INSTALL_GB:
            raise SetupError(
                f"{free_gb:.1f} GB free at {checkout.root}, {FIRST_INSTALL_GB} GB are needed: free some space"
            )
        progress.show(f"creating .venv with Python {platform.python_version()}")
        broken = ["--clear"] if checkout.config.exists() else []
        run_step(checkout, [sys.executable, "-m", "venv", *broken, str(checkout.venv)], progress)
    elif subprocess.call([str(checkout.python), "-c", "import pip"], stderr=subprocess.DEVNULL):
        run_step(checkout, [str(checkout.python), "-m", "ensurepip", "--default-pip"], progress)
    if checkout.version() and checkout.version() < OLDEST:
        raise SetupError(
            f"{checkout.venv} was created with a Python that is too old: delete that folder and run this again"
        )


def install(checkout: Checkout, extras: frozenset[str], progress: SetupProgress) -> None:
    """Install Hotlap, editable, with these extras at the pinned versions. Writes the stamp at the end."""
    checkout.stamp.unlink(missing_ok=True)
    progress.show("installing what constraints.txt pins (the first time takes a few minutes)")
    quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    pip = [str(checkout.python), "-m", "pip", "install", *quiet, "-c", "constraints.txt"]
    # setuptools first and no isolation, so that the build also uses a pinned version. The tests need rlgym's meshes.
    meshes = ["--no-deps", "rlgym-rocket-league"] if "dev" in extras else []
    lines = run_step(checkout, [*pip, *meshes, "setuptools"], progress)
    target = "." + (f"[{','.join(sorted(extras))}]" if extras else "")
    lines += run_step(checkout, [*pip, "--no-build-isolation", "-e", target], progress)
    checkout.write_stamp(extras)
    new = [line.partition(":")[2] for line in lines if line.startswith("Installing collected packages:")]
    progress.show(f"ready, installed {summarise_packages(','.join(new).split(','), checkout.pins())}")


def ensure_venv(checkout: Checkout, extras: Sequence[str]) -> None:
    """Install these extras at the pinned versions into `.venv`, unless it already has them."""
    for name in ("pyproject.toml", "constraints.txt"):
        if not (checkout.root / name).is_file():
            raise SetupError(f"{name} is missing in {checkout.root}: run this from a complete checkout of Hotlap")
    digest, has = checkout.read_stamp()
    if not (checkout.python.exists() and has.issuperset(extras) and digest == checkout.digest()):
        progress = SetupProgress()
        create_venv(checkout, progress)
        install(checkout, has.union(extras), progress)
