"""Create a virtual environment in the checkout and install what a verb needs."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from scripts.devtools.checkout import OLDEST, Checkout, SetupError
from scripts.devtools.pip_output import SetupProgress, describe_line, explain_failure, summarise_packages
from scripts.devtools.processes import stream

if TYPE_CHECKING:
    from collections.abc import Sequence

#: the size of a new environment, and of the files while unpacking: with the CPU build of torch, and without torch
FIRST_INSTALL_GB, WITHOUT_TORCH_GB = 2.0, 0.4
QUIET = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]


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


def create_venv(checkout: Checkout, progress: SetupProgress, needed_gb: float = FIRST_INSTALL_GB) -> None:
    """Create the environment, or repair one whose Python or pip is missing."""
    if not checkout.python.exists():
        free_gb = shutil.disk_usage(str(checkout.root)).free / 1e9
        if free_gb < needed_gb:
            raise SetupError(f"{free_gb:.1f} GB free at {checkout.root}, {needed_gb} GB are needed: free some space")
        progress.show(f"creating {checkout.venv.name} with {checkout.interpreter}")
        broken = ["--clear"] if checkout.config.exists() else []
        run_step(checkout, [checkout.interpreter, "-m", "venv", *broken, str(checkout.venv)], progress)
    elif subprocess.call([str(checkout.python), "-c", "import pip"], stderr=subprocess.DEVNULL):
        run_step(checkout, [str(checkout.python), "-m", "ensurepip", "--default-pip"], progress)
    if checkout.version() and checkout.version() < OLDEST:
        raise SetupError(
            f"{checkout.venv} was created with a Python that is too old: delete that folder and run this again"
        )


def pip_install(checkout: Checkout, progress: SetupProgress, *words: str) -> list[str]:
    """Run `pip install` with the pinned versions and return its output lines."""
    argv = [str(checkout.python), "-m", "pip", "install", *QUIET, "-c", str(checkout.constraints), *words]
    return run_step(checkout, argv, progress)


def show_installed(checkout: Checkout, lines: list[str], progress: SetupProgress) -> None:
    """Show what pip installed."""
    new = [line.partition(":")[2] for line in lines if line.startswith("Installing collected packages:")]
    progress.show(f"ready, installed {summarise_packages(','.join(new).split(','), checkout.pins())}")


def install(checkout: Checkout, extras: frozenset[str], progress: SetupProgress, *requirements: str) -> None:
    """Install Hotlap, editable, with these extras and requirements at the pinned versions. Writes the stamp at the end.

    The environment gets setuptools first and the build is not isolated, so that it uses a pinned version too.
    """
    checkout.stamp.unlink(missing_ok=True)
    progress.show("installing what constraints.txt pins (the first time takes a few minutes)")
    # The tests need the meshes of rlgym-rocket-league, which asks for an old numpy.
    meshes = ["--no-deps", "rlgym-rocket-league"] if "dev" in extras else []
    lines = pip_install(checkout, progress, *meshes, "setuptools")
    target = "." + (f"[{','.join(sorted(extras))}]" if extras else "")
    lines += pip_install(checkout, progress, "--no-build-isolation", "-e", target, *requirements)
    checkout.write_stamp(extras)
    show_installed(checkout, lines, progress)


def check_complete(checkout: Checkout) -> None:
    """Raise SetupError if a list of packages is missing."""
    for name in ("pyproject.toml", "constraints.txt"):
        if not (checkout.root / name).is_file():
            raise SetupError(f"{name} is missing in {checkout.root}: run this from a complete checkout of Hotlap")


def is_ready(checkout: Checkout, wanted: Sequence[str]) -> bool:
    """Return whether the environment already has these extras or packages at the pinned versions."""
    digest, has = checkout.read_stamp()
    return checkout.python.exists() and has.issuperset(wanted) and digest == checkout.digest()


def ensure_venv(checkout: Checkout, extras: Sequence[str]) -> None:
    """Install these extras at the pinned versions into `.venv`, unless it already has them."""
    check_complete(checkout)
    if not is_ready(checkout, extras):
        progress = SetupProgress()
        create_venv(checkout, progress)
        install(checkout, checkout.read_stamp()[1].union(extras), progress)


def ensure_packages(checkout: Checkout, requirements: Sequence[str]) -> None:
    """Install these packages, without Hotlap itself, into an environment of their own, unless it already has them."""
    check_complete(checkout)
    if not is_ready(checkout, requirements):
        progress = SetupProgress()
        create_venv(checkout, progress, WITHOUT_TORCH_GB)
        checkout.stamp.unlink(missing_ok=True)
        lines = pip_install(checkout, progress, *requirements)
        checkout.write_stamp(frozenset(requirements))
        show_installed(checkout, lines, progress)
