"""Which version 1 rollout continues which, against a game that knows what follows each file."""

from dataclasses import replace

import numpy as np
import pytest

from schemas.job import RolloutInput
from schemas.rollout.rollout import Recovered
from tests.trainer.toy import columns
from trainer.envs.racing.simulation import RacingSimulation
from trainer.rollouts.experiences import by_agent, concatenate
from trainer.rollouts.loading import LoadedRollout
from trainer.rollouts.meaning.continuation import find_continuations, with_next_states
from trainer.rollouts.meaning.time_limits import find_time_limit

AGENTS, TICKS = 6, 64


class Game:
    """The racing game, whose engine writes files of version 1; `after` keeps what follows each file [agents, O]."""

    def __init__(self, seed=0, time_limit=1000):
        self.env, self.rng = (
            RacingSimulation(AGENTS, seed=seed, tracks=1, time_limit=time_limit),
            np.random.default_rng(seed),
        )
        self.observations = self.env.reset(seed)
        self.action = np.zeros((AGENTS, 3))
        self.after = []

    def skip(self, ticks):
        for _ in range(ticks):
            self.action = 0.8 * self.action + 0.2 * self.rng.normal(size=self.action.shape)
            step = self.env.step(self.action)
            self.observations = step.observation
        return step

    def rollout(self, number, *, is_new=True, second=None):
        rows = []
        for _ in range(TICKS):
            before = self.observations
            step = self.skip(1)
            rows.append((before, step.reward, step.terminated | step.truncated))
        self.after.append(np.where(rows[-1][2][:, None], np.nan, step.next_observation))
        observations, rewards, done = map(np.concatenate, zip(*rows, strict=True))
        known = {"observations": observations, "rewards": rewards, "terminated": done, "states_bounds": False}
        agents = np.tile(np.arange(AGENTS, dtype=np.int32), TICKS)
        rollout = columns(TICKS * AGENTS, observation_size=15, agents=agents, **known)
        name = f"rollout_{number}_20260101_{number if second is None else second:06d}.json"
        return LoadedRollout(RolloutInput(name=name, sha256="", source="", cache="", is_new=is_new), rollout)


def test_the_next_states_are_those_of_the_game():
    game = Game()
    loaded = [game.rollout(number) for number in (9, 10, 11)]
    loaded = [loaded[1], loaded[2], loaded[0]]  # in another order
    found = find_continuations(loaded)
    assert {place: one.place for place, one in found.items()} == {2: 0, 0: 1}
    items = with_next_states(loaded, found)
    known = 0
    for place, after in ((2, game.after[0]), (0, game.after[1])):
        rollout = items[place].rollout
        np.testing.assert_array_equal(rollout.final_observations, after[rollout.final_agents])
        known += len(rollout.final_agents)
    assert known >= 2 * AGENTS - 3  # but for crashes, and for a ray that leaps over a corner
    assert items[1] is loaded[1]
    plain, linked = (concatenate([by_agent(item.rollout) for item in some]) for some in (loaded, items))
    assert linked.can_bootstrap_B.sum() == plain.can_bootstrap_B.sum() + known


def started_again(game):
    game.observations = game.env.reset(99)


def test_an_engine_that_started_again_or_left_out_time_does_not_continue_a_rollout():
    for between in (started_again, lambda game: game.skip(60)):
        game = Game()
        loaded = [game.rollout(1)]
        between(game)
        loaded.append(game.rollout(2))
        assert find_continuations(loaded) == {}


def test_two_clients_do_not_continue_each_other():
    games = Game(seed=1), Game(seed=2)
    assert find_continuations([games[number % 2].rollout(number) for number in range(6)]) == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda a, b: [a],
        lambda a, b: [a, renamed(b, "rollout_3_20260101_000002.json")],
        lambda a, b: [a, renamed(b, "rollout_2_20251231_000002.json")],
        lambda a, b: [a, renamed(b, "mine.json")],
        lambda a, b: [a, b, b],
        lambda a, b: [changed(a, states_bounds=True), b],
        lambda a, b: [a, changed(b, recovered=Recovered(6, 0.9))],
        lambda a, b: [a, changed(b, after_gap=np.ones(b.rollout.size, bool))],
        lambda a, b: [a, changed(b, agents=b.rollout.agents + 50)],
        lambda a, b: [changed(a, observations=np.zeros_like(a.rollout.observations)), b],
    ],
    ids=["alone", "missing", "older", "unnamed", "twice", "v2", "recovered", "gap", "agents", "constant"],
)
def test_without_evidence_nothing_continues(change, pair):
    assert find_continuations(list(pair))
    assert find_continuations(change(*pair)) == {}


@pytest.fixture(scope="module")
def pair():
    game = Game()
    return game.rollout(1), game.rollout(2)


def renamed(item, name):
    return replace(item, entry=item.entry.model_copy(update={"name": name}))


def changed(item, **columns):
    return replace(item, rollout=replace(item.rollout, **columns))


def test_an_agent_that_was_moved_between_the_files_gets_no_next_state():
    game = Game()
    loaded = [game.rollout(1), game.rollout(2)]
    moved = loaded[1].rollout.observations.copy()
    moved[2::AGENTS] += 5.0
    loaded[1] = changed(loaded[1], observations=moved)
    assert 2 not in find_continuations(loaded)[0].agents


def brake(game, ticks):
    for _ in range(ticks):
        step = game.env.step(np.tile([0.0, 0.0, 1.0], (AGENTS, 1)))
        game.observations = step.observation
    return step


def test_a_time_limit_that_is_longer_than_a_cycle_is_found_in_old_rollouts():
    game = Game(time_limit=70)
    game.skip = lambda ticks: brake(game, ticks)
    loaded = [game.rollout(number, is_new=number == 7) for number in range(8)]
    experiences = concatenate([by_agent(item.rollout) for item in loaded])
    assert find_time_limit(loaded, experiences) is None
    limit = find_time_limit(loaded, experiences, find_continuations(loaded))
    assert limit is not None
    assert limit.steps == 70
