"""The Python that dev.py needs, and the lists of packages."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts import dev
from scripts.devtools.checkout import Checkout, SetupError, check_python

ROOT = Path(__file__).resolve().parents[3]
FILES = [ROOT / "scripts" / "dev.py", *sorted((ROOT / "scripts" / "devtools").glob("*.py"))]


def test_an_old_python_is_refused_and_a_newer_one_is_named():
    check_python((3, 11))
    with pytest.raises(SetupError, match=r"^Python 3\.8 is too old, Hotlap needs 3\.11: run this with python3\.12$"):
        check_python((3, 8), which=lambda name: name if name in {"python3.11", "python3.12"} else None)
    with pytest.raises(SetupError, match=r"install a newer one"):
        check_python((3, 8), which=lambda name: None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_old_python_can_read_the_code(path):
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 7))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_the_standard_library_is_imported(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    others = {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names}
    assert all(name.startswith("scripts.devtools.") for name in others)


def test_every_requirement_is_pinned_within_its_range():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = {canonicalize_name(name): version for name, version in Checkout(ROOT).pins().items()}
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    for requirement in map(Requirement, wanted):
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), f"{requirement} does not admit {pin}"
    assert pins["torch"] == "2.13.0"


def test_every_extra_of_a_verb_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {extra for verb in dev.VERBS.values() for extra in verb.extras} <= set(project["optional-dependencies"])
