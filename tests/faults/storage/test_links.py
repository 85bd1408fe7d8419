"""Links, pipes and second names in the place of Hotlap's folders and files: rows 95 and 96."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from daemon.cli import main
from daemon.errors import DaemonError
from daemon.publishing.retention import apply_retention
from daemon.runtime.own_folders import detach_hard_links, find_obstacles, linked_exports_note, require_own_folders
from schemas.storage.layout import ProjectPaths
from tests.faults.support.harness import InstantHarness, violations
from tests.helpers import write_rollout
from tests.platforms import make_link, needs_posix

FOLDERS = ("State/staging", "State/cache", "State/commands", "State", "Logs", "Rejected")
FILES = (
    "Logs/warm_trainer.log", "Logs/daemon.log", "Logs/daemon.1.log", "Logs/cycle_1.log", "Logs/export.log",
    "Logs/engine.log", "State/ledger.sqlite3", "State/ledger.sqlite3-journal", "State/daemon.lock",
    "State/gone_cycles.jsonl", "State/compared_rollouts.npz", "State/hotlap_project.json",
    "Models/hotlap_project.json", "State/staging/cycle_000007", "status.json",
)  # fmt: skip
NAMES_LIKE_OURS = (
    "cycle_000001/model_epoch_1.pt", "removed_cycle_000001/x", f"{'0' * 64}.columns", ".status.json.00000000.tmp",
    "cycle_1.log", "1.command", "1.reply", "rollout_1_20261121_120000.json.reason.txt", "daemon.log", "ledger.sqlite3",
)  # fmt: skip


@pytest.fixture
def foreign(tmp_path) -> Path:
    """Make a folder outside of the project, with files that are named like those of Hotlap."""
    folder = tmp_path / "foreign"
    for name in NAMES_LIKE_OURS:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"precious {name}")
        os.utime(path, (0, 0))
    return folder


@pytest.fixture
def project(tmp_path) -> Path:
    folder = tmp_path / "project"
    (folder / "Saved" / "Training").mkdir(parents=True)
    return folder


def content_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def link_at(project: Path, name: str, target: Path) -> Path:
    link = project / "Saved" / "Training" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    make_link(link, target)
    return link


@pytest.mark.fault(95)
@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("is_outside", [True, False], ids=["outside", "inside"])
def test_a_linked_folder_is_refused_at_the_start_in_one_line(project, foreign, capsys, name, is_outside):
    target = foreign
    if not is_outside:
        target = project / "my files"
        foreign.rename(target)
    before = content_of(target)
    link_at(project, name, target)
    assert main(["--once", "--project", str(project)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"Saved/Training/{name} is a link to {target}" in line
    assert line.endswith("[E_LINK]")
    assert " -> remove the link" in line
    assert ("daemon.state_dir" in line) == (name == "State")
    assert content_of(target) == before


@pytest.mark.fault(96)
@pytest.mark.parametrize("name", FILES)
def test_a_linked_file_is_refused_at_the_start(project, tmp_path, name):
    (tmp_path / "precious").write_bytes(b"precious")
    link_at(project, name, tmp_path / "precious")
    with pytest.raises(DaemonError, match=f"Saved/Training/{name} is a link to ") as caught:
        require_own_folders(ProjectPaths(project))
    assert (caught.value.code, caught.value.exit_code) == ("E_LINK", 2)


@pytest.mark.fault(96)
@needs_posix("pipes")
@pytest.mark.parametrize("name", ["Logs/daemon.log", "State/ledger.sqlite3", "State/daemon.lock"])
def test_a_pipe_is_refused_at_the_start_and_never_waited_for(project, capsys, name):
    path = project / "Saved" / "Training" / name
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    assert main(["--once", "--project", str(project)]) == 2
    assert f"{name} is a pipe, not a file -> " in capsys.readouterr().err


@pytest.mark.fault(95)
@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_becomes_a_link_while_the_daemon_runs_is_not_followed(project, foreign, name):
    before = content_of(foreign)
    with InstantHarness(project) as harness:
        harness.run_cycle(1)
        folder = project / "Saved" / "Training" / name
        folder.rename(folder.with_name("kept"))
        make_link(folder, foreign)
        harness.write_rollouts(10, 11)
        write_rollout(harness.paths.exports, 12, b'{"experiences": 1}')
        harness.until(lambda: bool(harness.warnings() & {"W_LINK", "W_UNREADABLE"}))
        for _ in range(5):
            harness.tick()
        with contextlib.suppress(OSError):
            apply_retention(harness.context, 1, harness.inbox)
        assert content_of(foreign) == before
        assert harness.version == 1
        folder.unlink()
        folder.with_name("kept").rename(folder)
        harness.until_version(2)
        assert "W_LINK" not in harness.warnings()
    assert violations(project) == ()


@pytest.mark.fault(95)
def test_a_cycle_folder_that_became_a_link_is_not_emptied(project, tmp_path):
    with InstantHarness(project, keep_cycles=5) as harness:
        for number in range(1, 7):
            harness.run_cycle(10 * number)
        for path in harness.paths.models.glob("cycle_*"):
            os.utime(path, (0, 0))
        folder = harness.paths.cycle_folder(1)
        kept = tmp_path / "kept"
        folder.rename(kept)
        (kept / "notes.txt").write_text("precious")
        before = content_of(kept)
        make_link(folder, kept)
        harness.run_cycle(100)
        assert content_of(kept) == before
        assert not harness.paths.cycle_folder(0).exists() or not harness.paths.cycle_folder(2).exists()
        assert folder.is_symlink()


@pytest.mark.fault(95)
def test_rollouts_in_a_linked_exports_are_trained_on_but_never_moved_or_removed(project, tmp_path):
    exports = tmp_path / "engine" / "Exports"
    exports.mkdir(parents=True)
    link_at(project, "Exports", exports)
    settings = {"clear_exports_after_training": True, "max_export_files": 1, "disk_budget_gb": 1e-9}
    with InstantHarness(project, **settings) as harness:
        write_rollout(exports, 7, b'{"experiences": 1}')
        before = content_of(exports)
        for number in (10, 20):
            harness.run_cycle(number)
        assert harness.ledger.rejected_count() == 1
        assert content_of(exports).items() >= before.items()
        assert len(content_of(exports)) == 5
        note = linked_exports_note(harness.paths, removes=True)
        assert note is not None
        assert f"Exports is a link to {exports}" in note
        assert "have no effect" in note
        assert not any("removed the" in line for line in harness.log.lines)
    assert violations(project) == ()


@pytest.mark.fault(99)
@pytest.mark.parametrize("name", ["", "Saved", "Saved/Training", "Saved/Training/Models"])
def test_links_to_what_the_engine_uses_keep_working(tmp_path, name):
    real, project = tmp_path / "real", tmp_path / "project"
    real.mkdir()
    link = project / name if name else project
    link.parent.mkdir(parents=True, exist_ok=True)
    make_link(link, real)
    with InstantHarness(project.resolve()) as harness:
        harness.run_cycle(1)
    assert find_obstacles(ProjectPaths(project.resolve())) == []
    assert violations(project) == ()
    with InstantHarness(project.resolve()) as harness:
        harness.run_cycle(10)
        assert harness.version == 2


@pytest.mark.fault(96)
def test_a_copy_of_the_project_made_of_hard_links_does_not_change_with_it(project, tmp_path):
    with InstantHarness(project) as harness:
        harness.run_cycle(1)
        (harness.paths.logs / "daemon.log").write_bytes(b"old lines\n")
        (harness.paths.logs / "warm_trainer.log").write_bytes(b"old lines\n")
    for path in [path for path in project.rglob("*") if path.is_file()]:
        copy = tmp_path / "backup" / path.relative_to(project)
        copy.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, copy)
    before = content_of(tmp_path / "backup")
    detach_hard_links(ProjectPaths(project))
    with InstantHarness(project) as harness:
        harness.context.disk.truncate(harness.paths.logs / "warm_trainer.log")
        harness.run_cycle(10)
        assert harness.version == 2
    assert content_of(tmp_path / "backup") == before
    assert violations(project) == ()


@pytest.mark.fault(95)
def test_doctor_names_every_link(project, foreign, capsys):
    with InstantHarness(project) as harness:
        harness.run_cycle(1)
    for name in ("State/staging", "Rejected"):
        folder = project / "Saved" / "Training" / name
        folder.rename(folder.with_name("kept"))
        make_link(folder, foreign)
    before = content_of(foreign)
    assert main(["doctor", "--project", str(project)]) == 1
    out = capsys.readouterr().out
    assert f"[WRONG] links: Saved/Training/State/staging is a link to {foreign}" in out
    assert f"[WRONG] links: Saved/Training/Rejected is a link to {foreign}" in out
    assert content_of(foreign) == before
