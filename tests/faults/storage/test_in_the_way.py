"""Other programs' files and folders in the place of Hotlap's: nothing is lost, and a start continues; rows 90 to 92."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon import app
from daemon.cli import main
from daemon.diagnostics import doctor
from daemon.ledger.ledger import Ledger
from daemon.rollouts import inbox
from schemas.model import model_to_bytes
from schemas.storage.layout import ProjectPaths
from tests.faults.support.disk import os_error, refusing
from tests.faults.support.harness import InstantHarness, InstantLauncher, violations
from tests.helpers import make_model

MARK = b"the only copy of something that is not Hotlap's"
PAUSED = "1790000000"
CYCLES = 3
FOLDERS = ["", "Exports", "Rejected", "Models", "Logs", "State", "State/cache", "State/staging", "State/commands"]
STATE_FILES = [
    "gone_cycles.jsonl",
    "compared_rollouts.npz",
    "ledger.sqlite3-journal",
    "ledger.sqlite3.new",
    "daemon.lock",
]
FILES = [
    "status.json",
    "Logs/daemon.log",
    f"Logs/cycle_{CYCLES}.log",
    "State/commands/1790000000.000000_12.command",
    "State/commands/1790000000.000000_12.reply",
    *(f"State/{name}" for name in STATE_FILES),
    "Models/best_model_path.txt",
    "Models/model_analysis.json",
    "Models/model_epoch_2.json",
    "Models/model_epoch_2.pt",
    "Models/cycle_000001/model_epoch_2.json",
    "Models/cycle_000002/model_analysis.json",
    "Models/cycle_000002/model_epoch_1.pt",
]
FOREIGN = [
    "State/commands/x.command",
    "State/commands/x.reply",
    "State/staging/cycle_000003",
    "State/staging/cycle_000900",
    "State/staging/cycle_99999999999999999999",
    "Logs/cycle_99999999999999999999.log",
    "Models/cycle_000003",
    "Models/cycle_000900",
    "Models/cycle_99999999999999999999",
    "Models/cycle_-1",
    "Models/cycle_٠٠٠٩٠٠",
    "Models/CYCLE_000900",
    "Models/MODEL_EPOCH_2.JSON",
    "Models/model_epoch_٣.json",
    "Models/model_epoch_99999999999999999999.pt",
    "Models/.best_model_path.txt.0123abcd.tmp",
    "Rejected/rollout_9.json.reason.txt",
]
LEDGER = ["State/ledger.sqlite3", "State"]
NOT_KEPT = {
    "State/daemon.lock",
    "State/compared_rollouts.npz",
    "State/ledger.sqlite3.new",
    "State/ledger.sqlite3-journal",
}
NOT_KEPT |= {"Models/.best_model_path.txt.0123abcd.tmp", *(name for name in FILES if "commands/1790" in name)}
"""Files with exactly these names are Hotlap's to replace. A file with other bytes is not kept."""
NOT_FOLLOWED = {"State/ledger.sqlite3", "State/ledger.sqlite3-journal", "State/commands/1790000000.000000_12.command"}
NOT_FOLLOWED |= {"State/commands/1790000000.000000_12.reply", "Models/best_model_path.txt"}
"""SQLite and the commands do not continue with links at these names."""


def put_folder(path: Path) -> None:
    path.mkdir()
    (path / "mine.txt").write_bytes(MARK)


