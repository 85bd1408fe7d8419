"""Settings that are invalid, changed or of another user; programs in settings; unusual paths: rows 69 to 72."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from daemon.cli import main
from daemon.errors import DaemonError
from daemon.process.child import trainer_command
from daemon.runtime.instance_lock import ProjectLock
from daemon.security import approvals, permissions
from daemon.security.config_monitor import EVERY_S, ConfigMonitor
from schemas.settings.loading import load
from schemas.settings.models import TrainerSettings
from schemas.storage.layout import ProjectPaths
from tests.faults.support.harness import InstantHarness, violations
from tests.helpers import write_rollout
from tests.platforms import needs_linux, needs_posix

ROOT = Path(__file__).parents[3]
POSIX = needs_posix("owners, mode bits and FIFOs")


@pytest.fixture(autouse=True)
def separate_approvals(tmp_path_factory, monkeypatch):
    """Keep the approvals of the user who runs the tests out of them."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config_home")))


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "daemon.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(0o644)
    return path


def run_cli(capsys, *arguments: object) -> tuple[int, str]:
    """Run the command line and return the exit code and the line on stderr."""
    code = main([str(a) for a in arguments])
    err = capsys.readouterr().err
    assert len(err.splitlines()) <= 1
    assert "Traceback" not in err
    return code, err


BROKEN = {
    "no TOML": ("[daemon]\nauto_train_after_n_rollouts = \n", "line 2"),
    "unknown key": ("[daemon]\n\nrollouts = 3\n", "daemon.toml, line 3: unknown setting daemon.rollouts"),
    "unknown table": ("[deamon]\nwarm_trainer = true\n", "daemon.toml, line 2: unknown setting deamon.warm_trainer"),
    "a table that is a number": ("daemon = 5\n", "daemon.toml, line 1: daemon is 5, but must be a table"),
    "wrong type": ("[daemon]\nwarm_trainer = 'maybe'\n", 'daemon.toml, line 2: daemon.warm_trainer is "maybe", but'),
    "infinite": (
        "[trainer]\nseed = 1\nlearning_rate = inf\n",
        "daemon.toml, line 3: trainer.learning_rate is inf, but",
    ),
    "nan": ("[daemon]\nsettle_s = nan\n", "daemon.toml, line 2: daemon.settle_s is nan, but"),
    "negative": (
        "[daemon]\nauto_train_after_n_rollouts = -3\n",
        "daemon.toml, line 2: daemon.auto_train_after_n_rollouts is -3, but",
    ),
    "a dotted key": ("trainer.epochs = 0\n", "daemon.toml, line 1: trainer.epochs is 0, but"),
    "5,000 digits": ("[trainer]\nseed = " + "9" * 5000, "is not valid TOML"),
    "nested too deep": ("[trainer]\nseed = " + "[" * 100_000, "nested too deeply"),
    "twice": ("[trainer]\nseed = 1\nseed = 2\n", "line 3"),
    "not UTF-8": (b"[trainer]\nseed = 1 # \xff\n", "not UTF-8 (byte 21)"),
    "escape sequences": ('[trainer]\ndevice = 3 # \x1b[2J\n"\\u001b[31m" = 1\n', "line 2"),
    "a megabyte and more": ("# " + "x" * (1 << 20), "more than the 1 MB allowed"),
    "a right that no file may give": ("[daemon]\nallow_shared = true\n", "cannot be set in a file"),
}


