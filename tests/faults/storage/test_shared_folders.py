"""Two projects that use one folder, and projects that were moved or copied: rows 97 to 99."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import orjson
import pytest

from daemon.cli import main
from daemon.errors import DaemonError, Exit
from daemon.runtime.instance_lock import ProjectLock
from daemon.runtime.project_folder import project_paths
from daemon.runtime.project_mark import find_conflict, read_mark, require_own_project, write_marks
from daemon.runtime.state_folder import with_marked_state, with_state_setting
from schemas.settings.models import DaemonSettings
from schemas.storage.layout import MARK_NAME, ProjectPaths
from tests.faults.support.disk import Op, TestDisk, os_error
from tests.faults.support.harness import InstantHarness, violations
from tests.platforms import make_link, needs_linux, needs_posix

ROOT = Path(__file__).parents[3]


def make_project(folder: Path, *, models: Path | None = None, cycles: int = 1) -> Path:
    """Make a project with published cycles, perhaps with a link at Models."""
    if models is not None:
        (folder / "Saved" / "Training").mkdir(parents=True)
        make_link(folder / "Saved" / "Training" / "Models", models)
    with InstantHarness(folder) as harness:
        for number in range(1, cycles + 1):
            harness.run_cycle(10 * number)
    return folder


def assert_continues(folder: Path, first: int) -> None:
    """Check that the project trains its next cycle, and keeps what it promises."""
    with InstantHarness(folder) as harness:
        before = harness.version
        harness.run_cycle(first)
        assert harness.version == before + 1
    assert violations(folder) == ()


@pytest.mark.fault(97)
@pytest.mark.parametrize("has_own_ledger", [False, True])
def test_the_second_project_on_one_models_is_refused_and_the_first_continues(tmp_path, capsys, has_own_ledger):
    shared = tmp_path / "shared"
    shared.mkdir()
    first, second = tmp_path / "first", tmp_path / "second"
    if has_own_ledger:
        make_project(second)
        shutil.rmtree(second / "Saved" / "Training" / "Models")
        make_link(second / "Saved" / "Training" / "Models", shared)
    make_project(first, models=shared)
    if not has_own_ledger:
        (second / "Saved" / "Training").mkdir(parents=True)
        make_link(second / "Saved" / "Training" / "Models", shared)
    before = {path: path.read_bytes() for path in shared.rglob("*") if path.is_file()}
    assert main(["--once", "--project", str(second)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert str(first / "Saved" / "Training" / "State") in line
    assert "give each project its own Models" in line
    assert line.endswith("[E_OTHER_PROJECT]")
    with pytest.raises(DaemonError, match="another project"):
        InstantHarness(second)
    assert {path: path.read_bytes() for path in shared.rglob("*") if path.is_file()} == before
    assert_continues(first, 50)
    assert main(["doctor", "--project", str(second)]) == 1
    assert "[WRONG] project: " in capsys.readouterr().out


@pytest.mark.fault(97)
def test_a_link_to_models_that_another_program_filled_is_refused(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model_epoch_1.json").write_text("precious")
    with pytest.raises(DaemonError, match="is not empty and is not marked as one of this project") as caught:
        make_project(tmp_path / "project", models=tmp_path / "other")
    assert caught.value.code == "E_OTHER_PROJECT"
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["model_epoch_1.json"]


@pytest.mark.fault(97)
def test_a_link_to_models_with_other_models_of_the_same_names_is_refused(tmp_path):
    """Check that without marks the hash of the last model decides, not its name."""
    (tmp_path / "disk").mkdir()
    project = make_project(tmp_path / "project", models=tmp_path / "disk")
    paths = ProjectPaths(project)
    shutil.copytree(tmp_path / "disk", tmp_path / "other")
    for mark in (paths.state_mark, tmp_path / "disk" / MARK_NAME, tmp_path / "other" / MARK_NAME):
        mark.unlink()
    [model] = (tmp_path / "other" / "cycle_000001").glob("model_epoch_*.json")
    model.write_bytes(model.read_bytes() + b"\n")
    (tmp_path / "disk").rename(tmp_path / "own")
    (tmp_path / "other").rename(tmp_path / "disk")
    with pytest.raises(DaemonError, match="is not empty and is not marked as one of this project"):
        require_own_project(paths)
    (tmp_path / "disk").rename(tmp_path / "other")
    (tmp_path / "own").rename(tmp_path / "disk")
    require_own_project(paths)


@pytest.mark.fault(99)
def test_a_link_to_models_of_an_earlier_version_without_marks_keeps_working(tmp_path):
    (tmp_path / "disk").mkdir()
    project = make_project(tmp_path / "project", models=tmp_path / "disk")
    for folder in (tmp_path / "disk", project / "Saved" / "Training" / "State"):
        (folder / MARK_NAME).unlink()
    assert_continues(project, 50)
    assert read_mark(tmp_path / "disk" / MARK_NAME) is not None


@pytest.mark.fault(99)
def test_a_moved_project_and_a_copied_project_continue(tmp_path):
    first = make_project(tmp_path / "first")
    copy = tmp_path / "copy"
    shutil.copytree(first, copy)
    assert_continues(copy, 50)
    assert_continues(first, 60)
    assert main_conflict(copy) is None
    first.rename(tmp_path / "moved")
    assert_continues(tmp_path / "moved", 70)
    (tmp_path / "moved" / "Saved" / "Training" / "Models").rename(tmp_path / "disk")
    make_link(tmp_path / "moved" / "Saved" / "Training" / "Models", tmp_path / "disk")
    assert_continues(tmp_path / "moved", 80)


def main_conflict(folder: Path) -> tuple[str, str] | None:
    return find_conflict(project_paths(folder))


@pytest.mark.fault(97)
def test_a_copied_project_whose_models_is_a_link_to_those_of_the_original_is_refused(tmp_path):
    (tmp_path / "disk").mkdir()
    first = make_project(tmp_path / "first", models=tmp_path / "disk")
    shutil.copytree(first, tmp_path / "copy", symlinks=True)
    with pytest.raises(DaemonError, match="is the Models folder of another project"):
        InstantHarness(tmp_path / "copy")
    assert_continues(first, 50)


@pytest.mark.fault(99)
@pytest.mark.parametrize("lost", ["ledger", "State", "mark"])
def test_a_project_that_lost_its_state_is_rebuilt_without_questions(tmp_path, lost):
    project = make_project(tmp_path / "project", cycles=2)
    paths = ProjectPaths(project)
    if lost == "State":
        shutil.rmtree(paths.state)
    else:
        (paths.ledger if lost == "ledger" else paths.project_mark).unlink()
    assert_continues(project, 50)
    own, mark = read_mark(paths.state_mark), read_mark(paths.project_mark)
    assert own is not None
    assert own == mark


@pytest.mark.fault(97)
@needs_posix("locks of folders")
def test_a_daemon_of_another_project_that_runs_now_is_found_by_its_lock(tmp_path):
    """Two containers do not see each other's State."""
    (tmp_path / "shared").mkdir()
    first, second = (ProjectLock(tmp_path / name / "daemon.lock") for name in ("first", "second"))
    first.acquire()
    first.lock_models(tmp_path / "shared")
    second.acquire()
    with pytest.raises(DaemonError, match="uses the same folder") as caught:
        second.lock_models(tmp_path / "shared")
    assert (caught.value.code, caught.value.exit_code) == ("E_OTHER_PROJECT", Exit.OTHER_DAEMON)
    first.release()
    second.lock_models(tmp_path / "shared")
    second.release()


