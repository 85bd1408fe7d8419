"""Helpers for the tests of input files: harnesses that are checked at the end, and the memory that a read takes."""

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
from tests.faults.support.harness import InstantHarness, train, violations
from tests.helpers import make_rollout, v1_document

ROOT = Path(__file__).resolve().parents[3]
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="Linux: strace is missing")

_MEASURE = """
import sys
from schemas.errors import RolloutError
from schemas.rollout.reader import read_rollout
from tests.platforms import peak_bytes

data = open(sys.argv[1], "rb").read()
before = peak_bytes()
try:
    read_rollout(data)
    code = "whole"
except RolloutError as error:
    code = error.code
print(code, (peak_bytes() - before) / 1e6)
"""


class InputHarness(InstantHarness):
    """A harness that records its jobs."""

    def watch_jobs(self, meanwhile: Callable[[Job], None] = lambda job: None) -> list[Job]:
        """Return a list to which the job of each training is added; `meanwhile` is called during the training."""
        jobs: list[Job] = []

        def answer(job: Job) -> list[Event]:
            if job.kind == "train":
                jobs.append(job)
                meanwhile(job)
            return train(job)

        self.launcher.answer = answer
        return jobs


@pytest.fixture
def make_input_harness(fresh_project) -> Iterator[Callable[..., InputHarness]]:
    """Return a function that starts a daemon on a project with version 0. Invariants are checked at the end."""
    made: list[InputHarness] = []
    with contextlib.ExitStack() as stack:

        def make(**daemon: object) -> InputHarness:
            made.append(stack.enter_context(InputHarness(fresh_project(), **daemon)))
            return made[-1]

        yield make
    for harness in made:
        assert violations(harness.paths.project) == ()


def reasons(harness: InstantHarness) -> dict[str, str]:
    """Return the rejected files: name -> code in its reason."""
    found = {}
    for path in harness.paths.rejected.iterdir():
        if not path.name.endswith(".reason.txt"):
            note = path.with_name(f"{path.name}.reason.txt").read_text(encoding="utf-8")
            found[path.name] = note.rstrip().rpartition("[")[2].rstrip("]")
    return found


def measure_read(path: Path) -> tuple[str, float]:
    """Read a file in a child process; return the error code or `whole`, and the growth of peak memory in MB."""
    command = [sys.executable, "-c", _MEASURE, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    code, grown = done.stdout.split()
    return code, float(grown)


def run_inbox(project: Path, pending: int, rejected: int, *, before: list[str]) -> dict[str, object]:
    """Run `inbox_run.py` under the program `before`; return its output."""
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
    """Duplicate a key in the object number `at` (from 0) that has it."""
    place = -1
    for _ in range(at + 1):
        place = data.index(key, place + 1)
    return data[:place] + key + b"0," + data[place:]