@pytest.mark.fault(69)
@pytest.mark.parametrize(("text", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_config_is_refused_in_one_line_that_names_the_place(tmp_path, capsys, text, words):
    write(tmp_path, text)
    exit_code, err = run_cli(capsys, "--project", tmp_path, "--no-dashboard")
    assert exit_code == 2
    assert words in err
    assert "[E_CONFIG]" in err
    assert "\x1b" not in err
    assert not ProjectPaths(tmp_path).training.exists(), "nothing was started"


@POSIX
@pytest.mark.fault(69)
def test_a_pipe_a_folder_or_a_link_loop_instead_of_the_config_is_refused_at_once(tmp_path, capsys):
    path = tmp_path / "daemon.toml"
    for make in (lambda: os.mkfifo(path), path.mkdir, lambda: path.symlink_to(path)):
        make()
        began = time.monotonic()
        code, err = run_cli(capsys, "--project", tmp_path, "--once")
        assert code == 2
        assert "[E_" in err
        assert time.monotonic() - began < 2
        path.rmdir() if path.is_dir() else path.unlink()


CHANGES = {
    "valid": ("[trainer]\nepochs = 3\n", "was changed; the daemon keeps its settings until"),
    "broken": ("[trainer]\nepochs = zero\n", "cannot be used; the daemon keeps its settings"),
    "torn": ("[trai", "cannot be used; the daemon keeps its settings"),
    "unknown key": ("[trainer]\nepoch = 3\n", "did you mean trainer.epochs?"),
}


@pytest.mark.fault(69)
@pytest.mark.parametrize(("text", "words"), CHANGES.values(), ids=CHANGES)
def test_a_config_that_changes_while_the_daemon_runs_is_reported_and_not_used(fresh_project, text, words):
    folder = fresh_project()
    write(folder, "[trainer]\nepochs = 2\n")
    with InstantHarness(folder) as harness:
        lock = ProjectLock(harness.paths.lock)
        lock.acquire()
        monitor = ConfigMonitor(harness.context, lock, config=None)
        settings = harness.context.settings
        harness.write_rollouts(1, 2)
        harness.until(lambda: harness.runner.busy or harness.version == 1)
        write(folder, text + "# longer than before\n")
        for _ in range(3):
            harness.clock.pass_s(EVERY_S)
            monitor.check()
        [warning] = [w for w in harness.context.warnings() if w.code == "W_CONFIG"]
        assert words in warning.message
        assert sum(words in line for line in harness.log.lines) == 1
        harness.until_version(1)
        assert harness.context.settings is settings
        lock.release()
    assert violations(folder) == ()


@POSIX
@pytest.mark.fault(69)
def test_a_config_that_becomes_writable_for_everybody_is_reported_and_not_read(fresh_project):
    folder = fresh_project()
    with InstantHarness(folder) as harness:
        monitor = ConfigMonitor(harness.context, ProjectLock(harness.paths.lock), config=None)
        write(folder, "[trainer]\nepochs = zero\n").chmod(0o666)
        harness.clock.pass_s(EVERY_S)
        monitor.check()
        [warning] = [w for w in harness.context.warnings() if w.code == "W_CONFIG"]
        assert "can be written by everybody" in warning.message
        (folder / "daemon.toml").unlink()
        harness.clock.pass_s(EVERY_S)
        monitor.check()
        assert "W_CONFIG" not in harness.warnings(), "the config is as it was at the start"


def make_foreign(path: Path, monkeypatch) -> None:
    """Make another user own a path: with chown as root, else by a replaced `os.geteuid`."""
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    else:
        monkeypatch.setattr(permissions.os, "geteuid", lambda: 54321)


@POSIX
@pytest.mark.fault(71)
def test_a_config_that_another_user_can_write_is_refused(tmp_path, capsys, monkeypatch):
    path = write(tmp_path, "[daemon]\nauto_train_after_n_rollouts = 3\n")
    path.chmod(0o666)
    code, err = run_cli(capsys, "--once", "--project", tmp_path)
    assert (code, "E_SHARED_CONFIG" in err, f"chmod go-w {path}" in err) == (2, True, True)
    path.chmod(0o644)
    assert run_cli(capsys, "--once", "--project", tmp_path)[0] == 3
    make_foreign(path, monkeypatch)
    code, err = run_cli(capsys, "--once", "--project", tmp_path)
    assert (code, "E_SHARED_CONFIG" in err, "belongs to" in err) == (2, True, True)


@POSIX
@pytest.mark.fault(71)
@pytest.mark.parametrize("what", ["project", "training", "models", "state"])
def test_a_folder_that_everybody_can_write_is_refused_without_allow_shared(tmp_path, capsys, what):
    paths = ProjectPaths(tmp_path)
    paths.make()
    folder = getattr(paths, what)
    folder.chmod(0o777)
    code, err = run_cli(capsys, "--once", "--project", tmp_path)
    assert (code, "E_SHARED_FOLDER" in err, "--allow-shared" in err) == (2, True, True)
    assert not paths.ledger.exists()
    assert run_cli(capsys, "--once", "--allow-shared", "--project", tmp_path)[0] == 3
    folder.chmod(0o1777)
    assert run_cli(capsys, "--once", "--project", tmp_path)[0] == 3, (
        "with the sticky bit, other users cannot replace files"
    )


@POSIX
@pytest.mark.fault(71)
def test_a_project_that_belongs_to_another_user_is_refused_without_allow_shared(tmp_path, capsys, monkeypatch):
    make_foreign(tmp_path, monkeypatch)
    code, err = run_cli(capsys, "--once", "--project", tmp_path)
    assert (code, "E_SHARED_FOLDER" in err, "belongs to" in err) == (2, True, True)
    monkeypatch.setenv("HOTLAP_DAEMON__ALLOW_SHARED", "true")
    assert run_cli(capsys, "--once", "--project", tmp_path)[0] == 3


@POSIX
@pytest.mark.fault(71)
def test_files_that_only_the_owners_own_group_can_write_are_accepted(tmp_path, monkeypatch):
    import grp
    import pwd

    tmp_path.chmod(0o775)
    me = pwd.getpwuid(tmp_path.stat().st_uid)
    own = grp.struct_group((me.pw_name, "x", me.pw_gid, []))
    shared = grp.struct_group(("staff", "x", me.pw_gid, ["alice", "bob"]))
    monkeypatch.setattr(permissions.grp, "getgrgid", lambda gid: own)
    assert permissions.others_can_write(tmp_path) is None
    monkeypatch.setattr(permissions.grp, "getgrgid", lambda gid: shared)
    assert permissions.others_can_write(tmp_path) == "can be written by the group staff"


# Row 70: the programs that the settings name


def write_programs(folder: Path) -> Path:
    """Write a training script, a network and a Python that create a file if they run; return that file."""
    mark = folder / "was_run"
    text = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n"
    for name in ("evil.py", "json.py", "torch.py", "random.py"):
        (folder / name).write_text(text)
    python = folder / "python"
    python.write_text(f"#!/bin/sh\ntouch '{mark}'\n")
    python.chmod(0o755)
    return mark


PROGRAMS = {
    "a script": "[daemon]\ntraining_script = 'evil.py'\n",
    "a python": "[daemon]\npython_executable = '{folder}/python'\n",
    "a network": "[trainer]\nnetwork = 'evil:Network'\n",
    "a loss": "[trainer]\nloss = 'evil:loss'\n",
}


@pytest.mark.fault(70)
@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
@pytest.mark.parametrize("command", ["--once", "", "doctor", "publish --epoch 1", "trust --show"])
def test_no_program_that_a_project_names_runs_before_the_user_approves_it(tmp_path, capsys, text, command):
    mark = write_programs(tmp_path)
    write_rollout(tmp_path, 1)
    write(tmp_path, text.format(folder=tmp_path))
    code = main([*command.split(), "--project", str(tmp_path)])
    output = "".join(capsys.readouterr())
    assert code in {1, 2}
    assert "not approved" in output
    if "trust" not in command:
        assert "E_UNTRUSTED" in output
        assert "`hotlap trust`" in output or " -m daemon trust`" in output
    assert not mark.exists()


@pytest.mark.fault(70)
def test_an_approval_holds_only_for_the_same_values_in_the_same_project(tmp_path, capsys):
    approved, not_approved = tmp_path / "approved", tmp_path / "other"
    for folder in (approved, not_approved):
        folder.mkdir()
        write_programs(folder)
        write(folder, PROGRAMS["a script"])
    assert main(["trust", "--project", str(approved)]) == 0
    assert "daemon.training_script = 'evil.py'" in capsys.readouterr().out
    approvals.check_approved(approved, load(approved, environment={}))
    with pytest.raises(DaemonError, match="E_UNTRUSTED"):
        approvals.check_approved(not_approved, load(not_approved, environment={}))
    write(approved, "[daemon]\ntraining_script = 'json.py'\n")
    with pytest.raises(DaemonError, match="E_UNTRUSTED"):
        approvals.check_approved(approved, load(approved, environment={}))
    write(approved, PROGRAMS["a script"] + "warm_trainer = false\n")
    approvals.check_approved(approved, load(approved, environment={}))
    assert main(["trust", "--revoke", "--project", str(approved)]) == 0
    with pytest.raises(DaemonError, match="E_UNTRUSTED"):
        approvals.check_approved(approved, load(approved, environment={}))


@pytest.mark.fault(70)
def test_a_project_cannot_contain_its_own_approval(tmp_path, monkeypatch):
    """Check that approvals are read only from the user's own folder, and not from files that others can write."""
    write(tmp_path, PROGRAMS["a script"])
    loaded = load(tmp_path, environment={})
    path = approvals.approve(tmp_path, approvals.programs_of(loaded))
    assert not path.is_relative_to(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["daemon.toml"]
    approvals.check_approved(tmp_path, loaded)
    if sys.platform != "win32":
        assert path.parent.stat().st_mode & 0o077 == 0
        path.chmod(0o666)
        with pytest.raises(DaemonError, match="E_UNTRUSTED"):
            approvals.check_approved(tmp_path, loaded)


@pytest.mark.fault(70)
def test_variables_and_defaults_need_no_approval(tmp_path):
    approvals.check_approved(tmp_path, load(tmp_path, environment={}))
    approvals.check_approved(tmp_path, load(tmp_path, environment={"HOTLAP_DAEMON__TRAINING_SCRIPT": "mine.py"}))
    write(tmp_path, PROGRAMS["a script"])
    approvals.check_approved(tmp_path, load(tmp_path, environment={"HOTLAP_DAEMON__TRAINING_SCRIPT": "mine.py"}))
    write(tmp_path, f"[daemon]\npython_executable = {orjson.dumps(sys.executable).decode()}\n")
    approvals.check_approved(tmp_path, load(tmp_path, environment={}))
    write(tmp_path, "[daemon]\ntraining_script = ''\n[trainer]\nseed = 3\n")
    approvals.check_approved(tmp_path, load(tmp_path, environment={}))


@pytest.mark.fault(70)
def test_allow_shared_does_not_approve_programs(tmp_path):
    write(tmp_path, PROGRAMS["a network"])
    loaded = load(tmp_path, environment={"HOTLAP_DAEMON__ALLOW_SHARED": "1"})
    with pytest.raises(DaemonError, match="E_UNTRUSTED"):
        approvals.check_before_running(tmp_path, loaded)


@pytest.mark.fault(70)
@pytest.mark.parametrize(("network", "is_found"), [("", False), ("evil:Network", True)])
def test_a_trainer_finds_modules_in_the_project_only_if_the_approved_settings_name_some(tmp_path, network, is_found):
    """Check that a `random.py` in a project is not imported instead of Python's own."""
    write_programs(tmp_path)
    settings = TrainerSettings(network=network)
    log = tmp_path / "log"
    command = trainer_command(sys.executable, log=log, project=tmp_path, settings=settings)
    assert "-P" in command.arguments
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, command.search_path))}
    code = (
        "import importlib.util as u, random, sys, trainer.worker.serve as worker; from trainer.cli import main\n"
        "worker.serve = lambda: sys.exit(print(bool(u.find_spec('evil')), u.find_spec('json').origin))\n"
        "main(sys.argv[1:])\n"
    )
    arguments = command.arguments[command.arguments.index("trainer") + 1 :]
    ask = [sys.executable, "-P", "-c", code, *arguments]
    done = subprocess.run(ask, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [str(is_found), json.__file__]


# Row 72: unusual paths


ODD = {
    "spaces": "my game  2",
    "unicode": "Spiel \u00fc\u4e2d\U0001f3ce",
    "percent": "100%s%%d{0}",
    "brackets": "[x]*?",
    "leading dash": "-rf",
    "dollar and quotes": "$HOME `x` 'q' \"d\"",
    "hash and semicolon": "a#b;c&d",
    "dots": "...hidden..",
}


def odd_folder(parent: Path, name: str) -> Path:
    try:
        (parent / name).mkdir()
    except OSError as error:
        pytest.skip(f"{sys.platform}: it does not allow this name ({error.strerror})")
    if sys.platform == "win32" and name.endswith("."):
        pytest.skip("Windows: names cannot end with a dot")
    return parent / name


@pytest.mark.fault(72)
@pytest.mark.parametrize("name", ODD.values(), ids=ODD)
def test_a_cycle_in_a_folder_with_an_odd_name(tmp_path, capsys, name):
    folder = odd_folder(tmp_path, name)
    with InstantHarness(folder) as harness:
        harness.run_cycle(1)
    assert violations(folder) == ()
    assert Path(ProjectPaths(folder).pointer.read_text(encoding="utf-8")).is_file()
    assert main(["history", "--json", f"--project={folder}"]) == 0
    assert [cycle["state"] for cycle in orjson.loads(capsys.readouterr().out)] == ["published"] * 2


@pytest.mark.fault(72)
def test_a_cycle_in_a_path_of_more_than_300_characters(tmp_path):
    folder = tmp_path
    while len(str(folder)) < 320:
        folder = odd_folder(folder, "a folder of a name that is not short")
    with InstantHarness(folder) as harness:
        harness.run_cycle(1)
    assert violations(folder) == ()


@pytest.mark.fault(72)
def test_a_relative_path_with_a_leading_dash(tmp_path, capsys, monkeypatch):
    odd_folder(tmp_path, "-x")
    monkeypatch.chdir(tmp_path)
    assert main(["--once", "--project=-x"]) == 3
    assert "-x/Saved/Training/Exports" in capsys.readouterr().err.replace(os.sep, "/")


@needs_linux("names of any bytes")
@pytest.mark.fault(72)
def test_a_path_that_is_not_utf_8_is_refused_in_one_line(tmp_path, capsys):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/game\xff"))
    folder.mkdir()
    code, err = run_cli(capsys, "--once", "--project", folder)
    assert (code, "is not valid UTF-8" in err) == (2, True)
    assert err.isascii()


@pytest.mark.slow
@pytest.mark.fault(72)
def test_a_real_trainer_in_a_folder_with_an_odd_name(tmp_path):
    folder = odd_folder(tmp_path, "-my [x] 100% \u00fc\u4e2d")
    paths = ProjectPaths(folder)
    paths.make()
    write_rollout(paths.exports, 1)
    done = subprocess.run(
        [sys.executable, "-m", "daemon", "--once", f"--project={folder}", "--epochs", "1"],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert violations(folder) == ()


@pytest.mark.fault(72)
def test_the_pointer_follows_a_project_that_was_moved(fresh_project, tmp_path):
    """Check that the pointer file is written again: the old absolute path is wrong after a move."""
    old = fresh_project()
    with InstantHarness(old) as harness:
        harness.run_cycle(1)
    new = tmp_path / "moved"
    shutil.copytree(old, new)
    assert violations(new) != ()
    with InstantHarness(new):
        assert Path(ProjectPaths(new).pointer.read_text(encoding="utf-8")).is_relative_to(new.resolve())
    assert violations(new) == ()
