"""The wheel: its content, and that all commands work from it in an empty folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from schemas import __version__
from tests.platforms import PATIENCE

ROOT = Path(__file__).parents[2]
SOURCES = ("daemon", "schemas", "trainer", "docs", "configs", "examples")
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "constraints.txt")
pytestmark = pytest.mark.slow


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110 * PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy, so that it contains no old build folder and leaves no new one."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source)
    (source / "scripts").mkdir()
    (source / "scripts" / "dev.py").touch()  # the control: it must not get in
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, source)
    [path] = folder.glob("hotlap-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel):
    folder = wheel.parent / "site-packages"
    pip("install", "--no-deps", "--no-index", "--target", folder, wheel)
    return folder


@pytest.fixture
def hotlap(installed, tmp_path):
    """Run the installed command in an empty folder."""

    script = installed / "bin" / "hotlap"
    command = [script.with_suffix(".exe")] if sys.platform == "win32" else [sys.executable, script]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*map(str, command), *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(installed)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=110 * PATIENCE,
            check=False,
        )

    return run


def test_it_contains_three_packages_and_their_data(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"hotlap-{__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"daemon", "schemas", "trainer", info}
    docs = {f"daemon/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "docs").rglob("*.md")}
    configs = {f"trainer/configs/{path.name}" for path in (ROOT / "configs").iterdir()}
    examples = {f"trainer/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "examples").rglob("*.py")}
    modules = {
        p.relative_to(ROOT).as_posix() for n in ("daemon", "schemas", "trainer") for p in (ROOT / n).rglob("*.py")
    }
    other = {"daemon/py.typed", "schemas/py.typed", "trainer/py.typed"}
    data = {p.relative_to(ROOT).as_posix() for p in [*ROOT.glob("daemon/**/*.sql"), *ROOT.glob("schemas/**/*.json")]}
    assert {name for name in names if not name.startswith(info)} == docs | configs | examples | modules | other | data
    entry_points = zipfile.ZipFile(wheel).read(f"{info}/entry_points.txt").decode()
    assert "hotlap = schemas.program.entry:main" in entry_points


def test_the_command_finds_the_docs(hotlap):
    assert hotlap("--version").stdout == f"hotlap {__version__}\n"
    assert "glossary" in hotlap("docs").stdout
    assert hotlap("docs", "glossary").stdout.startswith("# Glossary")


def test_the_demo_works(hotlap, tmp_path):
    done = hotlap("--demo", "--cycles", "1", "--after-n-rollouts", "1", "--epochs", "1", "--no-dashboard")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 cycles published, 0 failed" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


@pytest.mark.parametrize("arguments", ["--env CartPole-v1 --steps 500", "--config racing --steps 300"])
def test_online_training_needs_no_file(hotlap, arguments):
    pytest.importorskip("gymnasium")
    done = hotlap("online", *arguments.split())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done: logs/latest_run/checkpoints/final_model.json" in done.stdout


def test_dagger_finds_the_shipped_milestones_and_experts(hotlap, tmp_path):
    pytest.importorskip("gymnasium")
    few = "--dagger-iterations 1 --eval-episodes 1 --policy-eval-episodes 1 --final-eval-episodes 1 --no-record-video"
    done = hotlap("dagger", "--milestone-config", "racing", "--milestone", "CHECKPOINT_1", *few.split())
    assert done.returncode in {0, 1}, done.stdout + done.stderr  # one iteration need not succeed
    assert "CHECKPOINT_1: expert 1.00" in done.stdout
    assert list((tmp_path / "dagger_pipeline_results" / "models").rglob("*.json"))


def test_a_missing_extra_is_named_from_the_installed_metadata(hotlap, installed):
    code = "from schemas.program.commands import packages_of; print(*packages_of('rocket'))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["gymnasium", "rocketsim"]
