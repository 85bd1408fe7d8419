"""TD3 and its sibling learn from mirror images as well."""

import numpy as np
import pytest

from schemas.mirror import Mirror
from tests.trainer.rollouts.symmetry.test_mirrored import CHOOSING, DRIVING
from tests.trainer.toy import CHOICE, STEER, Bandit
from tests.trainer.worker.test_off_policy import small
from trainer.off_policy.learner import OffPolicyLearner


@pytest.mark.parametrize(("space", "declared"), [(STEER, DRIVING), (CHOICE, CHOOSING)], ids=["continuous", "discrete"])
def test_the_replay_data_contain_each_transition_and_its_mirror_image(tmp_path, monkeypatch, space, declared):
    learners = []

    def spy(*arguments):
        learners.append(OffPolicyLearner(*arguments))
        return learners[-1]

    monkeypatch.setattr("trainer.worker.train.OffPolicyLearner", spy)
    env = Bandit(space=space, agents=16)
    loop = small(env, tmp_path, return_steps=1)
    rollout = env.play(loop.start(), 40)
    loop.train(rollout, mirror=declared)
    assert "W_MIRROR" not in loop.reporter.codes()
    assert loop.result.experiences == rollout.size
    learner = learners[0]
    replay, mirror = learner._replay, Mirror.of(declared, rollout.contract)
    half = len(replay.row_N) // 2
    assert half == rollout.size
    first, image = (replay.batch(replay.row_N.new_tensor(range(*part))) for part in ((0, half), (half, 2 * half)))
    np.testing.assert_array_equal(first.reward_B, image.reward_B)
    observations = learner.normalisers.observations
    raw = [batch.input_BI[:, :4].double() * observations.scale_O + observations.mean_O for batch in (first, image)]
    np.testing.assert_allclose(mirror.observations(raw[0].numpy()), raw[1].numpy(), atol=1e-5)
    if space is CHOICE:
        np.testing.assert_array_equal(mirror.output_index_K[first.choice_B], image.choice_B)
    else:
        np.testing.assert_array_equal(mirror.actions(first.input_BI[:, 4:].numpy()), image.input_BI[:, 4:].numpy())
    np.testing.assert_allclose(observations.mean_O, mirror.observations(observations.mean_O.numpy()), atol=1e-12)
    assert np.array_equal(replay.is_held_out_N[:half], replay.is_held_out_N[half:])


def test_a_policy_learns_from_experiences_and_their_mirror_images(tmp_path):
    env = Bandit(space=STEER, agents=16)
    loop = small(env, tmp_path, updates_per_experience=0.5)
    model = loop.start()
    before = float(env.play(model, 60).rewards.mean())
    for _ in range(3):
        model = loop.train(env.play(model, 40), mirror=DRIVING)
    assert float(env.play(model, 60).rewards.mean()) > before + 0.3
