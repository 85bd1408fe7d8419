"""The folder of a run: one run at a time, and older runs are kept."""

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from schemas.errors import ConfigError
from tests.platforms import make_link
from trainer.online import run_folder
from trainer.online.run_folder import RunPlace, begin, locked

ROOT = Path(__file__).resolve().parents[3]
RUN = """
import sys
from pathlib import Path
from schemas.errors import ConfigError
from trainer.online.run_folder import RunPlace, begin, locked

for line in sys.stdin:
    place = RunPlace(Path(sys.argv[1]))
    try:
        with locked(place):
            begin(place, line.encode())
            print("open", flush=True)
            sys.stdin.readline()
    except ConfigError as error:
        print(error, flush=True)
        sys.stdin.readline()
    print("closed", flush=True)
"""


@contextmanager
def open_run(logs, *, config, resume, **options):
    place = RunPlace(logs, resume=resume, **options)
    with locked(place):
        begin(place, config)
        yield place.folder


@pytest.fixture
def start(tmp_path):
    children = []

    def started():
        child = subprocess.Popen(
            [sys.executable, "-c", RUN, str(tmp_path / "logs")],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield started
    for child in children:
        child.kill()
        child.communicate()


def send(children, line):
    for child in children:
        child.stdin.write(line + "\n")
        child.stdin.flush()
    return [child.stdout.readline().strip() for child in children]


def test_of_two_runs_that_start_together_one_is_rejected(tmp_path, start):
    """Each round, both processes wait in front of `locked` and are released at the same time."""
    children = [start(), start()]
    for number in range(1, 31):
        answers = send(children, f"# {number}")
        assert answers.count("open") == 1, answers
        [rejected] = [answer for answer in answers if answer != "open"]
        # The winner may not have written its pid yet; the one before may be the loser's own.
        pids = "|".join(str(child.pid) for child in children)
        assert re.search(f"another run, process ({pids}|unknown), uses .*E_BUSY", rejected)
        folders = [path for path in (tmp_path / "logs").iterdir() if path.is_dir()]
        assert len(folders) == number, "one folder for each run that was opened"
        assert send(children, "end") == ["closed", "closed"]


def test_the_lock_of_a_killed_run_is_free(tmp_path, start):
    child = start()
    assert send([child], "# first") == ["open"]
    with pytest.raises(ConfigError, match=f"process {child.pid}"), open_run(tmp_path / "logs", config=b"", resume=True):
        pass
    child.kill()
    child.wait()
    with open_run(tmp_path / "logs", config=b"# second", resume=True) as folder:
        assert (folder / "config.toml").read_bytes() == b"# second"


@pytest.mark.parametrize("info", [None, "", "[]", '{"started": 3.5}', '{"started": "../elsewhere"}'])
def test_a_run_without_a_usable_start_time_is_moved_as_well(tmp_path, info):
    logs = tmp_path / "logs"
    with open_run(logs, config=b"# first", resume=False) as folder:
        written = json.loads((folder / "run.json").read_text())["started"]
    assert written.replace("_", "").isdigit()
    (folder / "run.json").unlink()
    if info is not None:
        (folder / "run.json").write_text(info)
    with open_run(logs, config=b"# second", resume=False):
        pass
    [older] = [path for path in logs.iterdir() if path.is_dir() and path.name != "latest_run"]
    assert older.name.replace("_", "").isdigit()
    assert (older / "config.toml").read_bytes() == b"# first"


def test_a_last_run_that_a_program_uses_is_reported(tmp_path, monkeypatch):
    """On Windows, a console whose current folder is in the last run prevents its rename."""

    def refuse(source, target):
        raise PermissionError(13, "Permission denied", str(source))

    logs = tmp_path / "logs"
    with open_run(logs, config=b"", resume=False):
        pass
    monkeypatch.setattr(run_folder, "rename_with_retries", refuse)
    words = r"latest_run cannot be renamed to \d+_\d+: .* -> close the programs .*E_BUSY"
    with pytest.raises(ConfigError, match=words), open_run(logs, config=b"", resume=False):
        pass


def test_a_run_is_not_continued_through_a_link(tmp_path):
    logs, elsewhere = tmp_path / "logs", tmp_path / "elsewhere"
    with open_run(logs, config=b"# first", resume=False) as folder:
        pass
    for name in ("latest_run", "latest_run/checkpoints"):
        path = logs / name
        path.rename(elsewhere)
        make_link(path, elsewhere)
        with pytest.raises(ConfigError, match="is a link, which Hotlap does not follow") as caught:
            open_run(logs, config=b"# second", resume=True).__enter__()
        assert caught.value.code == "E_LINK"
        path.unlink()
        elsewhere.rename(path)
    assert (folder / "config.toml").read_bytes() == b"# first"


def test_a_new_run_moves_a_link_and_leaves_its_target_alone(tmp_path):
    logs, elsewhere = tmp_path / "logs", tmp_path / "elsewhere"
    (elsewhere / "checkpoints").mkdir(parents=True)
    logs.mkdir()
    make_link(logs / "latest_run", elsewhere)
    with open_run(logs, config=b"# new", resume=False) as folder:
        assert not folder.is_symlink()
    assert [path.name for path in elsewhere.iterdir()] == ["checkpoints"]
    assert sum(path.is_symlink() for path in logs.iterdir()) == 1


def test_a_run_of_a_name_is_resumed_or_started_again_only_if_asked(tmp_path):
    logs = tmp_path / "logs"
    with open_run(logs, config=b"# first", resume=False, name="short"):
        pass
    hint = "there is a run short in .* -> --resume short continues it, --force starts again"
    with pytest.raises(ConfigError, match=hint), open_run(logs, config=b"", resume=False, name="short"):
        pass
    with open_run(logs, config=b"# again", resume=True, name="short") as folder:
        assert folder == logs / "short"
    with open_run(logs, config=b"# second", resume=False, name="short", replace=True):
        pass
    older = [path for path in logs.glob("short_*") if path.is_dir()]
    assert [(path / "config.toml").read_bytes() for path in older] == [b"# again"]


def test_runs_of_different_names_run_at_the_same_time(tmp_path):
    logs = tmp_path / "logs"
    with (
        open_run(logs, config=b"", resume=False, name="one"),
        open_run(logs, config=b"", resume=False),
        pytest.raises(ConfigError, match="E_BUSY"),
        open_run(logs, config=b"", resume=True, name="one"),
    ):
        pass
    assert {path.name for path in logs.iterdir()} == {"one", "one.lock", "latest_run", "run.lock"}


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a\\b", "con", "run.lock", "x" * 200, "a b"])
def test_a_name_that_is_not_one_of_a_folder_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="cannot be the name of a run"):
        RunPlace(tmp_path, name).check()
    assert list(tmp_path.iterdir()) == []


def test_without_a_run_to_resume_the_others_are_listed(tmp_path):
    with open_run(tmp_path, config=b"", resume=False, name="kart") as folder:
        (folder / "checkpoints" / "model_step_0000012000.pt").touch()
    with pytest.raises(ConfigError, match=r"--resume RUN with one of: kart \(12,000 steps\) .*E_NO_RUN"):
        RunPlace(tmp_path, resume=True).check()
