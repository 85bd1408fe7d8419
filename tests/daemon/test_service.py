"""Whole cycles in one process, with the fake trainer as a real child: what is promised holds when things go wrong."""

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
from schemas.storage.files import write_atomic
from tests.helpers import drop, v1_bytes


def order(rig, **what):
    write_atomic(rig.layout.commands / "1_1.order", Command(**what).to_bytes())
    rig.until(lambda: not waiting_commands(rig.layout))
    return orjson.loads((rig.layout.commands / "1_1.answer").read_bytes())


def state_of(rig):
    return orjson.loads(rig.layout.status.read_bytes())["state"]


def pointed(rig):
    return rig.layout.pointer.read_text(encoding="utf-8")


def test_the_first_run_publishes_version_0_before_any_training(rig):
    one = rig()
    one.until_published(0)
    assert pointed(one).endswith("/Saved/Training/Models/cycle_000000/model_epoch_0.json")
    assert "\n" not in pointed(one)
    assert "\\" not in pointed(one)


def test_n_rollouts_become_a_published_model_with_all_that_the_contract_names(rig):
    one = rig()
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until_published(1)
    model = read_model(Path(pointed(one)).read_bytes())
    check_probe(model)
    assert model.policy_version == 1
    names = {path.name for path in one.layout.cycle_folder(1).iterdir()}
    assert names == {*(f"model_epoch_{k}.pt" for k in (1, 2, 3)), "model_epoch_3.json", "model_analysis.json"}
    copies = {path.name for path in one.layout.models.iterdir() if path.is_file()}
    assert copies == names | {"best_model_path.txt"}
    for step in ("[1/5]", "[2/5]", "[3/5]", "[4/5]", "[5/5] done"):
        assert step in one.log
    [line] = [cycle for cycle in one.ledger.history() if cycle.cycle == 1]
    assert len(line.rollouts) == 2
    assert not list(one.layout.staging.iterdir())


def test_the_epoch_that_the_settings_ask_for_is_the_one_that_is_published(rig):
    one = rig(auto_load_model_epoch=2)
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until_published(1)
    assert pointed(one).endswith("cycle_000001/model_epoch_2.json")


def test_rollouts_that_arrive_during_a_cycle_count_toward_the_next(rig):
    one = rig()
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until(lambda: one.runner.cycle is not None and one.runner.cycle.kind == "train")
    drop(one.layout.exports, 3)
    one.until_published(1)
    one.until(lambda: one.ledger.pending_count() == 1)
    drop(one.layout.exports, 4)
    one.until_published(2)
    assert [len(cycle.rollouts) for cycle in one.ledger.history()] == [0, 2, 2]


@pytest.mark.fault(7)
def test_the_same_content_under_two_names_counts_once(rig):
    one = rig()
    drop(one.layout.exports, 1, seed=7)
    drop(one.layout.exports, 2, seed=7)
    one.until(lambda: "counted once" in one.log)
    assert one.ledger.pending_count() == 1


def test_version_0_is_made_anew_where_the_first_rollouts_have_another_shape(rig):
    one = rig()
    one.until_published(0)
    first = pointed(one)
    drop(one.layout.exports, 1, v1_bytes(seed=1, observation_size=4))
    one.until(lambda: pointed(one) != first and not one.runner.busy)
    model = read_model(Path(pointed(one)).read_bytes())
    assert (model.policy_version, model.contract.observation_size) == (0, 4)
    drop(one.layout.exports, 2, v1_bytes(seed=2, observation_size=4))
    one.until(lambda: one.ledger.has_trained() and not one.runner.busy)


@pytest.mark.fault(19)
def test_a_rollout_of_another_shape_is_rejected_with_the_difference_in_words(rig):
    one = rig()
    drop(one.layout.exports, 1)
    one.until(lambda: one.ledger.pending_count() == 1)
    bad = drop(one.layout.exports, 2, v1_bytes(seed=2, observation_size=16))
    one.until(lambda: not bad.exists())
    reason = (one.layout.rejected / f"{bad.name}.reason.txt").read_text(encoding="utf-8")
    assert "16 observations instead of 15" in reason
    assert (one.layout.rejected / bad.name).exists()
    assert one.ledger.pending_count() == 1


@pytest.mark.fault(18)
def test_a_broken_rollout_costs_that_rollout_only(rig):
    one = rig()
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2, b'{"experiences": [{"state": []}]}')
    drop(one.layout.exports, 3)
    one.until_published(1)
    assert [path.name for path in one.layout.rejected.glob("*.json")] == ["rollout_2_20261121_120000.json"]


@pytest.mark.fault(2)
def test_a_file_written_slowly_in_place_counts_once_and_whole(rig):
    one = rig()
    one.until_published(0)
    data, path = v1_bytes(seed=5), one.layout.exports / "rollout_5_x.json"
    with path.open("wb") as file:
        for start in range(0, len(data), 5000):
            file.write(data[start : start + 5000])
            file.flush()
            one.service.tick()
    one.until(lambda: one.ledger.pending_count() == 1)
    assert one.ledger.rejected_count() == 0


