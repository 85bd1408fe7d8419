"""Recorded play becomes labels: rollouts of people of both versions, and Minari datasets."""

import json
import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium import spaces

from schemas.errors import ConfigError, HotlapError
from schemas.settings.models import AgentSettings
from tests.fakes.walk import job_for
from trainer import load_policy
from trainer.dagger.actions import ActionSpec, read_action_spec
from trainer.dagger.demonstrations.cli import main
from trainer.dagger.demonstrations.clone import find_pairs
from trainer.dagger.demonstrations.reading import DemonstrationError, digest, read_pairs
from trainer.dagger.messages import Message
from trainer.dagger.training.milestone import run_milestone
from trainer.envs.observations import ObservationSpec

VECTORS = ObservationSpec((2,), is_image=False)
CHOICES = ActionSpec("discrete", ("LEFT", "RIGHT"))


def version_2(observations, actions, space, source="human"):
    n = len(observations)
    return {
        "schema": "hotlap.rollout/2", "source": source, "action_space": space, "observations": observations,
        "actions": actions, "rewards": [0.0] * n, "terminated": [False] * n,
    }  # fmt: skip


def version_1(states, action_of, source="human"):
    rows = [{"state": state, "action": action_of(state), "reward": 0.0, "done": False} for state in states]
    return {"source": source, "experiences": rows, "num_experiences": len(rows), "timestamp": "2026.01.01-10.00.00"}


def write(folder, **documents):
    folder.mkdir(exist_ok=True)
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    return folder


def walks(count=12):
    """Return what a person does who walks to the right from square 0 to 5, several times."""
    states = [[x / 10, 1.0] for _ in range(count) for x in range(6)]
    return version_2(states, [1] * len(states), {"type": "discrete", "n": 2})


def test_rollouts_of_people_of_both_versions_become_labels(tmp_path):
    steering = {"type": "continuous", "names": ["steer", "gas"], "low": [-1.0, 0.0], "high": [1.0, 1.0]}
    states = [[0.5, 1.0], [-0.5, 1.0]]
    write(
        tmp_path,
        one=version_1(states, lambda state: {"gas": 0.25, "steer": state[0]}),
        two=version_2(states, [[0.1, 0.2], [0.3, 0.4]], steering),
        three=version_2(states, [[0.0, 0.0]] * 2, steering, source="policy"),
    )
    actions = ActionSpec("continuous", ("steer", "gas"), (-1.0, 0.0), (1.0, 1.0))
    pairs = read_pairs(tmp_path, VECTORS, actions)
    assert [observations.tolist() for observations, _ in pairs] == [states, states]
    np.testing.assert_allclose(pairs[0][1], [[0.5, 0.25], [-0.5, 0.25]])
    np.testing.assert_allclose(pairs[1][1], [[0.1, 0.2], [0.3, 0.4]], rtol=1e-6)


def test_choices_and_buttons_of_the_environment_are_kept(tmp_path):
    write(tmp_path / "choices", one=version_2([[0.0, 1.0]] * 2, [0, 1], {"type": "discrete", "n": 2}))
    from_three = ActionSpec("discrete", ("A", "B"), first=3)
    assert [labels.tolist() for _, labels in read_pairs(tmp_path / "choices", VECTORS, from_three)] == [[0, 1]]
    space = {"type": "continuous", "names": ["A", "B"], "low": [-1.0, -1.0], "high": [1.0, 1.0]}
    write(tmp_path / "buttons", one=version_2([[0.0, 1.0]], [[1.0, -1.0]], space))
    [(_, labels)] = read_pairs(tmp_path / "buttons", VECTORS, ActionSpec("multi_binary", ("A", "B")))
    assert labels.tolist() == [[1, 0]]


BAD = {
    "nothing": ({}, "contains no rollout of a person"),
    "only policies": ({"one": {**walks(1), "source": "policy"}}, "one.json: its source is policy, not \"human\""),
    "no source": ({"one": {k: v for k, v in walks(1).items() if k != "source"}}, "its source is not given"),
    "another size": (
        {"one": version_2([[0.0] * 3], [1], {"type": "discrete", "n": 2})}, "one.json: ",
    ),
    "other choices": ({"one": version_2([[0.0, 1.0]], [4], {"type": "discrete", "n": 9})}, "one.json: "),
    "torn": ({"one": "text"}, "one.json"),
}  # fmt: skip


