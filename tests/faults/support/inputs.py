"""For the tests of input files: sites that are checked at the end, and how much memory reading a file takes."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from schemas.errors import RolloutError
from schemas.job import Event, Job
from schemas.rollout.reader import read_rollout
from schemas.rollout.rollout import Rollout
from schemas.rollout.v2 import rollout_to_v2
from tests.faults.support.site import Site, train, violations
from tests.helpers import make_rollout, v1_document

ROOT = Path(__file__).resolve().parents[3]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing")

_MEASURE = """
import resource, sys
from schemas.errors import RolloutError
from schemas.rollout.reader import read_rollout

def peak_kb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

data = open(sys.argv[1], "rb").read()
before = peak_kb()
try:
    read_rollout(data)
    code = "whole"
except RolloutError as error:
    code = error.code
print(code, (peak_kb() - before) / (1e6 if sys.platform == "darwin" else 1e3))
"""


class InputSite(Site):
    """A site that records its jobs."""

    def watch_jobs(self, meanwhile: Callable[[Job], None] = lambda job: None) -> list[Job]:
        """Return a list that will contain the job of each training; `meanwhile` is called during it."""
        jobs: list[Job] = []

        def answer(job: Job) -> list[Event]:
            if job.kind == "train":
                jobs.append(job)
                meanwhile(job)
            return train(job)

        self.launcher.answer = answer
        return jobs


@pytest.fixture
def input_site(fresh_project) -> Iterator[Callable[..., InputSite]]:
    """Start daemons on projects with version 0. At the end they stop, and no invariant may be violated."""
    made: list[InputSite] = []
    with contextlib.ExitStack() as stack:

        def make(**daemon: object) -> InputSite:
            made.append(stack.enter_context(InputSite(fresh_project(), **daemon)))
            return made[-1]

        yield make
    for one in made:
        assert violations(one.layout.project) == ()


def reasons(one: Site) -> dict[str, str]:
    """Return the rejected files with the codes in their reasons."""
    found = {}
    for path in one.layout.rejected.iterdir():
        if not path.name.endswith(".reason.txt"):
            note = path.with_name(f"{path.name}.reason.txt").read_text(encoding="utf-8")
            found[path.name] = note.rstrip().rpartition("[")[2].rstrip("]")
    return found


def measure_read(path: Path) -> tuple[str, float]:
    """Read a file in a child process; return the code, and by how many MB the peak of its memory grew."""
    command = [sys.executable, "-c", _MEASURE, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    code, grown = done.stdout.split()
    return code, float(grown)


def run_inbox(project: Path, pending: int, rejected: int, *, before: list[str]) -> dict[str, object]:
    """Run `inbox_run.py` under another program; return what it printed."""
    command = [*before, sys.executable, str(ROOT / "tests" / "faults" / "support" / "inbox_run.py"), str(project)]
    done = subprocess.run(
        [*command, str(pending), str(rejected)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=90
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def v1(change=lambda document, experiences: None, *, n: int = 8, seed: int = 0) -> dict:
    document = v1_document(make_rollout(n=n, seed=seed))
    change(document, document["experiences"])
    return document


def v2(change=lambda document: None) -> dict:
    document = orjson.loads(rollout_to_v2(make_rollout(n=8), rollout_id="r", base64_columns=False))
    change(document)
    return document


def refusal(data: bytes) -> RolloutError:
    with pytest.raises(RolloutError) as caught:
        read_rollout(data)
    return caught.value


def outcome(data: bytes) -> Rollout | RolloutError:
    try:
        return read_rollout(data)
    except RolloutError as error:
        return error


def duplicate_key(data: bytes, key: bytes, at: int = 0) -> bytes:
    """Duplicate a key in the `at`-th object that has it."""
    place = -1
    for _ in range(at + 1):
        place = data.index(key, place + 1)
    return data[:place] + key + b"0," + data[place:]
