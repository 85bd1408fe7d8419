"""The expert acts with probability beta and labels every state; what is collected is on disk as it was."""

import numpy as np
import pytest

from tests.fakes.corridor import Corridor
from trainer.dagger.actions import read_action_spec
from trainer.dagger.environment.milestone_env import MilestoneEnv
from trainer.dagger.training.dataset import Dataset, RoundWriter, count_labels, round_folder
from trainer.dagger.training.episodes import (
    Episode,
    EpisodeSpec,
    EpisodeStatistics,
    collect_labels,
    run_expert,
    run_policy,
)
from trainer.envs.observations import ObservationSpec

LEFT, RIGHT = np.int64(0), np.int64(1)
SPEC = EpisodeSpec("A", None, 30)


class AlwaysRight:
    """Replaces the expert's process."""

    def __init__(self):
        self.requests = []

    def label(self, states):
        self.requests.append(len(states))
        return [RIGHT for _ in states]


def corridors(count):
    envs = [Corridor(milestones=[{"id": "A", "at": 5.0}]) for _ in range(count)]
    return [MilestoneEnv(env, ObservationSpec((3,), is_image=False), read_action_spec(env)) for env in envs]


def all_left(observations):
    return np.full(len(observations), LEFT)


def all_right(observations):
    return np.full(len(observations), RIGHT)


def collected(count, expert_acts, policy, seeds=(1, 2, 3)):
    expert = AlwaysRight()
    acts = [np.full(SPEC.max_steps, expert_acts) for _ in seeds]
    labelled = collect_labels(corridors(count), SPEC, seeds, acts, policy, expert)
    return sorted(labelled, key=lambda one: one.episode.number), expert


def test_labels_are_the_expert_s_if_the_policy_acts():
    """The policy walks left until it falls; the labels are right."""
    episodes, expert = collected(2, False, all_left)
    assert [one.episode.success for one in episodes] == [False] * 3
    for one in episodes:
        assert set(one.labels.tolist()) == {RIGHT}
        assert len(one.labels) == len(one.observations) == one.episode.steps
        assert one.observations[-1][0] < -1.5, "states that only the policy reaches"
    assert len(expert.requests) == 3, "one request for each episode, because no step waits for these labels"


def test_expert_acts_in_the_steps_that_are_marked():
    episodes, expert = collected(3, True, all_left)
    assert [one.episode.success for one in episodes] == [True] * 3
    assert max(expert.requests) == 3, "one request for each step of all environments"


def test_expert_and_policy_can_take_turns():
    """Right and left in turn do not make progress; the labels of all steps are right and in order."""
    acts = [np.arange(SPEC.max_steps) % 2 == 0]
    [one] = collect_labels(corridors(1), SPEC, [1], acts, all_left, AlwaysRight())
    assert one.episode == Episode(0, False, SPEC.max_steps)
    assert set(one.labels.tolist()) == {RIGHT}
    moves = np.diff(one.observations[:, 0])
    assert (moves[0::2] > 0.5).all()
    assert (moves[1::2] < -0.5).all()


def test_number_of_environments_does_not_change_the_result():
    one, many = collected(1, False, all_right)[0], collected(3, False, all_right)[0]
    for a, b in zip(one, many, strict=True):
        assert a.episode == b.episode
        np.testing.assert_array_equal(a.observations, b.observations)


def test_start_state_and_seed_decide_an_episode():
    [env] = corridors(1)
    done = run_expert(env, SPEC, 4, AlwaysRight())
    assert done.episode.success
    assert len(done.states) == len(done.labels) == done.episode.steps
    state = env.save_state()
    [from_state] = run_policy([env], EpisodeSpec("A", state, 30), [7], all_right)
    assert from_state.steps == 1
    assert [e.steps for e in run_policy(corridors(2), SPEC, [1, 2, 3], all_right)] == [
        e.steps for e in run_policy(corridors(2), SPEC, [1, 2, 3], all_right)
    ]


class Frames:
    """Counts the frames of one episode."""

    def __init__(self):
        self.count = 0

    def record(self, env):
        assert env.render().shape == (32, 48, 3)
        self.count += 1


def test_frames_of_the_chosen_episode_are_recorded():
    frames = Frames()
    episodes = {e.number: e for e in run_policy(corridors(2), SPEC, [1, 2, 3], all_right, frames={1: frames})}
    assert frames.count == episodes[1].steps + 1


def test_statistics_compare_success_then_steps():
    good, fast = EpisodeStatistics(1.0, 40.0, 0.0), EpisodeStatistics(1.0, 30.0, 0.0)
    assert good.is_better_than(None)
    assert fast.is_better_than(good)
    assert not good.is_better_than(good)
    assert good.is_better_than(EpisodeStatistics(0.5, 1.0, 0.0))
    assert not EpisodeStatistics(0.0, None, None).is_better_than(EpisodeStatistics(0.0, None, None))
    episodes = [Episode(0, True, 4), Episode(1, False, 99), Episode(2, True, 6)]
    assert EpisodeStatistics.of(episodes) == EpisodeStatistics(2 / 3, 5.0, 1.0)


def write_round(folder, number, *episodes):
    writer = RoundWriter(folder, number)
    for observations, labels in episodes:
        writer.add(observations, labels)
    return writer.finish()


def random_episodes(*lengths):
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(n, 3)).astype(np.float32), rng.integers(2, size=n)) for n in lengths]


@pytest.mark.parametrize("limit", [1 << 30, 0], ids=["in memory", "on disk"])
def test_dataset_has_what_was_written(tmp_path, monkeypatch, limit):
    monkeypatch.setattr("trainer.dagger.training.dataset.IN_MEMORY_BYTES", limit)
    episodes = random_episodes(4, 1, 7)
    assert write_round(tmp_path, 0, *episodes[:2]) == 5
    write_round(tmp_path, 1, episodes[0])
    assert write_round(tmp_path, 1, episodes[2]) == 7, "a round that is written again replaces the older attempt"
    data = Dataset(tmp_path, 2)
    assert len(data) == count_labels(tmp_path, 2) == 12
    assert (data.in_memory() is None) == (limit == 0)
    index = np.array([11, 0, 4, 5, 5])
    observations, labels = data.batch(index)
    np.testing.assert_array_equal(observations, np.concatenate([e[0] for e in episodes])[index])
    np.testing.assert_array_equal(labels, np.concatenate([e[1] for e in episodes])[index])


def test_damaged_episodes_do_not_count(tmp_path):
    write_round(tmp_path, 0, *random_episodes(4, 1, 7))
    (round_folder(tmp_path, 0) / "observations_0002.npy").unlink()
    labels = round_folder(tmp_path, 0) / "labels_0001.npy"
    labels.write_bytes(labels.read_bytes()[:-1])
    assert count_labels(tmp_path, 1) == 4


@pytest.mark.parametrize(("winerror", "counts"), [(8, True), (5, False)], ids=["cut off", "not permitted"])
def test_on_windows_a_file_that_was_cut_off_is_damaged_and_not_unreadable(tmp_path, monkeypatch, winerror, counts):
    """Windows reports the end of the file as too little memory."""
    write_round(tmp_path, 0, *random_episodes(4))

    def refuse(path, **_):
        error = OSError(12, "Not enough memory resources are available")
        error.winerror = winerror
        raise error

    monkeypatch.setattr(np, "load", refuse)
    if counts:
        assert count_labels(tmp_path, 1) == 0
    else:
        with pytest.raises(OSError, match="Not enough memory"):
            count_labels(tmp_path, 1)
