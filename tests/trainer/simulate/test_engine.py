"""The simulated engine: Unreal's byte layout, the model's arithmetic, and the loop between the two folders."""

import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from schemas.rollout.reader import read_rollout
from tests.platforms import needs_posix
from trainer.simulate import engine as engine_module
from trainer.simulate.engine import Engine
from trainer.simulate.model_file import ModelFileError, check_probe, parse_model, random_model, read_pointer
from trainer.simulate.options import SimulationOptions
from trainer.simulate.rollout_file import (
    ExportedRollout,
    encode_text,
    next_index,
    rollout_name,
    version_1,
    version_2,
    write_slowly,
    write_whole,
)

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = ROOT / "tests" / "data" / "rollouts"
SIZES = (15, 8, 8, 3)


def rollout_of(document, *, steer="steer"):
    e = document["experiences"]
    f4 = np.float32
    return ExportedRollout(
        observations=np.array([x["state"] for x in e], f4),
        actions=np.array([list(x["action"].values()) for x in e], f4),
        rewards=np.array([x["reward"] for x in e], f4),
        terminated=np.array([x["done"] for x in e]),
        truncated=np.zeros(len(e), bool),
        log_probs=np.array([x["log_prob"] for x in e], f4),
        values=np.array([x["value"] for x in e], f4),
        agents=np.array([x["agent_index"] for x in e], np.int32),
        action_names=(steer, "throttle", "brake"),
        action_low=(-1.0, 0.0, 0.0),
        action_high=(1.0, 1.0, 1.0),
        policy_version=7,
    )


def document_of(model, version, *, probe=True):
    """Return a model JSON as the daemon publishes it."""

    def layer(dense):
        return {"weights": dense.weights.ravel().tolist(), "biases": dense.biases.tolist()}

    observations = np.random.default_rng(0).normal(size=(8, model.sizes[0])).astype(np.float32)
    means, values = model.mean(observations), model.value(observations)
    document = {
        "network_config": {
            "input_size": model.sizes[0],
            "hidden_layers": list(model.sizes[1:-1]),
            "policy_output_size": model.sizes[-1],
            "value_output_size": 1,
        },
        "policy_layers": [layer(x) for x in model.policy[:-1]],
        "value_layers": [layer(x) for x in model.value_function[:-1]],
        "policy_head": layer(model.policy[-1]),
        "value_head": layer(model.value_function[-1]),
        "action_log_std": model.action_log_std.tolist(),
        "policy_version": version,
    }
    if probe:
        document["probe"] = {"observations": observations.tolist(), "means": means.tolist(), "values": values.tolist()}
    return document


class Project:
    """A project folder in which the test does the work of the daemon."""

    def __init__(self, folder):
        self.folder = folder
        self.models = folder / "Saved" / "Training" / "Models"
        self.exports = folder / "Saved" / "Training" / "Exports"

    def publish(self, version, *, sizes=SIZES, change=None):
        document = document_of(random_model(sizes, np.random.default_rng(version)), version)
        if change:
            change(document)
        path = self.models / f"cycle_{version:06d}" / "model_epoch_1.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(document), "utf-8")
        (self.models / "best_model_path.txt").write_text(path.as_posix(), "utf-8")

    def engine(self, **options):
        return Engine(
            SimulationOptions(project=self.folder, **({"agents": 4, "experiences": 32, "quiet": True} | options))
        )

    def rollouts(self):
        """Return the rollouts that were written, in order."""
        paths = sorted(self.exports.iterdir(), key=lambda p: int(p.name.split("_")[1]))
        return [read_rollout(p.read_bytes()) for p in paths]


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


# --- rollout files ----------------------------------------------------------------------------------


def test_version_1_is_unreals_layout_byte_for_byte():
    sample = SAMPLES / "rollout_0_20241225_143022.json"
    when = datetime(2024, 12, 25, 14, 30, 22, tzinfo=UTC)
    assert encode_text(version_1(rollout_of(json.loads(sample.read_bytes())), when)) == sample.read_bytes()
    assert rollout_name(0, when) == sample.name