MOUNTED = """
import sys
from pathlib import Path
from daemon.errors import DaemonError
from tests.faults.support.harness import InstantHarness, violations
first, second = Path(sys.argv[1]), Path(sys.argv[2])
with InstantHarness(first) as harness:
    harness.run_cycle(1)
    try:
        InstantHarness(second)
    except DaemonError as error:
        print(error.line())
    harness.run_cycle(10)
    print("version", harness.version, violations(first))
"""


@pytest.mark.fault(97)
@needs_linux("bind mounts")
def test_the_second_project_on_a_mounted_models_is_refused(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for project in (first, second):
        (project / "Saved" / "Training" / "Models").mkdir(parents=True)
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not here")
    script = 'mount --bind "$1/Saved/Training/Models" "$2/Saved/Training/Models" || exit 77; "$3" -c "$4" "$1" "$2"'
    done = subprocess.run(
        [unshare, "-Urm", "sh", "-c", script, "sh", str(first), str(second), sys.executable, MOUNTED],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    refusal, result = done.stdout.splitlines()
    assert str(first / "Saved" / "Training" / "State") in refusal
    assert refusal.endswith("[E_OTHER_PROJECT]")
    assert result == "version 2 ()"


# State on another disk


def with_state(project: Path, state: Path) -> ProjectPaths:
    return with_state_setting(ProjectPaths(project), DaemonSettings(state_dir=str(state)))


@pytest.mark.fault(99)
def test_state_on_another_disk_is_found_by_commands_that_read_no_settings(tmp_path):
    project, state = tmp_path / "project", tmp_path / "disk" / "state"
    with InstantHarness(project, state_dir=str(state)) as harness:
        harness.run_cycle(1)
        assert harness.paths.ledger == state / "ledger.sqlite3"
    assert not (project / "Saved" / "Training" / "State").exists()
    assert violations(project) == ()
    assert project_paths(project).state == state
    project.rename(tmp_path / "moved")
    with InstantHarness(tmp_path / "moved", state_dir=str(state)) as harness:
        harness.run_cycle(10)
        assert harness.version == 2
    assert violations(tmp_path / "moved") == ()


@pytest.mark.fault(99)
@needs_linux("/dev/shm is another disk")
@pytest.mark.parametrize("what", ["State", "Models"])
def test_state_and_models_may_be_on_different_disks(tmp_path, what):
    """A folder cannot be renamed from one disk to another one."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="hotlap-test-") as folder:
        disk, project = Path(folder) / "disk", tmp_path / "project"
        disk.mkdir()
        if disk.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("/dev/shm is on the disk of the temporary folders")
        settings: dict[str, object] = {"keep_cycles": 5}
        if what == "State":
            settings["state_dir"] = str(disk)
        else:
            (project / "Saved" / "Training").mkdir(parents=True)
            make_link(project / "Saved" / "Training" / "Models", disk)
        with InstantHarness(project, **settings) as harness:
            for number in range(1, 7):
                harness.run_cycle(10 * number)
            for path in harness.paths.models.glob("cycle_*"):
                os.utime(path, (0, 0))
            harness.run_cycle(70)
            assert len(list(harness.paths.models.glob("cycle_*"))) < 8, "retention has removed one"
            assert not list(harness.paths.models.glob(".*"))
        assert violations(project) == ()


@pytest.mark.fault(98)
def test_a_state_folder_of_another_project_is_refused(tmp_path):
    first, state = tmp_path / "first", tmp_path / "state"
    with InstantHarness(first, state_dir=str(state)) as harness:
        harness.run_cycle(1)
    shutil.copytree(first, tmp_path / "copy")
    (tmp_path / "new").mkdir()
    for second in ("copy", "new"):
        with pytest.raises(DaemonError, match="belongs to another project, whose Models is ") as caught:
            require_own_project(with_state(tmp_path / second, state))
        assert caught.value.hint == "set another daemon.state_dir"


@pytest.mark.fault(98)
def test_a_state_folder_that_contains_other_files_is_refused(tmp_path):
    (tmp_path / "photos" / "cache").mkdir(parents=True)
    (tmp_path / "photos" / "me.jpg").write_bytes(b"precious")
    with pytest.raises(DaemonError, match="is not empty and is not a State folder of Hotlap"):
        InstantHarness(tmp_path / "project", state_dir=str(tmp_path / "photos"))
    assert sorted(path.name for path in (tmp_path / "photos").iterdir()) == ["cache", "me.jpg"]


@pytest.mark.fault(98)
@pytest.mark.parametrize("place", ["Saved/Training/Models", "Saved/Training/Exports/state", ".", "..", "Saved"])
def test_a_state_folder_that_something_else_uses_is_refused(tmp_path, place):
    project = tmp_path / "game" / "project"
    (project / "Saved" / "Training").mkdir(parents=True)
    with pytest.raises(DaemonError, match=r"daemon\.state_dir is ") as caught:
        with_state(project, Path(place))
    assert caught.value.hint == "name a folder that nothing else uses"


@pytest.mark.fault(98)
def test_a_setting_that_does_not_fit_where_state_is_names_both_places(tmp_path):
    project = make_project(tmp_path / "project")
    with pytest.raises(DaemonError, match="but this project's State is ") as caught:
        with_state(project, tmp_path / "new")
    assert caught.value.hint.startswith("move all files from ")
    (project / "Saved" / "Training" / "State").rename(tmp_path / "new")
    with InstantHarness(project, state_dir=str(tmp_path / "new")) as harness:
        harness.run_cycle(50)
    with pytest.raises(DaemonError, match="this project's State is ") as caught:
        InstantHarness(project)
    assert caught.value.hint.startswith("set daemon.state_dir = ")


@pytest.mark.fault(99)
def test_the_state_of_an_earlier_version_that_was_a_link_is_taken_over(tmp_path):
    project = make_project(tmp_path / "project")
    paths = ProjectPaths(project)
    paths.state_mark.unlink()
    paths.project_mark.unlink()
    paths.state.rename(tmp_path / "disk")
    with InstantHarness(project, state_dir=str(tmp_path / "disk")) as harness:
        harness.run_cycle(50)
        assert harness.version == 2


@pytest.mark.fault(98)
def test_a_project_inside_another_ones_folders_is_refused(tmp_path):
    first = make_project(tmp_path / "first")
    inner = first / "Saved" / "Training" / "Exports" / "game"
    inner.mkdir()
    with pytest.raises(DaemonError, match="is a folder inside the project"):
        project_paths(inner)
    with pytest.raises(DaemonError, match="which is in the project"):
        with_state(tmp_path / "second", first / "Saved" / "Training" / "mine")
    beside = first / "Content" / "game"
    beside.mkdir(parents=True)
    assert project_paths(beside).project == beside


@pytest.mark.fault(99)
def test_a_crash_between_the_two_marks_does_not_refuse_the_project(tmp_path):
    """Check a project that lost its mark in State, so that both marks get another id."""
    paths = ProjectPaths(make_project(tmp_path / "project"))
    paths.state_mark.unlink()
    renamed: list[Path] = []

    def crash_at_the_second(number: int, op: Op) -> None:
        if op.kind == "rename":
            renamed.append(op.path)
            if len(renamed) == 2:
                raise os_error(errno.EIO)(op.path)

    write_marks(paths, disk=TestDisk(before=crash_at_the_second))
    assert len(renamed) == 2
    require_own_project(paths)
    assert_continues(paths.project, 50)
    assert read_mark(paths.state_mark) == read_mark(paths.project_mark) is not None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", orjson.dumps({"id": "x"})])
def test_a_damaged_mark_is_written_again(tmp_path, content):
    project = make_project(tmp_path / "project")
    ProjectPaths(project).project_mark.write_bytes(content)
    assert_continues(project, 50)
    assert read_mark(ProjectPaths(project).project_mark) is not None
    assert with_marked_state(ProjectPaths(project)) == ProjectPaths(project)