KINDS: dict[str, Callable[[Path], object]] = {
    "folder": put_folder,
    "empty": lambda path: path.write_bytes(b""),
    "bytes": lambda path: path.write_bytes(MARK),
    "link": lambda path: path.symlink_to(path.parent / "nothing"),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Iterator[Path]:
    """Make a paused project with two cycles and a rollout for the next one; its copies are made at the same path."""
    base = tmp_path_factory.mktemp("in_the_way")
    with InstantHarness(base / "project") as harness:
        harness.until_version(0)
        harness.run_cycle(1)
        harness.run_cycle(3)
        harness.ledger.set_meta("paused", PAUSED)
        harness.tick()
        harness.write_rollouts(7)
    shutil.copytree(base / "project", base / "template")
    return base


@pytest.fixture
def project(template, monkeypatch) -> Callable[[], ProjectPaths]:
    """Return a function that makes the project again. Its trainers finish at once."""

    class Launcher(InstantLauncher):
        def __init__(self, wake: object) -> None:
            super().__init__()

    monkeypatch.setattr(app, "ChildLauncher", Launcher)
    monkeypatch.setattr(inbox, "QUIET_S", 0.2)
    monkeypatch.setattr(doctor, "_python", lambda *_: ())

    def make() -> ProjectPaths:
        shutil.rmtree(template / "project", ignore_errors=True)
        shutil.copytree(template / "template", template / "project")
        return ProjectPaths(template / "project")

    return make


def replace(path: Path, kind: str) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    KINDS[kind](path)


def kept(paths: ProjectPaths) -> int:
    """Return how many files contain the mark."""
    return sum(
        MARK in path.read_bytes() for path in paths.project.rglob("*") if path.is_file() and not path.is_symlink()
    )


def memory(paths: ProjectPaths) -> tuple[str | None, int]:
    """Return when the project was paused, and the last cycle."""
    with contextlib.closing(Ledger.open(paths.ledger, read_only=True)) as ledger:
        return ledger.meta("paused"), ledger.last_cycle_id()


def start(paths: ProjectPaths, capsys) -> tuple[int, str]:
    """Run `--once`; return the exit code and what was printed. An exception would fail the test."""
    code = main(["--project", str(paths.project), "--once"])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    assert code == 0 or (len(printed.err.splitlines()) == 1 and "->" in printed.err), printed.err
    return code, printed.out + printed.err


def check_case(paths: ProjectPaths, name: str, kind: str, capsys) -> None:
    replace(paths.training / name, kind)
    if kind == "folder":
        main(["--project", str(paths.project), "doctor"])
        assert "Traceback" not in capsys.readouterr().err
    code, output = start(paths, capsys)
    where = f"{kind} at {name}: {output}"
    if kind == "link":
        assert code in {0, 2}, where
        return
    assert code == (3 if name in {"", "Exports"} else 0), where
    if kind != "empty" and not (kind == "bytes" and name in NOT_KEPT):
        assert kept(paths) == 1, where
    if name not in {*LEDGER, ""}:
        assert memory(paths) == (PAUSED, CYCLES if code == 0 else CYCLES - 1), where
    assert [v for v in violations(paths.project) if "no .reason.txt" not in str(v)] == [], where


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.fault(90)
@pytest.mark.parametrize("kind", KINDS)
def test_each_entry_of_a_project_replaced_alone(project, capsys, kind):
    for name in (*FOLDERS, *FILES, *FOREIGN, *LEDGER):
        if kind != "link" or name not in NOT_FOLLOWED:
            check_case(project(), name, kind, capsys)


@pytest.mark.fault(90)
def test_folders_in_place_of_all_files_at_once_are_moved_aside_and_named(project, capsys):
    paths = project()
    names = [name for name in FILES if "cycle_00000" not in name]
    for name in names:
        replace(paths.training / name, "folder")
    assert main(["--project", str(paths.project), "doctor"]) == 1
    assert f"{paths.status.as_posix()} has the name of a file of Hotlap, but is not one" in capsys.readouterr().out
    code, output = start(paths, capsys)
    assert code == 0
    assert "W_BLOCKED" in output
    assert "W_SET_ASIDE" in output
    assert kept(paths) == len(names)
    assert memory(paths) == (PAUSED, CYCLES)
    assert violations(paths.project) == ()
    assert "W_BLOCKED" not in start(paths, capsys)[1]


@pytest.mark.fault(90)
def test_files_in_place_of_all_folders_below_state_are_moved_aside(project, capsys):
    paths = project()
    names = ["Rejected", "Logs", "State/cache", "State/staging", "State/commands"]
    for name in names:
        replace(paths.training / name, "bytes")
    code, output = start(paths, capsys)
    assert (code, kept(paths), memory(paths)) == (0, len(names), (PAUSED, CYCLES)), output
    assert violations(paths.project) == ()


@pytest.mark.fault(91)
def test_foreign_cycle_folders_are_moved_aside_and_the_ledger_stays(project, capsys):
    """Check folders that contain a model of Hotlap, too: a copy of a cycle, and a cycle of another project."""
    paths = project()
    for name in FOREIGN:
        replace(paths.training / name, "folder")
    shutil.copytree(paths.cycle_folder(2), paths.cycle_folder(950))
    model = make_model(version=700)
    lineage = model.lineage.model_copy(update={"parent": "cycle_000699/model_epoch_4.json"})
    paths.cycle_folder(700).mkdir()
    (paths.cycle_folder(700) / "model_epoch_1.json").write_bytes(
        model_to_bytes(dataclasses.replace(model, lineage=lineage))
    )
    code, output = start(paths, capsys)
    assert (code, memory(paths)) == (0, (PAUSED, CYCLES)), output
    assert "W_LEDGER_REBUILT" not in output
    assert kept(paths) == len(FOREIGN)
    assert not paths.cycle_folder(950).exists()
    assert not paths.cycle_folder(700).exists()
    assert len(list(paths.models.glob("before_hotlap_*/cycle_*"))) >= 3
    assert violations(paths.project) == ()


@pytest.mark.fault(90)
def test_a_file_at_saved_and_a_file_that_cannot_be_moved_are_reported_in_one_line(project, capsys, monkeypatch):
    paths = project()
    shutil.rmtree(paths.project / "Saved")
    (paths.project / "daemon.toml").write_text("")
    (paths.project / "Saved").write_bytes(MARK)
    code, output = start(paths, capsys)
    assert code == 2
    assert "/Saved is not a folder -> move or rename it [E_PROJECT]" in output
    paths = project()
    replace(paths.logs, "bytes")

    def refuse(*_: object, **__: object) -> Path:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("daemon.runtime.in_the_way.set_aside", refuse)
    code, output = start(paths, capsys)
    assert code == 2
    assert "Logs is a file, but must be a folder, and cannot be moved" in output
    assert kept(paths) == 1


@pytest.mark.fault(90)
@pytest.mark.parametrize("name", ["Models", "State/cache", "State/staging"])
def test_a_folder_that_cannot_be_written_is_named_at_the_start(project, capsys, monkeypatch, name):
    paths = project()
    refused, access = paths.training / name, os.access
    monkeypatch.setattr("daemon.app.os.access", lambda path, mode: path != refused and access(path, mode))
    code, output = start(paths, capsys)
    assert code == 2
    assert f"{name} cannot be written -> correct the permissions of " in output
    assert memory(paths) == (PAUSED, CYCLES - 1)


@pytest.mark.fault(90)
def test_what_appears_while_the_daemon_runs_is_moved_aside(tmp_path):
    with InstantHarness(tmp_path) as harness:
        harness.until_version(0)
        paths = harness.paths
        names = ["status.json", "State/staging/cycle_000001", "Models/cycle_000001", "Models/model_epoch_2.json"]
        names += ["Models/best_model_path.txt", "State/commands/1.000000_2.command", "Models/cycle_000009"]
        for name in names:
            replace(paths.training / name, "folder")
        replace(paths.logs, "bytes")
        harness.run_cycle(1)
        assert kept(paths) == len(names) + 1
        assert paths.pointer.read_text().endswith("model_epoch_2.json")
        assert paths.logs.is_dir()
        assert "W_BLOCKED" in harness.warnings()
        assert harness.failures == []
    assert violations(tmp_path) == ()


@pytest.mark.fault(92)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO], ids=errno.errorcode.get)
def test_copies_that_cannot_be_made_do_not_hold_the_model_back(fresh_project, code):
    folder = fresh_project()
    is_refusing = True

    def is_copy(op) -> bool:
        is_final = op.kind == "rename" and op.path.parent.name == "Models" and op.path.name.startswith("model_")
        return is_refusing and is_final

    with InstantHarness(folder, disk=refusing(is_copy, os_error(code))) as harness:
        harness.run_cycle(1)
        pointer = harness.paths.pointer.read_text()
        assert pointer.endswith("cycle_000001/model_epoch_2.json")
        assert not (harness.paths.models / "model_epoch_2.json").exists()
        [line] = [line for line in harness.log.lines if "W_COPIES" in line]
        assert os.strerror(code) in line
        assert "W_PUBLISH" not in harness.warnings()
        is_refusing = False
        harness.run_cycle(3)
        copy = harness.paths.models / "model_epoch_2.json"
        assert copy.read_bytes() == (harness.paths.cycle_folder(2) / copy.name).read_bytes()
        assert "W_COPIES" not in harness.warnings()
    assert violations(folder) == ()


