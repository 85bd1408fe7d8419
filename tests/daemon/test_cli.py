"""The command line of `hotlap`: its commands, and one clear line and an exit code for every mistake."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from daemon.cli import main
from daemon.runtime.instance_lock import ProjectLock
from schemas import __version__
from schemas.program import commands
from schemas.storage.layout import ProjectPaths
from tests.platforms import needs_posix


@pytest.fixture(autouse=True)
def _hotlap_is_on_the_path(monkeypatch):
    monkeypatch.setattr(commands, "hotlap_command", lambda: "hotlap")


def run(capsys, *arguments):
    """Run a command in this process; return its exit code and output."""
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as error:
        code = error.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def content(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


BAD = {
    "missing folder": ([], {}, "", 2, "the project folder"),
    "empty folder name": (["--project", "", "status"], {}, "", 2, "--project: the folder's name is empty"),
    "a file": (["--project", __file__, "status"], {}, "", 2, "test_cli.py is not a folder"),
    "nothing to train on": pytest.param(["--once"], {}, "", 3, "Exports contains no rollouts", marks=pytest.mark.torch),
    "unknown setting": (["--once"], {}, "[trainer]\nepoch = 1\n", 2, "did you mean trainer.epochs?"),
    "unknown variable": (["--once"], {"HOTLAP_TRAINER__EPOCH": "1"}, "", 2, "did you mean HOTLAP_TRAINER__EPOCHS?"),
    "no python": (["--once"], {}, f"[daemon]\npython_executable = {orjson.dumps(__file__).decode()}\n", 2, "python"),
    "missing python": (
        ["--once"],
        {},
        "[daemon]\npython_executable = '/none'\n",
        2,
        "python_executable /none does not exist",
    ),
    "missing script": (
        ["--once"],
        {},
        "[daemon]\ntraining_script = 'none.py'\n",
        2,
        "training_script none.py does not exist",
    ),
    "flag out of range": (
        ["--once", "--epochs", "0"],
        {},
        "",
        2,
        "--epochs is 0, but must be a whole number from 1 to 1000",
    ),
    "again without once": (["--again"], {}, "", 2, "--again is only for --once"),
    "cycles without demo": (["--cycles", "3"], {}, "", 2, "--cycles is only for --demo"),
    "trigger without a daemon": (["trigger"], {}, "", 2, "no daemon runs on "),
    "publish of nothing": (["publish", "--epoch", "1"], {}, "", 2, "no model was published yet"),
    "mistyped command": (["statsu"], {}, "", 2, "the command statsu does not exist -> did you mean `hotlap status`?"),
    "mistyped trainer command": (
        ["onlin"],
        {},
        "",
        2,
        "the command onlin does not exist -> did you mean `hotlap online`?",
    ),
    "mistyped flag": (["--onec"], {}, "", 2, "unknown argument --onec -> did you mean --once?"),
    "mistyped flag of a command": (["status", "--jsn"], {}, "", 2, "did you mean --json?"),
    "no number": (["--epochs", "many"], {}, "", 2, "argument --epochs: invalid int value: 'many'"),
    "missing flag": (["publish"], {}, "", 2, "required: --epoch -> see `hotlap publish --help`"),
    "once and status": (["--once", "status"], {}, "", 2, "--once and status cannot be used together"),
    "epochs and history": (["--epochs", "3", "history"], {}, "", 2, "--epochs and history cannot be used together"),
    "no dashboard and trigger": (["--no-dashboard", "trigger"], {}, "", 2, "--no-dashboard and trigger cannot"),
    "trainer's flags first": (["online", "--env", "X"], {}, "", 2, "flags of online go after the word online"),
    "unknown page": (["docs", "no-such-page"], {}, "", 2, "`hotlap docs` lists the pages"),
}


@pytest.mark.parametrize(("arguments", "environment", "config", "code", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(tmp_path, capsys, monkeypatch, arguments, environment, config, code, words, request):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/hotlap"])
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "project"
    if "missing folder" not in request.node.name:
        folder.mkdir()
        (folder / "daemon.toml").write_text(config, encoding="utf-8")
    returned, _, err = run(capsys, "--project", folder, *arguments)
    assert returned == code
    assert words in err
    assert len(err.splitlines()) == 1
    assert re.search(r"\[E_[A-Z_]+\]$", err.rstrip())
    assert "Traceback" not in err


@pytest.mark.torch
def test_a_second_daemon_is_refused(tmp_path, capsys):
    lock = ProjectLock(ProjectPaths(tmp_path).lock)
    lock.acquire()
    try:
        code, _, err = run(capsys, "--once", "--project", tmp_path)
    finally:
        lock.release()
    assert code == 4
    assert "another daemon runs on this project" in err


def test_status_and_history_work_before_the_first_daemon(tmp_path, capsys):
    code, out, _ = run(capsys, "status", "--json", "--project", tmp_path)
    assert code == 0
    wanted = {"state", "cycle", "rollouts_pending", "rollouts_needed", "policy_version", "best_model_path"}
    assert wanted | {"heartbeat", "pid", "warnings", "hotlap_version"} <= set(orjson.loads(out))
    assert tmp_path.as_posix() in run(capsys, "status", "--project", tmp_path)[1]
    assert run(capsys, "history", "--json", "--project", tmp_path)[1].strip() == "[]"
    assert run(capsys, "history", "--project", tmp_path)[1] == f"no cycle has ended yet in {tmp_path.as_posix()}\n"


def test_doctor_reports_a_missing_model_and_a_wrong_python(tmp_path, capsys):
    paths = ProjectPaths(tmp_path)
    paths.make()
    paths.pointer.write_text(f"{paths.models.as_posix()}/cycle_000001/model_epoch_1.json", encoding="utf-8")
    (tmp_path / "daemon.toml").write_text("[daemon]\npython_executable = '/none'\n", encoding="utf-8")
    code, out, _ = run(capsys, "doctor", "--project", tmp_path)
    assert code == 1
    assert "[WRONG] model: cycle_000001/model_epoch_1.json does not exist" in out
    assert "[WRONG] python" in out


# The folder


@pytest.mark.parametrize(
    "arguments", ["", "--once", "status", "history", "trigger", "pause", "publish --epoch 1", "trust"]
)
def test_a_folder_that_is_not_a_project_is_named_and_stays_empty(tmp_path, capsys, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *arguments.split())
    assert code == 2
    assert f"{tmp_path.as_posix()} is not a game's project" in err
    assert f"`hotlap {arguments.split(' --')[0] or '--project DIR'}"[:-2] in err
    assert content(tmp_path) == set()


def test_doctor_names_a_folder_that_is_not_a_project_and_checks_the_installation(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = run(capsys, "doctor")[1]
    assert f"hotlap {__version__}" in out
    assert f"project {tmp_path.as_posix()}, which is not a game's project yet" in out
    assert "torch" in out
    assert content(tmp_path) == set()


@pytest.mark.parametrize("command", ["status", "history", pytest.param("doctor", marks=pytest.mark.torch)])
def test_reports_create_nothing_in_a_project(tmp_path, capsys, monkeypatch, command):
    (tmp_path / "My.uproject").touch()
    monkeypatch.chdir(tmp_path)
    assert run(capsys, command)[0] == 0
    assert content(tmp_path) == {"My.uproject"}


@pytest.mark.torch
@pytest.mark.parametrize("name", ["Saved/", "daemon.toml", "My.uproject", "project.godot", "ProjectSettings/"])
def test_the_first_start_in_a_games_folder_needs_no_flag(tmp_path, capsys, monkeypatch, name):
    path = tmp_path / name
    path.mkdir() if name.endswith("/") else path.touch()
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "--once")
    assert (code, "Exports contains no rollouts" in err) == (3, True)
    assert ProjectPaths(tmp_path).exports.is_dir()
    first = ProjectPaths(tmp_path).daemon_log.read_text(encoding="utf-8").splitlines()[0]
    assert f"hotlap {__version__}, Python " in first
    assert f"project {tmp_path.as_posix()}" in first


@pytest.mark.torch
def test_an_explicit_project_may_be_an_empty_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "--once", "--project", ".")[0] == 3
    assert ProjectPaths(tmp_path).exports.is_dir()


def test_in_a_subfolder_the_error_names_the_project(tmp_path, capsys, monkeypatch):
    ProjectPaths(tmp_path).make()
    (tmp_path / "Source").mkdir()
    monkeypatch.chdir(tmp_path / "Source")
    assert f"`hotlap status --project {tmp_path.as_posix()}`" in run(capsys, "status")[2]


@pytest.mark.parametrize("command", ["trigger", "pause", "resume"])
def test_a_mistake_in_daemon_toml_does_not_stop_a_command(tmp_path, capsys, command):
    (tmp_path / "daemon.toml").write_text("[daemon]\nmisspelt = 1\n", encoding="utf-8")
    code, _, err = run(capsys, command, "--project", tmp_path)
    assert (code, "E_NO_DAEMON" in err, tmp_path.as_posix() in err) == (2, True, True)


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("status", 0, "no daemon has run in"),
        ("history", 0, ""),
        ("publish --epoch 1", 2, "no model was published yet"),
    ],
)
def test_reports_and_publish_do_not_need_valid_settings(tmp_path, capsys, command, code, words):
    (tmp_path / "daemon.toml").write_text("[daemon]\nmisspelt = 1\n", encoding="utf-8")
    found, out, err = run(capsys, *command.split(), "--project", tmp_path)
    assert found == code
    assert words in out + err
    assert "daemon.misspelt" not in err.splitlines()[-1:]


@pytest.mark.torch
def test_a_project_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "Saved").write_text("a file instead of a folder")
    code, _, err = run(capsys, "--once", "--project", tmp_path)
    assert code == 2
    assert "Saved is not a folder -> move or rename it" in err


# Help


@pytest.mark.parametrize("words", ["", "status", "doctor", "publish", "docs"])
def test_version_works_everywhere(capsys, words):
    assert run(capsys, *words.split(), "--version")[:2] == (0, f"hotlap {__version__}\n")


def test_help_names_every_command(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for word in ("--once", "--demo", "status", "publish", "online", "docs", "daemon.toml", "HOTLAP_", "Exit codes"):
        assert word in out


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("online", "# Train without an engine"),
        ("guides/online.md", "# Train without an engine"),
        ("lab/online", "# Online training, measured"),
        (r"docs\lab\online.md", "# Online training, measured"),
        ("windows", "# Use Hotlap on Windows"),
    ],
)
def test_docs_prints_the_guide_if_another_page_has_the_same_name(capsys, name, title):
    assert run(capsys, "docs", name)[1].startswith(title)
    assert name not in {"online", "lab/online"} or f"\n{name} " in run(capsys, "docs")[1]


def test_docs_prints_pages_and_lists_them(capsys):
    code, listed, _ = run(capsys, "docs")
    assert code == 0
    assert {"formats", "online", "glossary"} <= {line.split()[0] for line in listed.splitlines() if line}
    assert run(capsys, "docs", "glossary")[1].startswith("# Glossary")
    assert "did you mean `hotlap docs glossary`?" in run(capsys, "docs", "glosary")[2]


def test_explain_prints_the_meaning_of_a_code(capsys):
    code, out, _ = run(capsys, "explain", "e_other_daemon")
    assert (code, "E_OTHER_DAEMON: another daemon" in out, "what to do:" in out) == (0, True, True)
    assert run(capsys, "explain", "W_TRAINER_W_STALE")[0] == 0
    assert "did you mean `hotlap explain E_CONFIG`?" in run(capsys, "explain", "E_CONFG")[2]
    assert "E_CONFIG" in run(capsys, "explain")[1]


@needs_posix("the current folder can be removed")
def test_a_current_folder_that_was_removed_is_named(tmp_path, capsys, monkeypatch):
    removed = tmp_path / "removed"
    removed.mkdir()
    monkeypatch.chdir(removed)
    removed.rmdir()
    code, _, err = run(capsys, "status")
    assert (code, "the current folder does not exist any more" in err) == (2, True)


@needs_posix("a shell that closes standard streams")
@pytest.mark.parametrize(("arguments", "code"), [("status --project .", 0), ("nonsense", 2), ("docs", 0)])
def test_commands_work_with_closed_streams(tmp_path, arguments, code):
    command = f'"{sys.executable}" -m daemon {arguments} <&- >&- 2>"{tmp_path}/err"'
    root = Path(__file__).parents[2]
    done = subprocess.run(command, shell=True, cwd=root, timeout=60, check=False)
    assert done.returncode == code
    assert "Traceback" not in (tmp_path / "err").read_text()
    assert subprocess.run(f"{command} 2>&-", shell=True, cwd=root, timeout=60, check=False).returncode == code