@pytest.mark.fault(1)
def test_a_file_that_stays_incomplete_is_rejected_after_its_time(rig):
    one = rig(incomplete_timeout_s=0.2)
    bad = drop(one.layout.exports, 1, v1_bytes()[:-100])
    one.until(lambda: not bad.exists())
    assert "E_TRUNCATED" in (one.layout.rejected / f"{bad.name}.reason.txt").read_text(encoding="utf-8")


@pytest.mark.fault(20)
@pytest.mark.fault(23)
def test_temporary_files_and_odd_files_are_left_alone(rig):
    one = rig()
    exports = one.layout.exports
    (exports / "rollout_9_x.json.tmp").write_bytes(v1_bytes())
    (exports / "notes.json").write_bytes(v1_bytes())
    (exports / "rollout_7_x.json").mkdir()
    if hasattr(os, "mkfifo"):  # not on Windows
        os.mkfifo(exports / "rollout_8_x.json")
    drop(exports, 1)
    one.until(lambda: one.ledger.pending_count() == 1)
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
def test_a_failed_training_costs_that_cycle_only(rig, mode, words):
    one = rig()
    one.until_published(0)
    one.launcher.mode = mode
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until(lambda: one.runner.cycle.phase is Phase.FAILED)
    assert words in one.runner.cycle.why
    assert pointed(one).endswith("cycle_000000/model_epoch_0.json")
    one.launcher.mode = ""
    drop(one.layout.exports, 3)
    drop(one.layout.exports, 4)
    one.until_published(2)
    assert [cycle.state for cycle in one.ledger.history()] == ["published", "failed", "published"]


def test_a_killed_trainer_is_tried_once_more_and_then_costs_its_cycle(rig):
    one = rig()
    one.until_published(0)
    one.launcher.mode = "dies"
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until(lambda: one.runner.cycle.phase is Phase.FAILED)
    assert len(one.launcher.started) == 3
    assert "memory ran out" in one.runner.cycle.why


def test_three_failed_cycles_in_a_row_park_and_a_trigger_tries_again(rig):
    one = rig(auto_train_after_n_rollouts=1)
    one.until_published(0)
    one.launcher.mode = "fails"
    for i in range(1, 4):
        drop(one.layout.exports, i)
        one.until(lambda i=i: one.runner.cycle.id == i and one.runner.cycle.phase in {Phase.FAILED, Phase.PARKED})
    assert one.runner.cycle.phase is Phase.PARKED
    drop(one.layout.exports, 9)
    one.until(lambda: one.ledger.pending_count() == 1 and state_of(one) == "parked")
    one.launcher.mode = ""
    assert order(one, what="trigger")["ok"]
    one.until_published(3)
    one.until_published(4)


@pytest.mark.parametrize("mode", ["silent", "stubborn"])
def test_a_trainer_that_hangs_is_ended_with_its_whole_family(rig, mode):
    one = rig(attempts=1)
    one.until_published(0)
    object.__setattr__(one.settings.daemon, "silence_timeout_s", 0.5)
    one.launcher.mode = mode
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until(lambda: len(one.launcher.started) == 2)
    pid = one.launcher.started[1].pid
    family: set[int] = set()

    def is_over() -> bool:
        if psutil.pid_exists(pid):
            with contextlib.suppress(psutil.Error):
                family.update(child.pid for child in psutil.Process(pid).children(recursive=True))
        return one.runner.cycle.phase is Phase.FAILED

    one.until(is_over)
    assert "no sign of life" in one.runner.cycle.why
    assert len(family) == (1 if mode == "stubborn" else 0)
    for each in (pid, *family):
        assert not psutil.pid_exists(each) or psutil.Process(each).status() == psutil.STATUS_ZOMBIE


def test_a_trainer_that_never_says_ready_is_ended(rig):
    one = rig(attempts=1)
    one.until_published(0)
    one.launcher.mode = "never ready"
    object.__setattr__(one.settings.daemon, "startup_timeout_s", 0.3)
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until(lambda: one.runner.cycle.phase is Phase.FAILED)
    assert "not ready after" in one.runner.cycle.why


def test_noise_on_the_trainers_stdout_does_no_harm(rig):
    one = rig()
    one.launcher.mode = "chatty"
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until_published(1)


def test_what_a_trainer_says_is_made_safe(rig):
    one = rig()
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until_published(1)
    [warning] = [w for w in one.project.warnings() if w.code == "W_TRAINER_DEMO"]
    assert warning.message == "something [bold]odd[/bold] \\x1b[2J"


def test_paused_rollouts_are_counted_but_start_nothing_until_resume_also_after_a_restart(rig, tmp_path):
    one = rig()
    one.until_published(0)
    assert order(one, what="pause")["ok"]
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until(lambda: one.ledger.pending_count() == 2 and state_of(one) == "paused")
    two = rig()
    two.until(lambda: two.inbox.is_up_to_date)
    assert two.ledger.pending_count() == 2
    assert "paused" in two.log
    assert order(two, what="resume")["ok"]
    two.until_published(1)


