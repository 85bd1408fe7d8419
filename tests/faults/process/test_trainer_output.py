"""Output of trainers: floods, false events, losses that are not finite, damaged files (rows 59 to 62)."""

from __future__ import annotations

import contextlib
import io
import math
import os
import shutil
from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.ledger.cycle import Phase
from daemon.process.output_log import LIMIT_BYTES, ChildLog
from daemon.training.notices import MAX_NOTICES
from schemas.errors import HotlapError, ModelError
from schemas.job import Job, RolloutInput
from schemas.rollout.reader import read_rollout
from schemas.settings.models import TrainerSettings
from schemas.storage.files import sha256_of
from tests.fakes.trainer import MARKER_VARIABLE, Poison
from tests.faults.support.children import begin_cycle, opened, pointer_text, until_ended
from tests.helpers import SAMPLES
from trainer.checkpoints import checkpoint
from trainer.checkpoints.checkpoint import load_document
from trainer.checkpoints.selection import CheckpointCandidate, choose, rank
from trainer.common.reporting.reporter import MemoryReporter
from trainer.worker.jobs import run_job

FLOOD_MB = int(os.environ.get("FAULTS_FLOOD_MB", "64"))
"""How much a flooding trainer writes to each stream; 1024 outside CI."""


# Floods and false events


@pytest.mark.fault(59)
@pytest.mark.timeout(600)
def test_a_flood_of_output_neither_fills_the_disk_nor_our_memory_nor_blocks_the_trainer(fresh_project):
    with opened(fresh_project()) as harness:
        before = psutil.Process().memory_info().rss
        begin_cycle(harness, f"floods {FLOOD_MB}")
        most = 0

        def is_published() -> bool:
            nonlocal most
            most = max(most, psutil.Process().memory_info().rss)
            return harness.runner.cycle is not None and harness.runner.cycle.phase is Phase.PUBLISHED

        harness.until(is_published, timeout_s=500.0)
        log = harness.paths.cycle_log(1)
        harness.until(lambda: b"the end of the flood" in log.read_bytes()[-4096:])
        data = log.read_bytes()
        assert len(data) <= LIMIT_BYTES + (1 << 17)
        assert b"the middle was removed" in data[: 1 << 17]
        assert not any(control in data for control in (b"\x1b", b"\x07", b"\xff", b"\xc2\x9b"))
        data.decode("utf-8")
        assert most - before < 64 << 20
        assert harness.runner.progress.epochs_total == 3
        assert [epoch.epoch for epoch in harness.runner.progress.epochs] == [1, 2, 3]


@pytest.mark.fault(59)
def test_events_that_cannot_be_true_change_nothing(fresh_project):
    with opened(fresh_project()) as harness:
        begin_cycle(harness, "false events")
        harness.until_published(1)
        progress = harness.runner.progress
        assert [epoch.epoch for epoch in progress.epochs] == [1, 2, 3]
        assert 0.0 <= progress.fraction <= 1.0
        shown = [warning for warning in harness.context.warnings() if warning.code.startswith("W_FALSE_")]
        assert 0 < len(shown) <= MAX_NOTICES
        assert "\x1b" not in harness.log + repr(shown)


@pytest.mark.fault(59)
def test_a_log_on_a_full_disk_loses_text_and_does_not_raise(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    path = tmp_path / "log"
    path.symlink_to("/dev/full")
    log = ChildLog(path)
    log.write(b"x" * 100_000)
    log.close()
    log.write(b"late")


@pytest.mark.fault(59)
def test_a_log_keeps_its_beginning_and_its_end(tmp_path):
    path = tmp_path / "log"
    log = ChildLog(path, limit=10_000, head=100)
    log.write(b"the beginning\n")
    for i in range(5_000):
        log.write(b"line %d \xe2\x82" % i)
        log.write(b"\xac\n")
    log.close()
    text = path.read_text(encoding="utf-8")
    assert text.startswith("the beginning\n")
    assert text.endswith("line 4999 \u20ac\n")
    assert len(text.encode()) <= 10_500


# Losses


def reference_score(losses: tuple[float, ...]) -> float | None:
    """Compute the score as docs/reference/formats.md defines it, independently of the trainer."""
    if not losses or any(math.isnan(x) or math.isinf(x) for x in losses):
        return None
    window = 10 if len(losses) >= 20 else len(losses) // 2
    trend = 0.0
    if window:
        first, last = losses[:window], losses[len(losses) - window :]
        before, after = math.fsum(first) / window, math.fsum(last) / window
        if after < before - 0.05 * abs(before):
            trend = -0.1
        elif after > before + 0.05 * abs(before):
            trend = 0.1
    return 0.4 * losses[-1] + 0.3 * min(losses) + 0.3 * trend


LOSS = st.one_of(st.floats(0.01, 10.0), st.sampled_from([math.nan, math.inf, -math.inf]))


@pytest.mark.fault(60)
@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.lists(LOSS, max_size=25), st.booleans()), max_size=8))
def test_the_chosen_epoch_has_the_lowest_reference_score(epochs):
    entries = [
        CheckpointCandidate(i, f"model_epoch_{i}.pt", tuple(x), finite) for i, (x, finite) in enumerate(epochs, start=1)
    ]
    scores = {e.epoch: reference_score(e.losses) for e in entries if e.finite}
    usable = {epoch: score for epoch, score in scores.items() if score is not None}
    best = min(usable, key=lambda epoch: (usable[epoch], epoch), default=None)
    chosen, _ = choose(rank(entries), 0)
    assert (chosen.candidate.epoch if chosen else None) == best