@pytest.mark.parametrize(("documents", "message"), BAD.values(), ids=BAD)
def test_demonstrations_that_cannot_be_used_name_the_file(tmp_path, documents, message):
    with pytest.raises(HotlapError) as caught:
        read_pairs(write(tmp_path / "play", **documents), VECTORS, CHOICES)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_clone_writes_a_model_that_does_what_people_did(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    states = [[float(x), 0.5] for x in np.linspace(-1, 1, 60)]
    play = write(
        tmp_path / "play", one=version_1(states, lambda s: {"steer": -0.8 * s[0], "throttle": 0.5, "brake": 0.0})
    )
    write(play, other=version_1(states, lambda s: {"steer": 1.0, "throttle": 1.0, "brake": 1.0}, source="policy"))
    command = ["--demonstrations", str(play), "--steps", "800", "--hidden-dim", "32", "--learning-rate", "0.003"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert 'left out: other.json: its source is policy, not "human"' in shown
    assert "54 labels, loss " in shown
    assert ", on 6 other steps it differs by 0." in shown
    policy = load_policy(tmp_path / "cloned_model.json")
    means = policy.mean(np.array([[-0.6, 0.5], [0.6, 0.5]], np.float32))
    np.testing.assert_allclose(means[:, 0], [0.48, -0.48], atol=0.15)
    assert main([*command, "--out", str(tmp_path / "cloned_model.json")]) == 0, "its own model may be replaced"
    (tmp_path / "other.json").write_text("{}")
    assert main([*command, "--out", str(tmp_path / "other.json")]) == 78
    assert "other.json exists and is not a model of Hotlap -> use another --out" in capsys.readouterr().err
    assert (tmp_path / "other.json").read_text() == "{}"


def train(folder, **options):
    events = []
    job = job_for(folder, **options)
    job = job.model_copy(update={"demonstrations": str(write(folder / "play", one=walks()))})
    with (folder / "log").open("ab") as log:
        result = run_milestone(job, events.append, log)
    rounds = json.loads((folder / "out" / "milestone_details" / "DOOR.json").read_text())["rounds"]
    return result, rounds, [event.text for event in events if isinstance(event, Message)]


def test_demonstrations_are_the_first_round(tmp_path):
    result, rounds, shown = train(tmp_path, dagger_iterations=2)
    assert (result.status, shown) == ("completed", [])
    assert [r["collected_success_rate"] for r in rounds] == [None, 1.0]
    assert rounds[0]["labels"] == 72
    assert rounds[1]["labels"] > 72


def test_without_an_expert_the_policy_is_cloned(tmp_path):
    job_for(tmp_path)
    (tmp_path / "experts" / "DOOR.py").unlink()
    monkey = job_for(tmp_path, train_steps_per_iter=200, learning_rate=0.01)
    (tmp_path / "experts" / "DOOR.py").unlink()
    job = monkey.model_copy(update={"demonstrations": str(write(tmp_path / "play", one=walks()))})
    events = []
    with (tmp_path / "log").open("ab") as log:
        result = run_milestone(job, events.append, log)
    assert (result.status, result.reason, result.dagger_final_success_rate) == ("completed", "", 1.0)
    assert result.expert_success_rate is None
    [line] = [event.text for event in events if isinstance(event, Message)]
    assert line == "DOOR: has no expert: its policy is cloned from the demonstrations alone"
    assert (tmp_path / "states" / "DOOR_completed.state").is_file(), "the next milestone starts from it"


class FakeMinari(types.ModuleType):
    """Has the part of Minari's interface that is used."""

    observation_space = spaces.Dict({"where": spaces.Discrete(3), "x": spaces.Box(-1, 1, (2,))})
    action_space = spaces.Discrete(2, start=1)

    def MinariDataset(self, path):
        assert (path / "metadata.json").is_file()
        return self

    def iterate_episodes(self):
        for steps in (3, 2):
            observations = {"where": np.arange(steps + 1) % 3, "x": np.zeros((steps + 1, 2), np.float32)}
            yield SimpleNamespace(observations=observations, actions=np.full(steps, 2), rewards=np.zeros(steps))


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "human-v0"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "metadata.json").write_text("{}")
    return folder


def test_a_minari_dataset_becomes_labels(dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", FakeMinari("minari"))
    spec, actions, pairs, notes = find_pairs(dataset, AgentSettings())
    assert (spec.shape, notes) == ((5,), ("observations: a Dict space, as 5 numbers",))
    assert actions == read_action_spec(SimpleNamespace(action_space=FakeMinari.action_space))
    assert [observations.tolist() for observations, _ in pairs][1] == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]]
    assert [labels.tolist() for _, labels in pairs] == [[1, 1, 1], [1, 1]]
    assert len(digest(dataset)) == 64


def test_without_the_package_a_dataset_names_the_extra(dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ConfigError, match=r"is a Minari dataset, and minari is not installed -> .*minari"):
        find_pairs(dataset, AgentSettings())


def test_a_dataset_of_another_environment_is_refused(dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", FakeMinari("minari"))
    with pytest.raises(DemonstrationError, match="episode 0 has an observation that is not an array of numbers"):
        read_pairs(dataset, VECTORS, CHOICES)