@pytest.mark.fault(92)
def test_a_foreign_file_in_place_of_a_copy_that_cannot_be_moved_is_never_overwritten(fresh_project):
    folder = fresh_project()

    def is_move(op) -> bool:
        return op.kind == "rename" and op.path.parent.name.startswith("before_hotlap")

    with InstantHarness(folder, disk=refusing(is_move, os_error(errno.EBUSY))) as harness:
        copy = harness.paths.models / "model_epoch_2.json"
        copy.write_bytes(MARK)
        harness.run_cycle(1)
        assert copy.read_bytes() == MARK
        assert harness.paths.pointer.read_text().endswith("cycle_000001/model_epoch_2.json")
        assert {"W_COPIES", "W_SET_ASIDE"} <= harness.warnings()


@pytest.mark.fault(92)
def test_a_start_finishes_a_publish_whose_copies_are_blocked(fresh_project):
    """Check a crash after the cycle's folder was moved into place: the next start publishes without the copies."""
    folder = fresh_project()
    disk = refusing(lambda op: op.path.name == "best_model_path.txt", os_error(errno.EIO))
    with InstantHarness(folder, disk=disk) as harness:
        harness.write_rollouts(1, 2)
        harness.until(lambda: "W_PUBLISH" in harness.warnings())

    def is_copy(op) -> bool:
        return op.path.parent.name == "Models" and "model_epoch" in op.path.name and op.kind in {"write", "rename"}

    with InstantHarness(folder, disk=refusing(is_copy, os_error(errno.EROFS))) as harness:
        harness.until_version(1)
        assert harness.paths.pointer.read_text().endswith("cycle_000001/model_epoch_2.json")
        assert "W_COPIES" in harness.warnings()
    assert violations(folder) == ()