@pytest.mark.fault(60)
@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([[math.nan], [0.5], [0.4]], 3),
        ([[0.5], [math.nan], [0.4]], 3),
        ([[0.3], [0.4], [0.5]], 1),
        ([[0.5], [0.5], [0.5]], 1),
        ([[], [0.9], [math.inf]], 2),
        ([[], [math.nan], [math.inf]], None),
    ],
    ids=["nan first", "nan in the middle", "rising only", "a tie", "no losses", "none usable"],
)
def test_the_chosen_epoch_in_simple_cases(losses, best):
    entries = [CheckpointCandidate(i, f"model_epoch_{i}.pt", tuple(x)) for i, x in enumerate(losses, start=1)]
    chosen, _ = choose(rank(entries), 0)
    assert (chosen.candidate.epoch if chosen else None) == best


def sample_job(folder, **changes):
    """Return a job on the sample rollouts for the real trainer."""
    contract = read_rollout(SAMPLES.joinpath("rollout_0_20241225_143022.json").read_bytes()).contract
    rollouts = tuple(
        RolloutInput(name=p.name, sha256=sha256_of(p.read_bytes()), source=str(p), cache="", is_new=True)
        for p in SAMPLES.glob("*.json")
    )
    known = {
        "kind": "train",
        "policy_version": 1,
        "output": str(folder),
        "contract": contract,
        "hidden_sizes": (16, 16),
    }
    settings = TrainerSettings(epochs=2, device="cpu")
    return Job(**(known | {"rollouts": rollouts, "settings": settings} | changes))


@pytest.fixture(scope="module")
def a_training(tmp_path_factory):
    """Train, and return the folder with two real checkpoints."""
    folder = tmp_path_factory.mktemp("trained")
    run_job(sample_job(folder), MemoryReporter())
    return folder


def rewrite(path, target, **changes):
    document = torch.load(path, weights_only=True)
    torch.save(document | changes, target)


@pytest.mark.fault(60)
def test_nothing_is_published_if_no_epoch_has_a_finite_loss(a_training, tmp_path):
    for epoch in (1, 2):
        name = f"model_epoch_{epoch}.pt"
        rewrite(a_training / name, tmp_path / name, training_history={"value_loss": [math.nan] * epoch})
    with pytest.raises(HotlapError, match="no epoch can be used: a value loss is not finite"):
        run_job(sample_job(tmp_path, kind="select"), MemoryReporter())
    assert not list(tmp_path.glob("model_epoch_*.json"))


# Checkpoints


@pytest.mark.fault(89)
def test_checkpoints_that_a_script_wrote_as_links_folders_or_impossible_epochs_are_not_ranked(a_training, tmp_path):
    folder, outside = tmp_path / "staging", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    for name in ("model_epoch_1.pt", "model_epoch_99999999999999999999.pt", "model_epoch_007.pt", "model_epoch_x.pt"):
        shutil.copy(a_training / "model_epoch_1.pt", folder / name)
    (folder / "model_epoch_3.pt").mkdir()
    (outside / "mine.json").write_bytes(b"mine")
    shutil.copy(a_training / "model_epoch_2.pt", outside)
    with contextlib.suppress(OSError):  # Windows does not allow everyone to make links
        (folder / "model_epoch_2.pt").symlink_to(outside / "model_epoch_2.pt")
        (folder / "model_epoch_1.json").symlink_to(outside / "mine.json")
    reporter = MemoryReporter()
    result = run_job(sample_job(folder, kind="select"), reporter)
    assert result.epoch == 1
    assert sorted(result.files) == ["model_analysis.json", "model_epoch_1.json", "model_epoch_1.pt"]
    assert (outside / "mine.json").read_bytes() == b"mine"
    assert reporter.codes() == ["W_CHECKPOINT"]