def test_version_1_as_utf_16_is_unreals_layout_byte_for_byte():
    sample = SAMPLES / "rollout_1_20241225_143105.utf16.json"
    document = json.loads(sample.read_bytes())
    when = datetime.strptime(document["timestamp"], "%Y.%m.%d-%H.%M.%S").replace(tzinfo=UTC)
    text = version_1(rollout_of(document, steer=next(iter(document["experiences"][0]["action"]))), when)
    assert encode_text(text, utf16=True) == sample.read_bytes()


def test_one_character_beyond_ascii_makes_the_file_utf_16():
    document = json.loads((SAMPLES / "rollout_0_20241225_143022.json").read_bytes())
    data = encode_text(version_1(rollout_of(document, steer="Lenkung ä 5%"), datetime(2024, 1, 1, tzinfo=UTC)))
    assert data.startswith(b"\xff\xfe")
    assert list(json.loads(data)["experiences"][0]["action"]) == ["Lenkung ä 5%", "throttle", "brake"]


@pytest.mark.parametrize("as_base64", [False, True])
def test_version_2_contains_the_same_columns(as_base64):
    document = json.loads((SAMPLES / "rollout_0_20241225_143022.json").read_bytes())
    original = rollout_of(document)
    found = read_rollout(version_2(original, "rollout_0", as_base64=as_base64).encode())
    for name in ("observations", "actions", "rewards", "terminated", "truncated", "log_probs", "values", "agents"):
        np.testing.assert_array_equal(getattr(found, name), getattr(original, name), err_msg=name)
    assert (found.policy_version, found.noise_std) == (7, 1.0)
    assert found.contract.action_space.names == original.action_names


def test_a_file_appears_when_it_is_complete_and_a_slow_one_piece_by_piece(tmp_path):
    data = bytes(range(256)) * 10
    write_whole(tmp_path / "a.json", data)
    sizes = []
    slow = tmp_path / "b.json"
    write_slowly(slow, data, seconds=0.0, should_hurry=lambda: sizes.append(slow.stat().st_size) or True, pieces=4)
    assert sizes == [640, 1280, 1920, 2560]
    assert slow.read_bytes() == (tmp_path / "a.json").read_bytes() == data
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_the_next_index_follows_the_highest_one(tmp_path):
    assert next_index(tmp_path) == 0
    for name in ("rollout_9_20250101_000000.json", "rollout_10_20250101_000000.json.tmp", "rollout_x.json", "notes"):
        (tmp_path / name).touch()
    assert next_index(tmp_path) == 11


# --- model files ------------------------------------------------------------------------------------


def test_a_model_computes_the_outputs_of_its_weights():
    """Two inputs, one hidden unit, one action: small enough to compute by hand."""
    dense = lambda weights, biases: {"weights": weights, "biases": biases}  # noqa: E731
    model, _ = parse_model(
        json.dumps(
            {
                "network_config": {
                    "input_size": 2,
                    "hidden_layers": [1],
                    "policy_output_size": 1,
                    "value_output_size": 1,
                },
                "policy_layers": [dense([1.0, -2.0], [0.5])],
                "value_layers": [dense([0.0, 1.0], [0.0])],
                "policy_head": dense([0.25], [0.1]),
                "value_head": dense([3.0], [-1.0]),
                "action_log_std": [-0.7],
            }
        ).encode()
    )
    observations = np.array([[2.0, 0.5], [0.0, 4.0]], np.float32)
    np.testing.assert_allclose(model.mean(observations)[:, 0], [math.tanh(0.25 * 1.5 + 0.1), math.tanh(0.1)], rtol=1e-6)
    np.testing.assert_allclose(model.value(observations), [0.5, 11.0], rtol=1e-6)
    assert model.policy_version is None


def broken(**changes):
    document = document_of(random_model(SIZES, np.random.default_rng(0)), 3)
    return document | changes


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "not a model JSON"),
        (broken(policy_layers=[]), "1 layers, but"),
        (broken(policy_head={"weights": [1.0], "biases": [0.0]}), "1 numbers, but its size requires 24"),
        (broken(action_log_std=[0.0, math.nan, 0.0]), "not finite"),
        (broken(action_space={"type": "discrete", "n": 3}), "discrete"),
    ],
    ids=["no object", "layers missing", "a short layer", "nan", "discrete"],
)
def test_a_model_that_cannot_be_run_is_rejected_with_the_reason(document, reason):
    with pytest.raises(ModelFileError, match=reason):
        parse_model(json.dumps(document).encode())


