"""Which algorithm a job learns with, and which settings exclude each other."""

import pytest

from schemas.contract import PolicyContract
from schemas.errors import ConfigError
from schemas.job import Job
from schemas.settings.models import TrainerSettings
from tests.trainer.toy import CHOICE, STEER
from trainer.checkpoints.parent import Parent
from trainer.networks.network import ActorCritic, Shape
from trainer.networks.normaliser import Normalisers
from trainer.off_policy.algorithm import algorithm_for


def chosen(space=STEER, *, critics=False, **settings):
    contract = PolicyContract(observation_size=4, action_space=space)
    job = Job(kind="train", policy_version=1, output="", contract=contract, hidden_sizes=(8,),
              settings=TrainerSettings(**settings))  # fmt: skip
    parent = Parent(
        network=ActorCritic(Shape.of(contract, (8,))),
        normalisers=Normalisers.identity(4),
        optimizer_state={},
        trained=critics,
        may_wait=False,
        checksum="",
        critics_state={"critics": {}} if critics else {},
    )
    return algorithm_for(job, parent).name


def test_the_setting_decides():
    assert chosen() == "ppo"
    for space in (STEER, CHOICE):
        assert chosen(space, algorithm="ppo", critics=True) == "ppo"
        assert chosen(space, algorithm="td3") == "td3"


def test_auto_is_td3_for_continuous_actions_and_for_models_with_critics():
    assert chosen(algorithm="auto") == "td3"
    assert chosen(CHOICE, algorithm="auto") == "ppo"
    assert chosen(CHOICE, algorithm="auto", critics=True) == "td3"


@pytest.mark.parametrize("setting", ["network", "loss"])
def test_networks_and_losses_of_users_are_for_ppo(setting):
    own = {setting: "package.module:Name"}
    assert chosen(algorithm="auto", **own) == "ppo"
    assert chosen(algorithm="ppo", **own) == "ppo"
    with pytest.raises(ConfigError) as error:
        chosen(algorithm="td3", **own)
    assert error.value.message == f"trainer.algorithm is td3, which cannot use trainer.{setting}"
    assert error.value.hint == f'set trainer.algorithm = "ppo", or remove trainer.{setting}'
    assert error.value.code == "E_CONFIG"