@pytest.mark.fault(61)
@pytest.mark.parametrize(
    ("mode", "words"),
    [("torn checkpoint", "has changed since the trainer wrote it"), ("no checkpoint", "is missing")],
)
def test_a_checkpoint_that_is_not_what_the_trainer_wrote_is_not_published(fresh_project, mode, words):
    with opened(fresh_project()) as harness:
        before = pointer_text(harness)
        begin_cycle(harness, mode)
        until_ended(harness, 1)
        assert (harness.runner.cycle.phase, pointer_text(harness)) == (Phase.FAILED, before)
        assert words in harness.runner.cycle.why


@pytest.mark.fault(61)
def test_the_daemon_never_opens_a_checkpoint(fresh_project, tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    monkeypatch.setenv(MARKER_VARIABLE, str(marker))
    with opened(fresh_project()) as harness:
        begin_cycle(harness, "poisoned checkpoint")
        harness.until_published(1)
        assert b"touch" in (harness.paths.cycle_folder(1) / "model_epoch_3.pt").read_bytes()
    assert not marker.exists()


@pytest.mark.fault(61)
def test_the_trainer_never_unpickles_a_poisoned_parent(a_training, tmp_path, monkeypatch):
    marker, parent = tmp_path / "marker", tmp_path / "parent.pt"
    buffer = io.BytesIO()
    torch.save({"policy_state_dict": Poison(str(marker)), "optimizer_state_dict": {}, "training_history": {}}, buffer)
    parent.write_bytes(buffer.getvalue())
    output = tmp_path / "out"
    output.mkdir()
    weights_only: list[object] = []
    real = torch.load

    def load(*arguments, **named):
        weights_only.append(named.get("weights_only"))
        return real(*arguments, **named)

    monkeypatch.setattr(checkpoint.torch, "load", load)
    job = sample_job(output, parent=str(parent), parent_sha256=sha256_of(parent.read_bytes()))
    recorder = MemoryReporter()
    try:
        run_job(job, recorder)
    except HotlapError as error:
        reported = str(error)
    else:
        reported = " ".join(recorder.codes())
    assert reported
    assert set(weights_only) == {True}
    assert not marker.exists()


@pytest.mark.fault(61)
@pytest.mark.parametrize("what", ["another content", "cut"])
def test_a_parent_with_another_hash_is_refused_before_it_is_loaded(a_training, tmp_path, monkeypatch, what):
    data = (a_training / "model_epoch_2.pt").read_bytes()
    parent = tmp_path / "parent.pt"
    parent.write_bytes(data[:-100] if what == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    output = tmp_path / "out"
    output.mkdir()
    monkeypatch.setattr(checkpoint.torch, "load", lambda *a, **k: pytest.fail("it was loaded"))
    with pytest.raises((HotlapError, OSError)) as error:
        run_job(sample_job(output, parent=str(parent), parent_sha256=sha256_of(data)), MemoryReporter())
    assert "parent" in str(error.value) or "checkpoint" in str(error.value)


@pytest.mark.fault(61)
@pytest.mark.parametrize("what", [5, [1, 2], None, torch.zeros(3), "policy_state_dict", {"a": 1}], ids=repr)
def test_a_checkpoint_without_our_keys_is_reported_in_one_line(what):
    buffer = io.BytesIO()
    torch.save(what, buffer)
    with pytest.raises(ModelError, match="E_CHECKPOINT"):
        load_document(buffer.getvalue())


# The model JSON


@pytest.mark.fault(62)
@pytest.mark.parametrize(
    "mode", ["nan weights", "wrong shapes", "another layer size", "wrong normaliser", "wrong probe"]
)
def test_a_model_that_is_not_what_was_trained_is_never_published(fresh_project, mode):
    with opened(fresh_project()) as harness:
        before = pointer_text(harness)
        begin_cycle(harness, mode)
        until_ended(harness, 1)
        assert (harness.runner.cycle.phase, pointer_text(harness)) == (Phase.FAILED, before)
        assert not harness.paths.cycle_folder(1).exists()
        begin_cycle(harness, "", first=3)
        harness.until_published(2)
