"""The folder of a run: one run at a time, and older runs are kept."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.errors import ConfigError
from tests.platforms import make_link
from trainer.online import run_folder
from trainer.online.run_folder import open_run

ROOT = Path(__file__).resolve().parents[3]
RUN = """
import sys
from pathlib import Path
from schemas.errors import ConfigError
from trainer.online.run_folder import open_run

for line in sys.stdin:
    try:
        with open_run(Path(sys.argv[1]), config=line.encode(), resume=False):
            print("open", flush=True)
            sys.stdin.readline()
    except ConfigError as error:
        print(error, flush=True)
        sys.stdin.readline()
    print("closed", flush=True)
"""


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
    """Each round, both processes wait in front of `open_run` and are released at the same time."""
    children = [start(), start()]
    for number in range(1, 31):
        answers = send(children, f"# {number}")
        assert answers.count("open") == 1, answers
        [rejected] = [answer for answer in answers if answer != "open"]
        winner = children[answers.index("open")]
        assert re.search(f"another run, process ({winner.pid}|unknown), uses .*E_BUSY", rejected), (
            "unknown: not yet written"
        )
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
