"""What dev.py installs, when it installs again, and its message after a failure."""

from types import SimpleNamespace

import pytest

from scripts import dev
from scripts.devtools import install
from scripts.devtools.checkout import Checkout


def test_the_first_run_installs_and_the_second_does_not(root, fakes, capsys):
    assert dev.main(["test"], root) == 0
    assert [step[1] for step in fakes.steps] == ["venv", "pip", "pip"]
    assert fakes.steps[1][-1] == "setuptools"
    assert fakes.steps[2][-3:] == ["--no-build-isolation", "-e", ".[dev]"]
    assert fakes.steps[2][fakes.steps[2].index("-c") + 1] == str(root / "constraints.txt")
    assert "installed torch 2.13.0 and 1 more" in capsys.readouterr().out

    assert dev.main(["test"], root) == 0
    assert len(fakes.steps) == 3
    assert capsys.readouterr().out == ""
    assert len(fakes.ran) == 2


def test_another_verb_adds_its_extras_and_keeps_the_others(root, fakes):
    dev.main(["demo"], root)
    assert fakes.steps[-1][-1] == "."
    dev.main(["bench"], root)
    assert fakes.steps[-1][-1] == ".[bench,dev]"
    count = len(fakes.steps)
    for verb in ("demo", "test", "lint", "setup"):
        dev.main([verb], root)
    assert len(fakes.steps) == count


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_list_is_installed_again(root, fakes, name):
    dev.main(["setup"], root)
    (root / name).write_text((root / name).read_text() + "# changed\n")
    dev.main(["setup"], root)
    assert [step[1] for step in fakes.steps] == ["venv", "pip", "pip", "pip", "pip"]


def test_other_line_endings_are_not_a_change(root, fakes):
    dev.main(["setup"], root)
    path = root / "constraints.txt"
    old, new = (b"\r\n", b"\n") if b"\r\n" in path.read_bytes() else (b"\n", b"\r\n")
    path.write_bytes(path.read_bytes().replace(old, new))
    dev.main(["setup"], root)
    assert len(fakes.steps) == 3


@pytest.mark.parametrize("stamp", ["", "{", "[]", '{"digest": 1}', '{"extras": 3, "digest": "x"}', "\0"])
def test_a_damaged_stamp_counts_as_none(root, fakes, stamp):
    dev.main(["setup"], root)
    Checkout(root).stamp.write_text(stamp)
    assert dev.main(["setup"], root) == 0
    assert len(fakes.steps) == 5


def test_an_install_that_fails_leaves_no_stamp(root, fakes, capsys):
    dev.main(["setup"], root)
    (root / "constraints.txt").write_text("rich==1.0\n")
    fakes.fail, fakes.output = "-e", "ERROR: a wheel went missing"
    assert dev.main(["setup"], root) == 1
    assert "a wheel went missing" in capsys.readouterr().err
    assert not Checkout(root).stamp.exists()
    assert Checkout(root).log.read_text() == "ERROR: a wheel went missing\n"
    assert fakes.ran == []


def test_a_venv_whose_python_is_missing_is_created_again(root, fakes):
    dev.main(["setup"], root)
    Checkout(root).python.unlink()
    Checkout(root).python.parent.rmdir()
    assert dev.main(["setup"], root) == 0
    assert fakes.steps[3][:3] == ["-m", "venv", "--clear"]


def test_a_folder_that_is_not_a_venv_is_not_cleared(root, fakes):
    Checkout(root).venv.mkdir()
    dev.main(["setup"], root)
    assert "--clear" not in fakes.steps[0]


def test_a_venv_without_pip_gets_one(root, fakes, monkeypatch):
    dev.main(["setup"], root)
    Checkout(root).stamp.unlink()
    monkeypatch.setattr(install.subprocess, "call", lambda *args, **kwargs: 1)
    dev.main(["setup"], root)
    assert fakes.steps[3][:2] == ["-m", "ensurepip"]


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_an_incomplete_checkout_is_reported(root, fakes, name, capsys):
    (root / name).unlink()
    assert dev.main(["test"], root) == 1
    assert (
        capsys.readouterr().err == f"[test] {name} is missing in {root}: run this from a complete checkout of Hotlap\n"
    )


def test_too_little_space_is_reported_before_anything_is_written(root, fakes, monkeypatch, capsys):
    monkeypatch.setattr(install.shutil, "disk_usage", lambda path: SimpleNamespace(free=0.3e9))
    assert dev.main(["test"], root) == 1
    assert "0.3 GB free" in capsys.readouterr().err
    assert not (root / ".venv").exists()


def test_an_old_venv_is_reported(root, fakes, capsys):
    dev.main(["setup"], root)
    Checkout(root).config.write_text("version = 3.9.2\n")
    assert dev.main(["setup"], root) == 1
    assert "too old: delete that folder" in capsys.readouterr().err