def test_a_trigger_trains_on_fewer_than_n(rig):
    one = rig(auto_train_after_n_rollouts=100)
    drop(one.layout.exports, 1)
    one.until(lambda: one.ledger.pending_count() == 1 and one.ledger.last_publication() and not one.runner.busy)
    assert order(one, what="trigger")["ok"]
    one.until_published(1)


def test_an_older_model_can_be_put_before_the_engine_and_training_goes_on_from_it(rig):
    one = rig(auto_train_after_n_rollouts=1)
    for i in (1, 2):
        drop(one.layout.exports, i)
        one.until_published(i)
    answer = order(one, what="publish", epoch=3, cycle=1)
    assert answer == {
        "ok": True,
        "message": "published cycle_000001/model_epoch_3.json; the next cycle continues from it",
    }
    assert pointed(one).endswith("cycle_000001/model_epoch_3.json")
    drop(one.layout.exports, 3)
    one.until_published(3)
    parent = one.ledger._db.execute("SELECT parent FROM cycle WHERE id = 3").fetchone()[0]
    assert parent == "cycle_000001/model_epoch_3.pt"


def test_an_order_for_a_model_that_is_not_there_is_answered_with_the_reason(rig):
    one = rig()
    one.until_published(0)
    answer = order(one, what="publish", epoch=9, cycle=0)
    assert not answer["ok"]
    assert pointed(one).endswith("model_epoch_0.json")


def test_cleared_exports_are_those_of_the_cycle_alone(rig):
    one = rig(clear_exports_after_training=True)
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until(lambda: one.runner.cycle is not None and one.runner.cycle.kind == "train")
    kept = drop(one.layout.exports, 3)
    one.until_published(1)
    one.until(lambda: [path.name for path in one.layout.exports.iterdir()] == [kept.name])


@pytest.mark.parametrize("limit_by", ["age", "quality"])
def test_exports_are_limited_to_the_newest_or_the_best_used_ones(rig, limit_by):
    one = rig(max_export_files=2, limit_by=limit_by)
    paths = [drop(one.layout.exports, i) for i in (1, 2)]
    one.until_published(1)
    paths += [drop(one.layout.exports, i) for i in (3, 4)]
    one.until_published(2)
    one.until(lambda: len(list(one.layout.exports.iterdir())) == 2)
    rewards = {row.row.name: row.row.reward_mean for i in (1, 2) for row in one.ledger.rollouts_of(i)}
    left = {path.name for path in one.layout.exports.iterdir()}
    by_quality = set(sorted(rewards, key=rewards.__getitem__)[-2:])
    assert left == (by_quality if limit_by == "quality" else {path.name for path in paths[2:]})


def test_a_deleted_exports_folder_is_waited_for(rig):
    one = rig()
    one.until_published(0)
    shutil.rmtree(one.layout.exports)
    one.until(lambda: any(w.code in {"W_EXPORTS", "W_WATCHER"} for w in one.project.warnings()))
    one.layout.exports.mkdir()
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until_published(1)
    assert not one.project.warnings() or all(w.code.startswith("W_TRAINER") for w in one.project.warnings())


def test_a_stopped_daemon_does_its_cycle_again_and_no_rollout_counts_twice(rig):
    one = rig()
    one.until_published(0)
    one.launcher.mode = "silent"
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until(lambda: one.runner.cycle.phase is Phase.TRAINING)
    one.close()
    two = rig()
    assert two.runner.cycle.phase is Phase.CLAIMED
    two.until_published(1)
    assert [len(cycle.rollouts) for cycle in two.ledger.history()] == [0, 2]
    assert two.ledger.pending_count() == 0


def test_a_users_training_script_is_called_with_the_positional_arguments(rig, tmp_path):
    script = tmp_path / "my_training.py"
    script.write_text(
        "import json, pathlib, sys\n"
        "exports, models, epochs, device = sys.argv[1:]\n"
        "pathlib.Path(models, 'model_epoch_1.pt').write_bytes(b'x')\n"
        "pathlib.Path(exports, '..', 'seen.json').write_text(json.dumps([epochs, device]))\n"
    )
    one = rig(training_script="my_training.py")
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until_published(1)
    assert orjson.loads((one.layout.training / "seen.json").read_bytes()) == ["3", "auto"]
    assert "my_training.py" in one.log


def test_a_training_script_that_fails_is_named_with_its_last_words(rig, tmp_path):
    (tmp_path / "bad.py").write_text("raise SystemExit('no GPU here')\n")
    one = rig(training_script="bad.py")
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until(lambda: one.runner.cycle and one.runner.cycle.kind == "train" and not one.runner.busy)
    assert "the training script ended with exit code 1: no GPU here" in one.runner.cycle.why


def test_another_hidden_size_than_the_models_is_refused_at_the_start(rig):
    from daemon.service import Service
    from schemas.errors import ContractError
    from schemas.settings.models import AgentSettings, Settings

    one = rig()
    one.until_published(0)
    one.project.settings = Settings(agent=AgentSettings(hidden_sizes=(64,)))
    again = Service(one.project, one.inbox, one.runner, None, None)
    with pytest.raises(ContractError, match=r"\[64\].*\[128, 128\]"):
        again.start()
