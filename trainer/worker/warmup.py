"""What a spare trainer does before it has a job, so that the job's first step is as fast as its second."""

from __future__ import annotations

import numpy.ma  # noqa: F401  numpy imports it at the first median
import torch

from schemas.contract import ContinuousActions, PolicyContract
from trainer.common import threads
from trainer.networks.distributions import distribution_for
from trainer.networks.network import Shape, build_network
from trainer.ppo.loss import LossConfig, ppo_loss
from trainer.ppo.make_updater import make_updater
from trainer.ppo.update import UpdateConfig
from trainer.rollouts.batch import Batch


def warm_up() -> None:
    """Take a few steps of a small made-up training: loads the kernels and autograd's thread."""
    threads.set_thread_count(1)  # until a job sets it: the first product, and small ones, are faster
    contract = PolicyContract(observation_size=4, action_space=ContinuousActions.named(("steer",)))
    head = distribution_for(contract.action_space)
    network = build_network(Shape.of(contract, (8, 8)), custom="", seed=0)
    zeros, plan = torch.zeros(8), _plan()
    batch = Batch(
        observation_BO=torch.zeros(8, 4),
        action_BC=head.encode(torch.zeros(8, 1), torch.ones(8)),
        logp_B=zeros,
        advantage_B=zeros,
        target_B=zeros,
        value_B=zeros,
        importance_weight_B=zeros,
    )
    updater = make_updater(
        network,
        head,
        ppo_loss,
        plan,
        batch,
        optimizer_state={},
        device=torch.device("cpu"),
        notify=lambda code, message: None,  # the job sends it
    )
    for epoch in range(3):
        updater.epoch(epoch)


def _plan() -> UpdateConfig:
    loss = LossConfig(clip_range=0.2, value_clip_range=None, value_coef=0.5, entropy_coef=0.0)
    return UpdateConfig(
        epochs=1,
        batch_size=8,
        learning_rate=1e-3,
        max_grad_norm=0.5,
        target_kl=None,
        loss=loss,
        seed=0,
        cycle=0,
        bfloat16=False,
        threads=0,
    )
