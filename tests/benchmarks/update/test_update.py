"""All updates use the same training set, and the floor is the arithmetic of the networks."""

from __future__ import annotations

import argparse

import pytest
import torch

from benchmarks.update import eager_ppo as eager
from benchmarks.update import matmul_floor as products
from benchmarks.update import update
from schemas.settings.models import TrainerSettings

SIZES, OUTPUTS = (15, 128, 128), (3, 1)
CPU = torch.device("cpu")


def test_the_arithmetic_is_counted_forward_and_backward():
    """Forward and the weights' gradients of every layer, the inputs' gradients of every layer but the first."""
    layers = [15 * 128, 128 * 128, 128 * 3]
    assert products.flop((15, 128, 128), (3,)) == 2 * (3 * sum(layers) - layers[0])
    assert products.flop(SIZES, OUTPUTS) * 204_800 == pytest.approx(44e9, rel=0.01)


def test_both_forms_contain_all_products():
    """Three layers of two networks: 3 + 3 + 2 products each; stacked, half as many."""
    assert len(products.one_by_one(SIZES, OUTPUTS, 64, CPU)) == 16
    assert len(products.stacked(SIZES, OUTPUTS, 64, CPU)) == 8
    for form in (products.one_by_one, products.stacked):
        assert all(product() is not None for product in form(SIZES, OUTPUTS, 8, CPU))


def test_the_plain_loop_learns():
    """Actions above the mean have positive advantages, those below negative ones: the mean must rise."""
    torch.manual_seed(0)
    settings = TrainerSettings(epochs=4, batch_size=32, learning_rate=1e-2)
    agent = eager.Agent(4, (16,), 1)
    observations, actions = torch.randn(256, 4), torch.randn(256, 1)
    before = agent.actor_mean(observations).mean().item()
    log_probs = agent.evaluate(observations, actions)[0].detach()
    storage = eager.Storage(observations, actions, log_probs, actions[:, 0].sign(), torch.zeros(256))
    kl = eager.update(agent, eager.make_optimizer(agent, settings), storage, settings)
    assert kl.isfinite()
    assert agent.actor_mean(observations).mean().item() > before + 0.05


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_all_contenders_alternate_on_the_same_training_set():
    pytest.importorskip("stable_baselines3")
    parser = argparse.ArgumentParser()
    update.add_flags(parser)
    words = ["--rounds", "2", "--samples", "1024", "--epochs", "1", "--batches", "64", "--devices", "cpu"]
    section = update.measure(parser.parse_args(words), lambda line: None)
    assert len(section.figures) in {4, 5}  # a machine may have one core
    assert all(len(figure.values) == 2 and min(figure.values) > 0 for figure in section.figures)
    ours, sb3, loop = section.figures[:3]
    assert (ours.name, sb3.name[:17], loop.name[:16]) == ("ours, batch 64", "Stable-Baselines3", "plain eager loop")
    assert ours.floor == sb3.floor == loop.floor != ""
    assert [claim.bound for claim in section.claims] == [5.0, 4.0]
    assert all(claim.measured is not None for claim in section.claims)
