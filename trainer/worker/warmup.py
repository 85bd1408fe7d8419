"""Do a few gradient steps on artificial data before the job arrives, so that its first step is as fast as others."""

from __future__ import annotations

import numpy.ma  # noqa: F401  numpy imports it at the first median
import torch

from schemas.contract import ContinuousActions, PolicyContract
from schemas.job import Job
from schemas.settings.models import TrainerSettings
from trainer.common import device as devices
from trainer.common import threads
from trainer.networks.distributions import distribution_for
from trainer.networks.network import Shape, build_network, load_symbol
from trainer.ppo.loss import Loss, LossConfig, ppo_loss
from trainer.ppo.make_updater import make_updater
from trainer.ppo.update import UpdateConfig
from trainer.rollouts.batch import Batch

_SIZE = 8  #: experiences
_EPOCHS = 3


def warm_up() -> None:
    """Load torch's kernels and the optimizer with a small network on the CPU."""
    threads.set_thread_count(1)  # until a job sets it: small products are faster with one thread
    contract = PolicyContract(observation_size=4, action_space=ContinuousActions.named(("steer",)))
    _take_steps(contract, (8, 8), TrainerSettings(), torch.device("cpu"))


def warm_up_for(job: Job) -> None:
    """Load a custom network or loss and the GPU, as this job's settings require. The job itself reports errors."""
    try:
        for device in devices.candidates(job.settings):
            _take_steps(job.contract, job.hidden_sizes, job.settings, device)
    except Exception:  # noqa: BLE001  user code can raise anything, and the data are artificial
        return


def _take_steps(
    contract: PolicyContract, hidden_sizes: tuple[int, ...], settings: TrainerSettings, device: torch.device
) -> None:
    distribution = distribution_for(contract.action_space)
    loss: Loss = load_symbol(settings.loss, "loss") if settings.loss else ppo_loss
    network = build_network(Shape.of(contract, hidden_sizes), custom=settings.network, seed=0)
    zeros = torch.zeros(_SIZE)
    actions_BA = torch.zeros(_SIZE, contract.action_space.width)
    batch = Batch(
        observation_BO=torch.zeros(_SIZE, contract.observation_size),
        action_BC=distribution.encode(actions_BA, torch.ones(_SIZE)),
        logp_B=zeros,
        advantage_B=zeros,
        target_B=zeros,
        value_B=zeros,
        importance_weight_B=zeros,
    )
    config = UpdateConfig(
        epochs=_EPOCHS,
        batch_size=_SIZE,
        learning_rate=1e-3,
        max_grad_norm=0.5,
        target_kl=None,
        loss=LossConfig(clip_range=0.2, value_clip_range=None, value_coef=0.5, entropy_coef=0.0),
        seed=0,
        cycle=0,
        bfloat16=devices.use_bfloat16(settings, device, hidden_sizes),
        threads=0,
    )
    updater = make_updater(
        network,
        distribution,
        loss,
        config,
        batch,
        optimizer_state={},
        device=device,
        notify=lambda code, message: None,  # the job sends it
    )
    for epoch in range(_EPOCHS):
        updater.epoch(epoch)
