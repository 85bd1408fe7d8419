"""What a trainer says and leaves cannot make the daemon read, write or publish anything outside its staging folder."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.ledger.cycle import Phase
from schemas.job import Event, Job, Notice, Result
from schemas.storage.files import sha256_of
from tests.faults.support.children import begin_cycle, opened, until_ended
from tests.faults.support.harness import InstantHarness, train, violations

Change = Callable[[Path, Result], Result | None]


def outside(job: Job) -> Path:
    """Return a folder of the user with a file in it."""
    folder = Path(job.output).parents[4] / "outside"
    folder.mkdir(exist_ok=True)
    (folder / "mine.txt").write_bytes(b"mine")
    return folder


def link_file(staging: Path, result: Result) -> None:
    target = staging.parents[4] / "outside" / result.model
    shutil.move(staging / result.model, target)
    (staging / result.model).symlink_to(target)


def link_folder(staging: Path, result: Result) -> None:
    target = staging.parents[4] / "outside" / "all"
    shutil.move(staging, target)
    (target / "mine.txt").write_bytes(b"mine")
    staging.symlink_to(target)


def other_links(staging: Path, result: Result) -> None:
    (staging / "link").symlink_to(staging.parents[4] / "outside")


def folder_for_file(staging: Path, result: Result) -> None:
    (staging / result.checkpoint).unlink()
    (staging / result.checkpoint).mkdir()


def pipe_for_file(staging: Path, result: Result) -> None:
    (staging / result.checkpoint).unlink()
    os.mkfifo(staging / result.checkpoint)


def unreadable(staging: Path, result: Result) -> None:
    (staging / result.checkpoint).chmod(0)


def model_elsewhere(staging: Path, result: Result) -> Result:
    target = staging.parents[4] / "outside" / "model.json"
    target.write_bytes((staging / result.model).read_bytes())
    files = result.files | {str(target): sha256_of(target.read_bytes())}
    return result.model_copy(update={"model": str(target), "checkpoint": str(target), "files": files})


def pointer_as_file(staging: Path, result: Result) -> Result:
    (staging / "best_model_path.txt").write_bytes(b"x")
    return result.model_copy(update={"files": result.files | {"best_model_path.txt": sha256_of(b"x")}})


def analysis_link(staging: Path, result: Result) -> Result:
    (staging / "model_analysis.json").unlink()
    (staging / "model_analysis.json").symlink_to(staging.parents[4] / "outside" / "mine.txt")
    return result.model_copy(
        update={"files": {name: sha for name, sha in result.files.items() if name != "model_analysis.json"}}
    )


REFUSED: dict[str, Change] = {
    "an epoch of 2**70": lambda staging, result: result.model_copy(update={"epoch": 2**70}),
    "a model elsewhere, with its hash": model_elsewhere,
    "the pointer file as a file": pointer_as_file,
    "a link in a file's place": link_file,
    "a link in the folder's place": link_folder,
    "a folder in a file's place": folder_for_file,
    "a file that is missing": lambda staging, result: (staging / result.checkpoint).unlink(),
}
if hasattr(os, "mkfifo"):
    REFUSED["a pipe in a file's place"] = pipe_for_file
if hasattr(os, "geteuid") and os.geteuid() != 0:
    REFUSED["a file that cannot be read"] = unreadable
PUBLISHED: dict[str, Change] = {
    "a link beside the files": other_links,
    "the analysis is a link, and not in the result": analysis_link,
}


@pytest.fixture
def close():
    """Return a function that returns a harness, which is closed at the end."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context


def answer_of(change: Change) -> Callable[[Job], list[Event]]:
    def answer(job: Job) -> list[Event]:
        outside(job)
        *events, result = train(job)
        assert isinstance(result, Result)
        return [*events, change(Path(job.output), result) or result]

    return answer


@pytest.mark.fault(87)
@pytest.mark.skipif(
    os.name == "nt", reason="the trainer of this test makes links, which Windows does not allow everyone"
)
def test_a_wrong_result_fails_its_cycle_and_the_next_one_is_published(tmp_path, close):
    harness = close(InstantHarness(tmp_path, auto_train_after_n_rollouts=1))
    harness.until_version(0)
    for first, (fault, change) in zip(range(1, 100, 2), (REFUSED | PUBLISHED).items(), strict=False):
        harness.launcher.answer = answer_of(change)
        harness.write_rollouts(first)
        harness.until(lambda first=first: harness.runner.cycle.id == first and not harness.runner.busy)
        wanted = Phase.PUBLISHED if fault in PUBLISHED else Phase.FAILED
        assert (fault, harness.runner.cycle.phase) == (fault, wanted)
        harness.launcher.answer = train
        harness.write_rollouts(first + 1)
        harness.until_version(first + 1)
    project = harness.paths.project
    assert (project / "outside" / "mine.txt").read_bytes() == b"mine"
    assert (project / "outside" / "all" / "mine.txt").read_bytes() == b"mine"
    assert not any(path.is_symlink() for path in harness.paths.models.rglob("*"))
    assert harness.failures == []
    assert violations(project) == ()


@pytest.mark.fault(87)
def test_only_the_first_result_counts(tmp_path, close):
    harness = close(InstantHarness(tmp_path, auto_train_after_n_rollouts=1))
    harness.until_version(0)

    def twice(job: Job) -> list[Event]:
        *events, result = train(job)
        other = result.model_copy(update={"files": {}, "epoch": 1})
        return [*events, result, other, Notice(code="W_X", message="after the result")]

    harness.launcher.answer = twice
    harness.write_rollouts(0)
    harness.until_version(1)
    assert harness.ledger.result(1).epoch == 2


@pytest.mark.fault(89)
@pytest.mark.skipif(os.name == "nt", reason="a script makes a link, which Windows does not allow everyone")
def test_a_script_that_replaces_its_folder_by_a_link_is_not_followed(fresh_project):
    folder = fresh_project()
    elsewhere = folder / "elsewhere"
    (folder / "swaps.py").write_text(
        "import os, pathlib, sys\n"
        f"os.rename(sys.argv[2], {str(elsewhere)!r})\n"
        f"pathlib.Path({str(elsewhere)!r}, 'mine.txt').write_bytes(b'mine')\n"
        f"os.symlink({str(elsewhere)!r}, sys.argv[2])\n"
    )
    with opened(folder, attempts=1, training_script="swaps.py") as harness:
        begin_cycle(harness, "")
        until_ended(harness, 1)
        assert harness.runner.cycle.phase is Phase.FAILED
        assert "is missing or a link" in harness.runner.cycle.why
    assert [path.name for path in elsewhere.iterdir()] == ["mine.txt"]
