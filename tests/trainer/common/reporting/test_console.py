"""The lines of a training on a console."""

import io

import pytest

from schemas.job import EpochDone
from trainer.common.reporting.console import ConsoleReporter

LINES = {
    "ppo": (
        {"value_loss": 0.25, "policy_loss": None, "entropy": 1.5, "approx_kl": 0.01, "grad_norm": 3.0},
        "value_loss 0.25, policy_loss not finite, entropy 1.5, approx_kl 0.01",
    ),
    "td3": (
        {"value_loss": 0.25, "value_loss_error": 0.1, "critic_loss": 0.5, "policy_loss": -1.0},
        "value_loss 0.25, policy_loss -1, critic_loss 0.5",
    ),
}


@pytest.mark.parametrize(("losses", "expected"), LINES.values(), ids=LINES)
def test_an_epoch_is_a_line_with_the_losses_that_its_algorithm_has(losses, expected):
    out = io.StringIO()
    ConsoleReporter(out).send(EpochDone(epoch=2, epochs=3, losses=losses, score=0.125, seconds=1.0))
    assert out.getvalue() == f"epoch 2/3: {expected}, score 0.125 (1.00 s)\n"
