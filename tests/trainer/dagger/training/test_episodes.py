"""Who drives is a coin, who is right is not; and what is collected lies on disk as it was."""

import numpy as np
import pytest

from tests.fakes.corridor import Corridor
from trainer.dagger.actions import actions_of
from trainer.dagger.environment import MilestoneEnv, ObservationSpec
from trainer.dagger.training.dataset import Dataset, write_round
from trainer.dagger.training.episodes import Episode, EpisodeStatistics, Task, collect, demonstrate, play, score_of

LEFT, RIGHT = np.int64(0), np.int64(1)


class AlwaysRight:
    """Stands in for the expert's process."""

    def __init__(self):
        self.messages = []

    def label(self, states):
        self.messages.append(len(states))
        return [RIGHT for _ in states]


def worlds(count):
    envs = [Corridor(milestones=[{"id": "A", "at": 5.0}]) for _ in range(count)]
    return [MilestoneEnv(env, ObservationSpec((3,), pixels=False), actions_of(env)) for env in envs]


def all_left(observations):
    return np.full(len(observations), LEFT)


def all_right(observations):
    return np.full(len(observations), RIGHT)


TASK = Task("A", None, 30)


def collected(count, coin, act, seeds=(1, 2, 3)):
    expert = AlwaysRight()
    coins = [np.full(TASK.max_steps, coin) for _ in seeds]
    return sorted(collect(worlds(count), TASK, seeds, coins, act, expert), key=lambda c: c.episode.number), expert


def test_the_policy_drives_and_the_expert_labels():
    """The policy walks left until it falls; what is stored says right."""
    episodes, expert = collected(2, False, all_left)
    assert [c.episode.success for c in episodes] == [False] * 3
    for c in episodes:
        assert set(c.labels.tolist()) == {RIGHT}
        assert len(c.labels) == len(c.observations) == c.episode.steps
        assert c.observations[-1][0] < -1.5, "states that only the policy gets to"
    assert len(expert.messages) == 3, "one message an episode: labels that nobody waits for wait"


def test_the_expert_drives_where_the_coin_says_so():
    episodes, expert = collected(3, True, all_left)
    assert [c.episode.success for c in episodes] == [True] * 3
    assert max(expert.messages) == 3, "one message a step for all worlds"


def test_how_many_worlds_play_changes_nothing():
    one, many = collected(1, False, all_right)[0], collected(3, False, all_right)[0]
    for a, b in zip(one, many, strict=True):
        assert a.episode == b.episode
        np.testing.assert_array_equal(a.observations, b.observations)


def test_a_start_state_and_a_seed_decide_an_episode():
    [world] = worlds(1)
    episode, state = demonstrate(world, TASK, 4, AlwaysRight(), None)
    assert episode.success
    further = Task("A", state, 30)
    [there] = play([world], further, [7], all_right)
    assert there.steps == 1
    assert [e.steps for e in play(worlds(2), TASK, [1, 2, 3], all_right)] == [
        e.steps for e in play(worlds(2), TASK, [1, 2, 3], all_right)
    ]


def test_scores_go_by_success_then_by_steps():
    good, fast = EpisodeStatistics(1.0, 40.0, 0.0), EpisodeStatistics(1.0, 30.0, 0.0)
    assert good.better_than(None)
    assert fast.better_than(good)
    assert not good.better_than(good)
    assert good.better_than(EpisodeStatistics(0.5, 1.0, 0.0))
    assert not EpisodeStatistics(0.0, None, None).better_than(EpisodeStatistics(0.0, None, None))
    assert score_of([Episode(0, True, 4), Episode(1, False, 99), Episode(2, True, 6)]) == EpisodeStatistics(
        2 / 3, 5.0, 1.0
    )


@pytest.mark.parametrize("limit", [1 << 30, 0], ids=["in memory", "on disk"])
def test_the_data_is_what_was_written(tmp_path, monkeypatch, limit):
    monkeypatch.setattr("trainer.dagger.training.dataset.IN_MEMORY_BYTES", limit)
    rng = np.random.default_rng(0)
    parts = [(rng.normal(size=(n, 3)).astype(np.float32), rng.integers(2, size=n)) for n in (4, 1, 7)]
    assert write_round(tmp_path, 0, parts[:2]) == 5
    write_round(tmp_path, 1, [parts[0]])
    assert write_round(tmp_path, 1, parts[2:]) == 7, "a round that is written again replaces the old one"
    data = Dataset(tmp_path, 2)
    assert (data.in_memory() is None) == (limit == 0)
    index = np.array([11, 0, 4, 5, 5])
    observations, labels = data.take(index)
    np.testing.assert_array_equal(observations, np.concatenate([p[0] for p in parts])[index])
    np.testing.assert_array_equal(labels, np.concatenate([p[1] for p in parts])[index])
