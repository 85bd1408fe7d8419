"""Bad input gets one clear line that says what to do, and the exit code of the contract."""

from __future__ import annotations

import sys

import orjson
import pytest

from daemon.cli import main
from daemon.runtime.instance_lock import ProjectLock
from schemas.storage.layout import ProjectPaths


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


BAD = {
    "missing folder": ([], {}, "", 2, "the project folder"),
    "nothing to train on": (["--once"], {}, "", 3, "there is no rollout in"),
    "unknown setting": (["--once"], {}, "[trainer]\nepoch = 1\n", 2, "did you mean trainer.epochs?"),
    "unknown variable": (["--once"], {"HOTLAP_TRAINER__EPOCH": "1"}, "", 2, "did you mean HOTLAP_TRAINER__EPOCHS?"),
    "no python": (["--once"], {}, f"[daemon]\npython_executable = {orjson.dumps(__file__).decode()}\n", 2, "python"),
    "missing python": (["--once"], {}, "[daemon]\npython_executable = '/none'\n", 2, "python_executable /none is not"),
    "missing script": (["--once"], {}, "[daemon]\ntraining_script = 'none.py'\n", 2, "training_script none.py is not"),
    "flag out of range": (
        ["--once", "--epochs", "0"],
        {},
        "",
        2,
        "--epochs is 0, but must be a whole number from 1 to 1000",
    ),
    "cycles without demo": (["--cycles", "3"], {}, "", 2, "--cycles goes with --demo"),
    "order without a daemon": (["trigger"], {}, "", 2, "no daemon runs on this project"),
    "publish of nothing": (["publish", "--epoch", "1"], {}, "", 2, "no model was published yet"),
}


@pytest.mark.parametrize(("arguments", "environment", "config", "code", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(tmp_path, capsys, monkeypatch, arguments, environment, config, code, words, request):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "project"
    if "missing folder" not in request.node.name:
        folder.mkdir()
        (folder / "daemon.toml").write_text(config, encoding="utf-8")
    given, _, err = run(capsys, "--project", folder, *arguments)
    assert given == code
    assert words in err
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err


def test_a_second_daemon_is_turned_away(tmp_path, capsys):
    lock = ProjectLock(ProjectPaths(tmp_path).lock)
    lock.acquire()
    try:
        code, _, err = run(capsys, "--once", "--project", tmp_path)
    finally:
        lock.release()
    assert code == 4
    assert "another daemon runs on this project" in err


def test_status_and_history_and_doctor_answer_before_anything_ran(tmp_path, capsys):
    code, out, _ = run(capsys, "status", "--json", "--project", tmp_path)
    assert code == 0
    wanted = {"state", "cycle", "rollouts_pending", "rollouts_needed", "policy_version", "best_model_path"}
    assert wanted | {"heartbeat", "pid", "warnings"} <= set(orjson.loads(out))
    assert run(capsys, "history", "--json", "--project", tmp_path)[1].strip() == "[]"
    assert run(capsys, "history", "--project", tmp_path)[1] == "no cycle has ended yet\n"


def test_doctor_tells_a_missing_model_and_a_bad_python(tmp_path, capsys):
    layout = ProjectPaths(tmp_path)
    layout.make()
    layout.pointer.write_text(f"{layout.models.as_posix()}/cycle_000001/model_epoch_1.json", encoding="utf-8")
    (tmp_path / "daemon.toml").write_text("[daemon]\npython_executable = '/none'\n", encoding="utf-8")
    code, out, _ = run(capsys, "doctor", "--project", tmp_path)
    assert code == 1
    assert "[WRONG] model: cycle_000001/model_epoch_1.json is not there" in out
    assert "[WRONG] python" in out


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for word in ("--once", "--demo", "status", "publish", "daemon.toml", "HOTLAP_", "Exit codes"):
        assert word in out


@pytest.mark.skipif(sys.platform == "win32", reason="file rights")
def test_a_project_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "Saved").write_text("a file where a folder is due")
    code, _, err = run(capsys, "--once", "--project", tmp_path)
    assert code == 2
    assert "cannot be created" in err
