"""The loss against an independent formula in float64, and its gradient at the clip; the order of minibatches."""

import numpy as np
import pytest
import torch

from trainer.common.rng import rng_for
from trainer.ppo.loss import Evaluation, LossConfig, ppo_loss, value_error
from trainer.rollouts.batch import Batch, PackedSet, minibatch_sizes

CONFIG = LossConfig(clip_range=0.2, value_clip_range=None, value_coef=0.5, entropy_coef=0.01)


def batch(n=1, **given):
    zeros = torch.zeros(n)
    known = {"observation_BO": torch.zeros(n, 2), "action_BC": torch.zeros(n, 1), "logp_B": zeros, "value_B": zeros}
    others = {"advantage_B": zeros, "target_B": zeros, "importance_weight_B": torch.ones(n)}
    return Batch(**(known | others | given))


def gradient_at(ratio, advantage, weight=1.0):
    """Return the gradient of the policy loss by the log likelihood of one experience."""
    logp = torch.tensor([float(np.log(ratio))], requires_grad=True)
    one = batch(advantage_B=torch.tensor([advantage]), importance_weight_B=torch.tensor([weight]))
    ppo_loss(one, Evaluation(logp, torch.zeros(1), torch.zeros(())), CONFIG).total.backward()
    return logp.grad.item()


@pytest.mark.parametrize(("ratio", "advantage"), [(1.3, 1.0), (0.7, -1.0)])
def test_beyond_the_clip_the_gradient_is_zero_if_the_objective_would_rise(ratio, advantage):
    assert gradient_at(ratio, advantage) == 0.0


@pytest.mark.parametrize(("ratio", "advantage"), [(1.3, -1.0), (0.7, 1.0)])
def test_beyond_the_clip_the_gradient_points_back_if_the_objective_has_fallen(ratio, advantage):
    assert gradient_at(ratio, advantage) == pytest.approx(-ratio * advantage)


@pytest.mark.parametrize("advantage", [2.0, -2.0])
def test_inside_the_clip_the_gradient_is_the_policy_gradient_times_the_importance_weight(advantage):
    assert gradient_at(1.0, advantage, weight=0.25) == pytest.approx(-0.25 * advantage)


def test_the_terms_are_those_of_the_formula_in_float64():
    rng = np.random.default_rng(0)
    n = 200
    old, new, adv, target, value, weight = rng.normal(scale=0.3, size=(6, n))
    weight = np.abs(weight)
    tensors = {"logp_B": old, "advantage_B": adv, "target_B": target, "importance_weight_B": weight}
    minibatch = batch(n, **{k: torch.tensor(v, dtype=torch.float32) for k, v in tensors.items()})
    terms = ppo_loss(
        minibatch, Evaluation(torch.tensor(new).float(), torch.tensor(value).float(), torch.tensor(1.5)), CONFIG
    )
    ratio = np.exp(new - old)
    expected = []
    for i in range(n):
        options = [ratio[i] * adv[i], min(max(ratio[i], 0.8), 1.2) * adv[i]]
        expected.append(weight[i] * min(options))
    policy = -np.mean(expected)
    error = np.mean((value - target) ** 2)
    assert float(terms.policy_loss) == pytest.approx(policy, abs=1e-6)
    assert float(terms.value_loss) == pytest.approx(error, rel=1e-5)
    clipped = np.mean(np.abs(ratio - 1) > 0.2)
    assert float(terms.clip_fraction) == pytest.approx(clipped)
    assert float(terms.total) == pytest.approx(policy + 0.5 * error - 0.01 * (1 - clipped) * 1.5, abs=1e-6)
    assert float(terms.approx_kl) == pytest.approx(np.mean(weight * (ratio - 1 - np.log(ratio))), abs=1e-6)


def test_a_clipped_value_has_no_gradient_away_from_the_parents_value_but_one_back_to_it():
    for target, moves in ((2.0, False), (-2.0, True)):
        value = torch.tensor([0.5], requires_grad=True)
        one = batch(target_B=torch.tensor([target]), value_B=torch.tensor([0.0]))
        value_error(one, value, 0.2).backward()
        assert (value.grad.item() != 0.0) is moves


def test_only_the_total_carries_a_gradient():
    new = Evaluation(torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True), torch.zeros(()))
    terms = ppo_loss(batch(), new, CONFIG)
    assert [name for name, term in terms._asdict().items() if term.requires_grad] == ["total"]


@pytest.mark.parametrize(
    ("n", "size"), [(64, 64), (65, 64), (95, 64), (96, 64), (97, 64), (1, 64), (18400, 64), (5, 2)]
)
def test_minibatches_contain_every_experience_and_have_about_equal_sizes(n, size):
    sizes = minibatch_sizes(n, size)
    assert sum(sizes) == n
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= max(1.5 * size, 1)


def test_an_epoch_contains_every_experience_once_in_a_new_order():
    n = 100
    numbers = torch.arange(n).float()
    data = PackedSet(batch(n, logp_B=numbers, target_B=numbers * 2), torch.device("cpu"))
    orders = []
    for epoch in (1, 2):
        batches = [(b.logp_B.tolist(), b.target_B.tolist()) for b in data.shuffled(32, rng=rng_for(0, "t", epoch))]
        logp = [x for rows, _ in batches for x in rows]
        assert sorted(logp) == numbers.tolist()
        assert [2 * x for x in logp] == [x for _, rows in batches for x in rows]
        orders.append(logp)
    assert orders[0] != orders[1]
