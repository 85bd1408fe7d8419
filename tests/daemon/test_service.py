"""Whole cycles in one process, with the fake trainer as a real child process, also after failures."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import orjson
import psutil
import pytest

from daemon.ledger.cycle import Phase
from daemon.runtime.commands import Command, waiting_commands
from schemas.model import check_probe, read_model
from schemas.settings.models import AgentSettings
from schemas.storage.files import write_atomic
from tests.helpers import v1_bytes, write_rollout
from tests.platforms import is_console, needs_real_windows


def send(harness, **what):
    """Write a command as the command line does; return the reply."""
    write_atomic(harness.paths.commands / "1_1.command", Command(**what).to_bytes())
    harness.until(lambda: not waiting_commands(harness.paths))
    return orjson.loads((harness.paths.commands / "1_1.reply").read_bytes())


def state_of(harness):
    return orjson.loads(harness.paths.status.read_bytes())["state"]


def pointer_text(harness):
    return harness.paths.pointer.read_text(encoding="utf-8")


def test_the_first_run_publishes_version_0_before_any_training(make_harness):
    harness = make_harness()
    harness.until_published(0)
    assert pointer_text(harness).endswith("/Saved/Training/Models/cycle_000000/model_epoch_0.json")
    assert "\n" not in pointer_text(harness)
    assert "\\" not in pointer_text(harness)


def test_enough_rollouts_become_a_published_model_with_all_its_files(make_harness):
    harness = make_harness()
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until_published(1)
    model = read_model(Path(pointer_text(harness)).read_bytes())
    check_probe(model)
    assert model.policy_version == 1
    names = {path.name for path in harness.paths.cycle_folder(1).iterdir()}
    assert names == {*(f"model_epoch_{k}.pt" for k in (1, 2, 3)), "model_epoch_3.json", "model_analysis.json"}
    copies = {path.name for path in harness.paths.models.iterdir() if path.is_file()}
    assert copies == names | {"best_model_path.txt"}
    for step in ("[1/5]", "[2/5]", "[3/5]", "[4/5]", "[5/5] done"):
        assert step in harness.log
    [line] = [cycle for cycle in harness.ledger.history() if cycle.cycle == 1]
    assert len(line.rollouts) == 2
    assert not list(harness.paths.staging.iterdir())


def test_the_epoch_in_the_settings_is_published(make_harness):
    harness = make_harness(auto_load_model_epoch=2)
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until_published(1)
    assert pointer_text(harness).endswith("cycle_000001/model_epoch_2.json")


def test_rollouts_that_arrive_during_a_cycle_count_toward_the_next(make_harness):
    harness = make_harness()
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until(lambda: harness.runner.cycle is not None and harness.runner.cycle.kind == "train")
    write_rollout(harness.paths.exports, 3)
    harness.until_published(1)
    harness.until(lambda: harness.ledger.pending_count() == 1)
    write_rollout(harness.paths.exports, 4)
    harness.until_published(2)
    assert [len(cycle.rollouts) for cycle in harness.ledger.history()] == [0, 2, 2]


@pytest.mark.fault(7)
def test_the_same_content_under_two_names_counts_once(make_harness):
    harness = make_harness()
    write_rollout(harness.paths.exports, 1, seed=7)
    write_rollout(harness.paths.exports, 2, seed=7)
    harness.until(lambda: "counted once" in harness.log)
    assert harness.ledger.pending_count() == 1


def test_version_0_is_made_again_if_the_first_rollouts_have_another_shape(make_harness):
    harness = make_harness()
    harness.until_published(0)
    first = pointer_text(harness)
    write_rollout(harness.paths.exports, 1, v1_bytes(seed=1, observation_size=4))
    harness.until(lambda: pointer_text(harness) != first and not harness.runner.busy)
    model = read_model(Path(pointer_text(harness)).read_bytes())
    assert (model.policy_version, model.contract.observation_size) == (0, 4)
    write_rollout(harness.paths.exports, 2, v1_bytes(seed=2, observation_size=4))
    harness.until(lambda: harness.ledger.has_trained() and not harness.runner.busy)


@pytest.mark.fault(19)
def test_a_rollout_of_another_shape_is_rejected_with_the_difference(make_harness):
    harness = make_harness(agent=AgentSettings(observation_size=15))
    write_rollout(harness.paths.exports, 1)
    harness.until(lambda: harness.ledger.pending_count() == 1)
    bad = write_rollout(harness.paths.exports, 2, v1_bytes(seed=2, observation_size=16))
    harness.until(lambda: not bad.exists())
    reason = (harness.paths.rejected / f"{bad.name}.reason.txt").read_text(encoding="utf-8")
    assert "16 observations instead of 15 (agent.observation_size in daemon.toml)" in reason
    assert (harness.paths.rejected / bad.name).exists()
    assert harness.ledger.pending_count() == 1


@pytest.mark.fault(18)
def test_an_invalid_rollout_does_not_affect_the_others(make_harness):
    harness = make_harness()
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2, b'{"experiences": [{"state": []}]}')
    write_rollout(harness.paths.exports, 3)
    harness.until_published(1)
    assert [path.name for path in harness.paths.rejected.glob("*.json")] == ["rollout_2_20261121_120000.json"]


@pytest.mark.fault(2)
def test_a_file_written_slowly_in_place_counts_once_when_it_is_complete(make_harness):
    harness = make_harness()
    harness.until_published(0)
    data, path = v1_bytes(seed=5), harness.paths.exports / "rollout_5_x.json"
    with path.open("wb") as file:
        for start in range(0, len(data), 5000):
            file.write(data[start : start + 5000])
            file.flush()
            harness.service.tick()
    harness.until(lambda: harness.ledger.pending_count() == 1)
    assert harness.ledger.rejected_count() == 0


@pytest.mark.fault(1)
def test_a_file_that_stays_incomplete_is_rejected_after_a_timeout(make_harness):
    harness = make_harness(incomplete_timeout_s=0.2)
    bad = write_rollout(harness.paths.exports, 1, v1_bytes()[:-100])
    harness.until(lambda: not bad.exists())
    assert "E_TRUNCATED" in (harness.paths.rejected / f"{bad.name}.reason.txt").read_text(encoding="utf-8")


@pytest.mark.fault(20)
@pytest.mark.fault(23)
def test_temporary_files_and_files_that_are_not_rollouts_are_not_touched(make_harness):
    harness = make_harness()
    exports = harness.paths.exports
    (exports / "rollout_9_x.json.tmp").write_bytes(v1_bytes())
    (exports / "notes.json").write_bytes(v1_bytes())
    (exports / "rollout_7_x.json").mkdir()
    if hasattr(os, "mkfifo"):  # not on Windows
        os.mkfifo(exports / "rollout_8_x.json")
    write_rollout(exports, 1)
    harness.until(lambda: harness.ledger.pending_count() == 1)
    assert {path.name for path in exports.iterdir()} >= {"rollout_9_x.json.tmp", "notes.json"}


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("fails", "these rollouts are no good"),
        ("traceback", "a bug"),
        ("nothing", "exit code 0"),
        ("wrong probe", "probe"),
    ],
)
def test_after_a_failed_training_the_next_cycle_is_published(make_harness, mode, words):
    harness = make_harness()
    harness.until_published(0)
    harness.launcher.mode = mode
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until(lambda: harness.runner.cycle.phase is Phase.FAILED)
    assert words in harness.runner.cycle.why
    assert pointer_text(harness).endswith("cycle_000000/model_epoch_0.json")
    harness.launcher.mode = ""
    write_rollout(harness.paths.exports, 3)
    write_rollout(harness.paths.exports, 4)
    harness.until_published(2)
    assert [cycle.state for cycle in harness.ledger.history()] == ["published", "failed", "published"]


def test_after_two_killed_trainers_the_cycle_fails(make_harness):
    harness = make_harness()
    harness.until_published(0)
    harness.launcher.mode = "dies"
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until(lambda: harness.runner.cycle.phase is Phase.FAILED)
    assert len(harness.launcher.started) == 3
    assert "memory ran out" in harness.runner.cycle.why


def test_after_three_failed_cycles_the_daemon_parks_until_a_trigger(make_harness):
    harness = make_harness(auto_train_after_n_rollouts=1)
    harness.until_published(0)
    harness.launcher.mode = "fails"
    for i in range(1, 4):
        write_rollout(harness.paths.exports, i)
        harness.until(
            lambda i=i: harness.runner.cycle.id == i and harness.runner.cycle.phase in {Phase.FAILED, Phase.PARKED}
        )
    assert harness.runner.cycle.phase is Phase.PARKED
    write_rollout(harness.paths.exports, 9)
    harness.until(lambda: harness.ledger.pending_count() == 1 and state_of(harness) == "parked")
    harness.launcher.mode = ""
    assert send(harness, what="trigger")["ok"]
    harness.until_published(3)
    harness.until_published(4)


@pytest.mark.parametrize("mode", ["silent", "stubborn"])
def test_a_trainer_that_hangs_is_ended_with_its_descendants(make_harness, mode):
    harness = make_harness(attempts=1)
    harness.until_published(0)
    object.__setattr__(harness.settings.daemon, "silence_timeout_s", 0.5)
    harness.launcher.mode = mode
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until(lambda: len(harness.launcher.started) == 2)
    pid = harness.launcher.started[1].pid
    descendants: set[int] = set()

    def is_over() -> bool:
        if psutil.pid_exists(pid):
            with contextlib.suppress(psutil.Error):
                children = psutil.Process(pid).children(recursive=True)
                descendants.update(child.pid for child in children if not is_console(child))
        return harness.runner.cycle.phase is Phase.FAILED

    harness.until(is_over)
    assert "sent no event for silence_timeout_s" in harness.runner.cycle.why
    assert len(descendants) == (1 if mode == "stubborn" else 0)
    for each in (pid, *descendants):
        assert not psutil.pid_exists(each) or psutil.Process(each).status() == psutil.STATUS_ZOMBIE


def test_a_trainer_that_is_never_ready_is_ended(make_harness):
    harness = make_harness(attempts=1)
    harness.until_published(0)
    harness.launcher.mode = "never ready"
    object.__setattr__(harness.settings.daemon, "startup_timeout_s", 0.3)
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until(lambda: harness.runner.cycle.phase is Phase.FAILED)
    assert "not ready after" in harness.runner.cycle.why


def test_lines_that_are_not_events_on_the_trainers_stdout_are_ignored(make_harness):
    harness = make_harness()
    harness.launcher.mode = "chatty"
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until_published(1)


def test_control_characters_in_a_notice_are_escaped(make_harness):
    harness = make_harness()
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until_published(1)
    [warning] = [w for w in harness.context.warnings() if w.code == "W_DEMO"]
    assert warning.message == "something [bold]odd[/bold] \\x1b[2J"


def test_a_pause_lasts_until_resume_also_after_a_restart(make_harness, tmp_path):
    harness = make_harness()
    harness.until_published(0)
    assert send(harness, what="pause")["ok"]
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until(lambda: harness.ledger.pending_count() == 2 and state_of(harness) == "paused")
    second = make_harness()
    second.until(lambda: second.inbox.is_up_to_date)
    assert second.ledger.pending_count() == 2
    assert "paused" in second.log
    assert send(second, what="resume")["ok"]
    second.until_published(1)


def test_a_trigger_without_rollouts_is_refused_and_starts_no_cycle(make_harness):
    harness = make_harness(failures_before_parking=1)
    harness.until_published(0)
    harness.until(lambda: harness.inbox.is_up_to_date)
    for _ in range(3):
        reply = send(harness, what="trigger")
        assert (reply["ok"], reply["exit_code"]) == (False, 3)
        assert f"{harness.paths.exports.as_posix()} contains no rollouts" in reply["message"]
        assert reply["message"].endswith("[E_NO_ROLLOUTS]")
    harness.until(lambda: state_of(harness) == "idle")
    assert harness.ledger.last_cycle_id() == 0
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until_published(1)


def test_a_trigger_waits_for_the_rollouts_that_are_being_read(make_harness):
    harness = make_harness(auto_train_after_n_rollouts=100)
    harness.until_published(0)
    write_rollout(harness.paths.exports, 1)
    assert send(harness, what="trigger")["ok"]
    harness.until_published(1)


def test_a_trigger_whose_rollouts_are_rejected_starts_no_cycle(make_harness):
    harness = make_harness(auto_train_after_n_rollouts=100)
    harness.until_published(0)
    harness.service.trigger("trigger")
    bad = write_rollout(harness.paths.exports, 1, b"{}")
    harness.until(lambda: not bad.exists() and not harness.service.is_triggered)
    assert f"{harness.paths.exports.as_posix()} contains no rollouts" in harness.log
    assert harness.ledger.last_cycle_id() == 0


def test_a_trigger_with_nothing_new_trains_on_old_rollouts_only_if_told_to(make_harness):
    harness = make_harness()
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until_published(1)
    reply = send(harness, what="trigger")
    assert (reply["ok"], reply["exit_code"]) == (False, 3)
    assert "contains nothing new: its 2 rollouts were all used by earlier cycles" in reply["message"]
    assert "`hotlap trigger --again`" in reply["message"]
    assert not harness.service.is_triggered
    assert send(harness, what="trigger", again=True)["ok"]
    harness.until_published(2)


def test_a_trigger_while_paused_is_refused(make_harness):
    harness = make_harness(auto_train_after_n_rollouts=100)
    harness.until_published(0)
    write_rollout(harness.paths.exports, 1)
    harness.until(lambda: harness.ledger.pending_count() == 1)
    assert send(harness, what="pause")["ok"]
    reply = send(harness, what="trigger")
    assert (reply["ok"], reply["exit_code"]) == (False, 2)
    assert reply["message"] == "paused: `hotlap resume` first [E_PAUSED]"
    assert not harness.service.is_triggered
    assert send(harness, what="resume")["ok"]
    assert send(harness, what="trigger")["ok"]
    harness.until_published(1)


def test_a_trigger_trains_on_fewer_rollouts_than_usual(make_harness):
    harness = make_harness(auto_train_after_n_rollouts=100)
    write_rollout(harness.paths.exports, 1)
    harness.until(
        lambda: harness.ledger.pending_count() == 1 and harness.ledger.last_publication() and not harness.runner.busy
    )
    assert send(harness, what="trigger")["ok"]
    harness.until_published(1)


def test_an_older_model_can_be_published_again_and_training_continues_from_it(make_harness):
    harness = make_harness(auto_train_after_n_rollouts=1)
    for i in (1, 2):
        write_rollout(harness.paths.exports, i)
        harness.until_published(i)
    reply = send(harness, what="publish", epoch=3, cycle=1)
    assert reply["ok"]
    assert reply["message"] == "published cycle_000001/model_epoch_3.json; the next cycle continues from it"
    assert pointer_text(harness).endswith("cycle_000001/model_epoch_3.json")
    write_rollout(harness.paths.exports, 3)
    harness.until_published(3)
    parent = harness.ledger._db.execute("SELECT parent FROM cycle WHERE id = 3").fetchone()[0]
    assert parent == "cycle_000001/model_epoch_3.pt"


def test_a_command_to_publish_a_missing_epoch_is_refused_and_the_pointer_file_stays(make_harness):
    harness = make_harness()
    harness.until_published(0)
    reply = send(harness, what="publish", epoch=9, cycle=0)
    assert not reply["ok"]
    assert pointer_text(harness).endswith("model_epoch_0.json")


def test_only_the_rollouts_of_the_cycle_are_cleared_from_exports(make_harness):
    harness = make_harness(clear_exports_after_training=True)
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until(lambda: harness.runner.cycle is not None and harness.runner.cycle.kind == "train")
    unused = write_rollout(harness.paths.exports, 3)
    harness.until_published(1)
    harness.until(lambda: [path.name for path in harness.paths.exports.iterdir()] == [unused.name])


@pytest.mark.parametrize("limit_by", ["age", "quality"])
def test_only_the_newest_or_the_best_used_exports_are_kept(make_harness, limit_by):
    harness = make_harness(max_export_files=2, limit_by=limit_by)
    paths = [write_rollout(harness.paths.exports, i) for i in (1, 2)]
    harness.until_published(1)
    paths += [write_rollout(harness.paths.exports, i) for i in (3, 4)]
    harness.until_published(2)
    harness.until(lambda: len(list(harness.paths.exports.iterdir())) == 2)
    rewards = {row.row.name: row.row.reward_mean for i in (1, 2) for row in harness.ledger.rollouts_of(i)}
    left = {path.name for path in harness.paths.exports.iterdir()}
    by_quality = set(sorted(rewards, key=rewards.__getitem__)[-2:])
    assert left == (by_quality if limit_by == "quality" else {path.name for path in paths[2:]})


@needs_real_windows("RemoveDirectoryW leaves a folder that ReadDirectoryChangesW watches")
def test_the_daemon_waits_for_a_deleted_exports_folder(make_harness):
    harness = make_harness()
    harness.until_published(0)
    shutil.rmtree(harness.paths.exports)
    harness.until(lambda: any(w.code in {"W_EXPORTS", "W_WATCHER"} for w in harness.context.warnings()))
    harness.paths.exports.mkdir()
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until_published(1)
    assert not harness.context.warnings() or all(w.code == "W_DEMO" for w in harness.context.warnings())


def test_after_a_restart_the_cycle_is_trained_again_and_no_rollout_counts_twice(make_harness):
    harness = make_harness()
    harness.until_published(0)
    harness.launcher.mode = "silent"
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until(lambda: harness.runner.cycle.phase is Phase.TRAINING)
    harness.close()
    second = make_harness()
    assert second.runner.cycle.phase is Phase.CLAIMED
    second.until_published(1)
    assert [len(cycle.rollouts) for cycle in second.ledger.history()] == [0, 2]
    assert second.ledger.pending_count() == 0


def test_a_users_training_script_is_called_with_the_positional_arguments(make_harness, tmp_path):
    script = tmp_path / "my_training.py"
    script.write_text(
        "import json, pathlib, sys\n"
        "exports, models, epochs, device = sys.argv[1:]\n"
        "pathlib.Path(models, 'model_epoch_1.pt').write_bytes(b'x')\n"
        "pathlib.Path(exports, '..', 'arguments.json').write_text(json.dumps([epochs, device]))\n"
    )
    harness = make_harness(training_script="my_training.py")
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until_published(1)
    assert orjson.loads((harness.paths.training / "arguments.json").read_bytes()) == ["3", "auto"]
    assert "my_training.py" in harness.log


def test_the_last_output_line_of_a_failed_training_script_is_shown(make_harness, tmp_path):
    (tmp_path / "bad.py").write_text("raise SystemExit('no GPU here')\n")
    harness = make_harness(training_script="bad.py")
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until(lambda: harness.runner.cycle and harness.runner.cycle.kind == "train" and not harness.runner.busy)
    assert "the training script ended with exit code 1: no GPU here" in harness.runner.cycle.why


def test_another_hidden_size_than_the_models_is_refused_at_the_start(make_harness):
    from daemon.service import Service
    from schemas.errors import ContractError
    from schemas.settings.models import AgentSettings, Settings

    harness = make_harness()
    harness.until_published(0)
    harness.context.settings = Settings(agent=AgentSettings(hidden_sizes=(64,)))
    again = Service(harness.context, harness.inbox, harness.runner, None, None)
    with pytest.raises(ContractError, match=r"\[64\].*\[8, 8\]"):
        again.start()
