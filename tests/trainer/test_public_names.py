"""Users import from `trainer`: every public name exists, and is imported only when it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import trainer
from trainer.envs import racing, rocket

ROOT = Path(__file__).resolve().parents[2]
NEEDS_AN_EXTRA = {"RocketSimEnv", "RocketVectorEnv"}


@pytest.mark.parametrize("name", trainer.__all__)
def test_every_public_name_exists(name):
    if name in NEEDS_AN_EXTRA:
        pytest.importorskip("gymnasium")
    assert getattr(trainer, name).__name__ == name
    assert name in dir(trainer)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'trainer' has no attribute 'Knobs'"):
        _ = trainer.Knobs


def test_the_packages_of_environments_export_their_names():
    pytest.importorskip("gymnasium")
    assert rocket.RocketSimEnv is trainer.RocketSimEnv
    assert rocket.RocketVectorEnv is trainer.RocketVectorEnv
    assert racing.RacingVecEnv is trainer.RacingVecEnv
    with pytest.raises(AttributeError, match="RocketWorld"):
        _ = rocket.RocketWorld


def test_importing_the_package_does_not_import_other_modules():
    """Not even `typing`: `python -m trainer` imports the package while a game's folder is searched first."""
    code = "import sys; before = set(sys.modules); import trainer; print(sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "['trainer']"
