"""The verbs of scripts/dev.py, with nothing installed or started."""

import re

import pytest

from scripts import dev


def test_demo_runs_twelve_cycles_in_a_new_folder(root, fakes):
    dev.main(["demo", "--epochs", "3"], root)
    (argv,) = fakes.ran
    assert argv[:6] == ["-m", "daemon", "--demo", "--cycles", "12", "--project"]
    assert re.fullmatch(r"demo/run_\d{8}_\d{6}", argv[6])
    assert (root / argv[6]).is_dir()
    assert argv[7:] == ["--epochs", "3"]


@pytest.mark.parametrize("words", [["--project", "x"], ["--project=x"]])
def test_demo_uses_the_folder_of_project(root, fakes, words):
    dev.main(["demo", *words], root)
    assert fakes.ran == [["-m", "daemon", "--demo", "--cycles", "12", *words]]
    assert not (root / "demo").exists()


@pytest.mark.parametrize(
    ("words", "argv"),
    [
        ([], ["-m", "not slow"]),
        (["--all"], []),
        (["-k", "gae", "-x", "tests/trainer"], ["-m", "not slow", "-k", "gae", "-x", "tests/trainer"]),
        (["tests/e2e", "--all", "-q"], ["tests/e2e", "-q"]),
        (["--", "--help"], ["-m", "not slow", "--help"]),
    ],
)
def test_test_passes_other_arguments_to_pytest(root, fakes, words, argv):
    dev.main(["test", *words], root)
    assert fakes.ran == [["-m", "pytest", *argv]]


def test_lint_runs_every_check_and_returns_the_first_failure(root, fakes, capsys):
    fakes.codes = {"mypy": 2, "ruff": 1}
    assert dev.main(["lint"], root) == 1
    assert [argv[1] for argv in fakes.ran[:3]] == ["ruff", "ruff", "mypy"]
    assert fakes.ran[1] == ["-m", "ruff", "format", "--check", "."]
    assert "lint_imports_command" in fakes.ran[3][1]
    assert fakes.ran[4] == ["-m", "schemas.generate", "--check"]
    assert "mypy: exit 2" in capsys.readouterr().out


def test_lint_fix_also_writes_files(root, fakes):
    dev.main(["lint", "--fix"], root)
    assert not any("--check" in argv for argv in fakes.ran)
    assert ["-m", "schemas.generate"] in fakes.ran


def test_lint_stops_after_an_interrupt(root, fakes):
    fakes.codes = {"ruff": 130}
    assert dev.main(["lint"], root) == 130
    assert len(fakes.ran) == 1


def test_the_exit_code_is_that_of_the_program(root, fakes):
    fakes.codes = {"daemon": 4}
    assert dev.main(["demo"], root) == 4


@pytest.mark.parametrize("words", [["lint", "-x"], ["setup", "tests"], ["paint"], []])
def test_an_invalid_command_line_is_refused_before_anything_is_installed(root, fakes, words, capsys):
    with pytest.raises(SystemExit) as end:
        dev.main(words, root)
    assert end.value.code == 2
    assert "dev.py: error:" in capsys.readouterr().err
    assert fakes.steps == []


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("tset", "there is not a verb tset: did you mean test? The verbs are "),
        ("python", "did you mean pythons?"),
        ("oldest_torch", "did you mean oldest-torch?"),
        ("xxxx", "there is not a verb xxxx: The verbs are demo, "),
    ],
)
def test_an_unknown_verb_names_the_nearest(root, fakes, capsys, word, message):
    with pytest.raises(SystemExit):
        dev.main([word], root)
    assert message in capsys.readouterr().err
    assert fakes.steps == []


@pytest.mark.parametrize("words", [["--help"], *([verb, "--help"] for verb in dev.VERBS)])
def test_help_explains_each_verb(words, capsys):
    with pytest.raises(SystemExit) as end:
        dev.main(words)
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in dev.VERBS) if words == ["--help"] else dev.VERBS[words[0]].epilog[:20] in shown
