"""Online training with a mirror: built in, declared, missing or wrong."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.errors import ConfigError
from schemas.settings.mirror import MirrorSettings
from trainer.common.rng import numpy_rng_for
from trainer.online.actor import Actor
from trainer.online.collector import Collector
from trainer.online.config import EnvSettings, OnlineSettings, TrainSettings, read_config
from trainer.online.environments import make_env, mirror_of
from trainer.online.learner import OnlineLearner, ScheduledValues


def learned(env_id, steps=64, **mirror):
    settings = OnlineSettings(
        env=EnvSettings(id=env_id), train=TrainSettings(mirror=True, epochs=1), mirror=MirrorSettings(**mirror)
    )
    env = make_env(settings, 8)
    learner = OnlineLearner(env.contract, settings)
    collector, batches = Collector(env, 0), []
    build = learner._build_batch
    learner._build_batch = lambda experiences: batches.append(build(experiences)) or batches[-1]
    for iteration in range(2):
        actor = Actor.of(learner.network, learner.normalisers, learner.contract)
        experiences = collector.collect(actor, steps, numpy_rng_for(0, "act", iteration))
        losses = learner.learn(experiences, iteration, ScheduledValues.at(0, settings))
        assert np.isfinite(list(losses.values())).all()
    env.close()
    return learner, experiences, [batch for batch, _ in batches]


def test_racing_has_a_mirror_of_its_own():
    learner, experiences, batches = learned("racing")
    assert [batch.size for batch in batches] == [2 * experiences.size] * 2
    second = batches[1]
    half = experiences.size
    np.testing.assert_allclose(
        learner.mirror.observations(second.observation_BO[:half].numpy()),
        second.observation_BO[half:].numpy(),
        atol=1e-4,
    )
    assert second.importance_weight_B.mean().item() == pytest.approx(1.0, abs=1e-5)
    weight = second.importance_weight_B.double().numpy()
    ratio = np.exp((second.logp_B[half:] - second.logp_B[:half]).double().numpy())
    np.testing.assert_allclose(weight[half:] / weight[:half], np.minimum(ratio, 1.0), rtol=1e-3)
    assert learner.notes == []


def test_a_declared_mirror_is_used_for_any_environment():
    pytest.importorskip("gymnasium")
    learner, experiences, batches = learned("CartPole-v1", observation_signs=(0, 1, 2, 3), choice_pairs=((0, 1),))
    assert batches[1].size == 2 * experiences.size
    assert learner.notes == []


def test_a_declared_mirror_that_is_wrong_is_noted():
    pytest.importorskip("gymnasium")
    learner, _, _ = learned("CartPole-v1", steps=256, observation_signs=(0, 1, 2, 3))
    assert learner.notes
    for note in learner.notes:
        assert note.startswith("[mirror] does not fit the environment: with it, the prediction error is larger for")
        assert note.endswith("[W_MIRROR]")


def test_an_environment_without_a_mirror_is_refused_with_a_remedy():
    settings = OnlineSettings(env=EnvSettings(id="CartPole-v1"), train=TrainSettings(mirror=True))
    contract = OnlineLearner(
        make_env(OnlineSettings(env=EnvSettings(id="racing")), 1).contract, OnlineSettings()
    ).contract
    with pytest.raises(ConfigError, match=r"CartPole-v1 does not have a mirror of its own -> describe its mirror in"):
        mirror_of(settings, contract)
    wrong = settings.model_copy(update={"mirror": MirrorSettings(observation_signs=(99,))})
    with pytest.raises(ConfigError, match=r"mirror\.observation_signs names observation 99, but they are 0 to 14"):
        mirror_of(wrong, contract)
    assert mirror_of(OnlineSettings(), contract) is None


def test_a_config_can_describe_a_mirror(tmp_path):
    path = tmp_path / "online.toml"
    path.write_text("[train]\nmirror = true\n[mirror]\nobservation_signs = [0, 1]\nchoice_pairs = [[0, 1]]\n")
    settings = read_config(path)
    assert settings.train.mirror
    assert settings.mirror.choice_pairs == ((0, 1),)
