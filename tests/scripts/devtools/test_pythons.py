"""The tests without torch, with every Python: what is installed and run, with nothing really started."""

import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from scripts import dev
from scripts.devtools import pythons
from scripts.devtools.checkout import Checkout
from scripts.devtools.pythons import SELECTION, TEST_TOOLS, requirements

ROOT = Path(__file__).resolve().parents[3]
OWN = f"3.{sys.version_info[1]}"


@pytest.fixture
def started(monkeypatch):
    """Replace the programs that run at the same time: record each group, return the codes that the test sets."""
    started = type("Started", (), {"groups": [], "codes": {}})()

    def run_together(argvs, logs, cwd):
        names = [Path(argv[0]).parents[1].name for argv in argvs]
        for argv, log, name in zip(argvs, logs, names, strict=True):
            assert argv[1:3] == ["-m", "pytest"]
            log.write_text(f"the output of {name}\n")
        started.groups.append((names, argvs[0][3:]))
        return [started.codes.get(name, 0) for name in names]

    monkeypatch.setattr(pythons, "run_together", run_together)
    monkeypatch.setattr(pythons.os, "cpu_count", lambda: 1)
    return started


def use(monkeypatch, found, problems=()):
    monkeypatch.setattr(pythons, "find_interpreters", lambda: (found, list(problems)))


def test_torch_is_the_only_dependency_that_is_left_out():
    wanted = [Requirement(line).name for line in requirements(ROOT)]
    assert "torch" not in wanted
    assert {"numpy", "pydantic", "watchdog", *TEST_TOOLS} <= set(wanted)
    pins = {name.lower() for name in Checkout(ROOT).pins()}
    assert {name.lower() for name in wanted} <= pins


def test_each_python_gets_an_environment_and_a_few_run_at_a_time(root, fakes, started, monkeypatch, capsys):
    use(monkeypatch, {"3.11": "/a/python", "3.12": "/b/python", "3.13": "/c/python"}, ["/d/python is skipped: why"])
    assert dev.main(["pythons", "-k", "ledger"], root) == 0
    assert [Path(step[-1]).name for step in fakes.steps if step[1] == "venv"] == [
        ".venv-3.11",
        ".venv-3.12",
        ".venv-3.13",
    ]
    assert not any("torch" in word for step in fakes.steps for word in step)
    assert fakes.steps[1][-len(TEST_TOOLS) - 2 :] == ["rich>=14", "watchdog", *TEST_TOOLS]
    assert [names for names, _ in started.groups] == [[".venv-3.11", ".venv-3.12"], [".venv-3.13"]]
    assert started.groups[0][1][-len(SELECTION) - 2 :] == [*SELECTION, "-k", "ledger"]
    out = capsys.readouterr().out
    assert "[pythons] /d/python is skipped: why\n" in out
    assert "the output of .venv-3.12\n[pythons] .venv-3.12: exit 0" in out
    assert "is installed here" not in out
    assert not (root / ".venv").exists()

    dev.main(["pythons"], root)
    assert len(fakes.steps) == 6, "nothing is installed again"


def test_a_failure_with_one_python_is_the_result_and_the_others_run(root, fakes, started, monkeypatch):
    use(monkeypatch, {"3.11": "/a/python", "3.12": "/b/python", "3.13": "/c/python"})
    started.codes = {".venv-3.12": 1}
    assert dev.main(["pythons"], root) == 1
    assert len(started.groups) == 2


def test_an_interrupt_ends_it(root, fakes, started, monkeypatch):
    use(monkeypatch, {"3.11": "/a/python", "3.12": "/b/python", "3.13": "/c/python"})
    started.codes = {".venv-3.11": 2}
    assert dev.main(["pythons"], root) == 2
    assert len(started.groups) == 1


def test_one_line_says_that_only_this_python_is_installed(root, fakes, started, monkeypatch, capsys):
    use(monkeypatch, {OWN: sys.executable})
    assert dev.main(["pythons"], root) == 0
    assert f"[pythons] of Python 3.11 to 3.14, only {OWN} is installed here" in capsys.readouterr().out
    assert len(started.groups) == 1, "the tests run with it, without torch"


def test_a_machine_without_a_usable_python_is_reported(root, fakes, started, monkeypatch, capsys):
    use(monkeypatch, {}, ["/usr/bin/python3.12 is skipped: it has no venv module"])
    assert dev.main(["pythons"], root) == 1
    printed = capsys.readouterr()
    assert "/usr/bin/python3.12 is skipped" in printed.out
    assert printed.err.startswith("[pythons] no Python with a venv module was found")


def test_changed_test_tools_are_installed(root, fakes, started, monkeypatch):
    use(monkeypatch, {OWN: sys.executable})
    dev.main(["pythons"], root)
    monkeypatch.setattr(pythons, "TEST_TOOLS", (*TEST_TOOLS, "something-new"))
    dev.main(["pythons"], root)
    assert fakes.steps[-1][-1] == "something-new"