@pytest.mark.parametrize("output", ["means", "values"])
def test_the_probe_finds_a_model_that_computes_something_else(output):
    model, document = parse_model(json.dumps(broken()).encode())
    check_probe(model, document["probe"])
    probe = {name: np.array(column) for name, column in document["probe"].items()}
    probe[output] = probe[output] + 3e-4 * max(1.0, np.abs(probe[output]).max())
    with pytest.raises(ModelFileError, match=output):
        check_probe(model, probe)


def test_the_pointer_may_be_missing_empty_or_end_in_a_newline(tmp_path):
    pointer = tmp_path / "best_model_path.txt"
    assert read_pointer(pointer) is None
    pointer.touch()
    assert read_pointer(pointer) is None
    pointer.write_text("C:/game/m.json\r\n", "utf-8-sig")
    assert read_pointer(pointer) == "C:/game/m.json"


# --- the loop ---------------------------------------------------------------------------------------


def test_rollouts_contain_the_outputs_of_the_model(project):
    project.publish(0)
    engine = project.engine(rollouts=2, noise_std=0.5, format="v2")
    engine.run()
    for rollout in project.rollouts():
        model = engine.model
        mean = model.mean(rollout.observations).astype(float)
        std = np.exp(model.action_log_std.astype(float)) * 0.5
        density = -0.5 * ((rollout.actions - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
        np.testing.assert_allclose(rollout.log_probs, density.sum(1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(rollout.values, model.value(rollout.observations), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(rollout.agents, np.tile(np.arange(4), 8))
        assert (rollout.actions[:, 1:] == 0.0).any(), "clamped"
        np.testing.assert_allclose(sum(rollout.reward_parts.values()), rollout.rewards, atol=1e-6)
        assert rollout.policy_version == 0
    first, second = project.rollouts()
    np.testing.assert_array_equal(first.final_observations, second.observations[:4])


def test_the_same_seed_writes_the_same_rollouts(tmp_path):
    projects = [Project(tmp_path / name) for name in ("a", "b", "c")]
    for project, seed in zip(projects, (3, 3, 4), strict=True):
        project.publish(0)
        project.engine(rollouts=2, seed=seed).run()
    a, b, c = (np.concatenate([r.observations for r in project.rollouts()]) for project in projects)
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_it_waits_for_the_first_model_and_after_each_pause_for_another(project, monkeypatch):
    """Whenever the engine sleeps, this test does the work of the daemon."""
    naps = []

    def publish_at_every_third_nap(seconds):
        naps.append(engine.rollouts)
        if len(naps) % 3 == 0:
            project.publish(len(naps) // 3 - 1)

    monkeypatch.setattr(engine_module.time, "sleep", publish_at_every_third_nap)
    engine = project.engine(rollouts=6, pause_while_training=2, format="v2")
    engine.run()
    assert naps == [0] * 3 + [2] * 3 + [4] * 3
    assert [r.policy_version for r in project.rollouts()] == [0, 0, 1, 1, 2, 2]


def test_it_loads_a_new_model_between_two_rollouts(project, monkeypatch):
    project.publish(0)
    engine = project.engine(rollouts=3, format="v2")
    write = Engine._write

    def write_and_publish(self, *args, **kwargs):
        write(self, *args, **kwargs)
        project.publish(self.rollouts)

    monkeypatch.setattr(Engine, "_write", write_and_publish)
    engine.run()
    assert [r.policy_version for r in project.rollouts()] == [0, 1, 2]


def spoil_the_probe(document):
    document["probe"]["values"][0] += 1.0


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"change": spoil_the_probe}, "probe"),
        ({"sizes": (15, 16, 16, 3)}, "sizes"),
        ({"sizes": (12, 8, 8, 3)}, "12 observations"),
    ],
    ids=["probe", "hidden sizes", "observations"],
)
def test_a_model_that_does_not_fit_is_reported_and_the_old_weights_stay(project, capsys, bad, reason):
    project.publish(0)
    engine = project.engine(rollouts=1)
    engine.run()
    project.publish(1, **bad)
    engine.options = replace(engine.options, rollouts=2)
    engine.run()
    assert engine.model.policy_version == 0
    assert engine.rollouts == 2
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 1
    assert "keeping the old weights" in warnings[0]
    assert reason in warnings[0]


def test_with_own_weights_it_starts_without_waiting_and_ignores_version_0(project):
    engine = project.engine(rollouts=1, own_weights=True, format="v2")
    engine.run()
    own = engine.model
    project.publish(0, sizes=own.sizes)
    assert not engine._load_new_model()
    assert engine.model is own
    project.publish(1, sizes=own.sizes)
    assert engine._load_new_model()
    assert engine.model.policy_version == 1
    assert project.rollouts()[0].policy_version is None


@pytest.mark.parametrize("layout", ["v1", "v2", "v2-base64"])
def test_every_kth_experience_contains_a_nan(project, layout):
    project.publish(0)
    project.engine(rollouts=2, nan_every=5, format=layout).run()
    left_out = [32 - len(r.rewards) for r in project.rollouts()]
    assert left_out == [4, 4], "of experiences 4, 9, ... 29 and 34, 39, ... 59, every third has it in `value`"


# --- the program ------------------------------------------------------------------------------------


def start(project, *flags, **kwargs):
    command = [sys.executable, str(ROOT / "scripts" / "simulate_engine.py"), "--project", str(project.folder), *flags]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, cwd=project.folder, **pipes, **kwargs)


def test_the_program_reports_each_rollout_as_json_and_stops_after_the_last(project):
    flags = ("--own-weights", "--rollouts", "2", "--agents", "4", "--experiences", "64", "--json", "--utf16")
    process = start(project, *flags)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    reports = [json.loads(line) for line in out.splitlines()]
    assert [r["steps"] for r in reports] == [64, 64]
    assert sorted(r["rollout"] for r in reports) == sorted(p.name for p in project.exports.iterdir())
    assert err.splitlines()[-1] == "stopped after 2 rollouts, 128 steps"
    assert all(p.read_bytes().startswith(b"\xff\xfe") for p in project.exports.iterdir())


@needs_posix("SIGTERM and SIGINT of another process")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_ends_it_cleanly_without_a_partial_rollout(project, name):
    process = start(project, "--own-weights", "--slow", "5", "--experiences", "64", "--lifeline")
    while not (project.exports.is_dir() and any(project.exports.iterdir())):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[-1] == "stopped after 1 rollouts, 64 steps"
    assert len(project.rollouts()) == 1


def test_it_ends_when_stdin_closes_also_while_it_waits(project):
    process = start(project, "--lifeline")
    assert "waiting for a first model" in process.stdout.readline()
    process.stdin.close()
    process.stdin = None
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "stopped after 0 rollouts, 0 steps\n", "")


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--agents", "0"], "at least 1"),
        (["--noise-std", "nan"], "must be a number"),
        (["--track", "6"], "track is 6, but must be from 0 to 5"),
        (["--project", "nowhere"], "the project folder nowhere does not exist"),
        (["--critic-observations"], "--critic-observations needs --format v2 or v2-base64"),
    ],
    ids=["agents", "noise", "track", "project", "critics"],
)
def test_bad_arguments_are_reported_in_one_line(project, flags, reason):
    process = start(project, *flags)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert reason in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.parametrize("layout", ["v2", "v2-base64"])
def test_it_writes_what_only_critics_see(project, layout):
    engine = project.engine(rollouts=1, experiences=400, own_weights=True, format=layout, critic_observations=True)
    engine.run()
    [rollout] = project.rollouts()
    assert rollout.critic_observations.shape == (rollout.size, 6)
    last = engine.simulation.critic_observe()
    goes_on = ~(rollout.terminated | rollout.truncated)[-4:]
    assert goes_on.any()
    np.testing.assert_array_equal(rollout.final_critic_observations[goes_on], last[goes_on])
    assert np.isnan(rollout.final_critic_observations[~goes_on]).all()
