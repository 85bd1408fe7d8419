"""What is kept from cycle to cycle, through a real checkpoint file; damaged or other states are not used."""

import pytest
import torch

from schemas.contract import PolicyContract
from schemas.model import Lineage
from tests.trainer.off_policy.problem import (
    CHOICE,
    CRITIC_HIDDEN,
    HIDDEN,
    OBSERVATIONS,
    STEER,
    make_replay,
    make_updater,
)
from trainer.checkpoints.checkpoint import Checkpoint, checkpoint_from, load_document
from trainer.networks.normaliser import Normalisers
from trainer.off_policy.critics import Critics
from trainer.off_policy.soft_choices import SoftChoiceUpdater
from trainer.off_policy.state import CriticsState
from trainer.off_policy.td3 import Td3Updater

SPACES = {"continuous": STEER, "discrete": CHOICE}
spaces = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def trained(space):
    updater = make_updater(space)
    updater.run(make_replay(space), 6, seed=0, cycle=1, epoch=1)
    return updater


def checkpoint_of(updater, space):
    return Checkpoint.of(
        updater.network,
        normalisers=Normalisers.identity(OBSERVATIONS),
        contract=PolicyContract(observation_size=OBSERVATIONS, action_space=space),
        hidden_sizes=HIDDEN,
        lineage=Lineage(cycle=1, epoch=1),
        policy_trained=True,
        critics_state=updater.state().document(),
    )


def sizes_of(updater):
    return updater.critics.sizes


@spaces
def test_training_continues_exactly_from_a_checkpoint_file(tmp_path, space):
    one, replay = trained(space), make_replay(space)
    path = tmp_path / "model_epoch_1.pt"
    path.write_bytes(checkpoint_of(one, space).to_bytes())
    assert torch.load(path, weights_only=True)["critics"].keys() == one.state().document().keys()
    loaded = checkpoint_from(load_document(path.read_bytes()))
    network = make_updater(space, seed=9).network
    network.load_state_dict(loaded.policy_state_dict)
    state = CriticsState.from_document(loaded.critics_state, sizes_of(one), network)
    assert state is not None
    assert not state.is_new
    two = (
        Td3Updater(network, state, space, device=one.device)
        if space is STEER
        else SoftChoiceUpdater(network, state, device=one.device)
    )
    for updater in (one, two):
        updater.run(replay, 6, seed=0, cycle=2, epoch=1)
    for name in ("critics", "targets", "policy"):
        assert torch.equal(getattr(one, name).vector, getattr(two, name).vector), name
    assert one.state().temperature == two.state().temperature


def test_the_next_steps_do_not_change_a_checkpoint_that_was_made():
    updater = trained(STEER)
    checkpoint = checkpoint_of(updater, STEER)
    before = checkpoint.to_bytes()
    updater.run(make_replay(STEER), 2, seed=0, cycle=1, epoch=2)
    assert checkpoint.to_bytes() == before
    assert checkpoint.is_finite()
    assert checkpoint.size_bytes > 4 * updater.critics.vector.nbytes


def test_a_state_without_moments_starts_the_optimizers():
    updater = make_updater(STEER)
    document = updater.state().document() | {"critics_adam": None, "policy_adam": None}
    state = CriticsState.from_document(document, sizes_of(updater), updater.network)
    assert state is not None
    Td3Updater(updater.network, state, STEER, device=updater.device).run(
        make_replay(STEER), 1, seed=0, cycle=1, epoch=1
    )


def with_entry(document, *path_and_value):
    """Return a copy of nested dicts with another value, or without the entry for the value `...`."""
    name, *rest = path_and_value
    copy = dict(document)
    if len(rest) > 1:
        copy[name] = with_entry(document[name], *rest)
    elif rest[0] is ...:
        del copy[name]
    else:
        copy[name] = rest[0]
    return copy


DAMAGE = {
    "without critics": ("critics", ...),
    "without targets": ("targets", ...),
    "without a temperature": ("temperature", ...),
    "without moments": ("policy_adam", ...),
    "critics are text": ("critics", "text"),
    "a vector that is too short": ("critics", "vector", torch.zeros(7)),
    "a vector that is a matrix": ("targets", "vector", torch.zeros(3, 7)),
    "a vector that is a number": ("critics", "vector", 3),
    "a vector of another type": ("critics", "vector", "double"),
    "no vector": ("critics", "vector", ...),
    "one critic": ("critics", "count", 1),
    "a huge number of critics": ("critics", "count", 10**30),
    "infinitely many critics": ("critics", "count", float("inf")),
    "sizes are text": ("targets", "sizes", "8"),
    "sizes are a number": ("targets", "sizes", 8),
    "other sizes": ("targets", "sizes", [8, 4, 1]),
    "a temperature of nan": ("temperature", float("nan")),
    "a temperature below 0": ("temperature", -1.0),
    "a temperature is text": ("temperature", "warm"),
    "moments of another size": ("policy_adam", "exp_avg", torch.zeros(3)),
    "moments are text": ("critics_adam", "text"),
    "moments without their step": ("critics_adam", "step", ...),
    "moments with a step of text": ("critics_adam", "step", "6"),
    "moments with steps below 0": ("policy_adam", "step", -1),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_document_is_not_used(damage):
    updater = trained(STEER)
    document = updater.state().document()
    if damage[-1] == "double":
        damage = (*damage[:-1], updater.critics.vector.double())
    assert CriticsState.from_document(document, sizes_of(updater), updater.network) is not None
    assert CriticsState.from_document(with_entry(document, *damage), sizes_of(updater), updater.network) is None


@pytest.mark.parametrize("document", [{}, [], "text", 3, {"critics": None}])
def test_something_else_is_not_used(document):
    updater = make_updater(STEER)
    assert CriticsState.from_document(document, sizes_of(updater), updater.network) is None


def test_a_state_of_other_critic_sizes_or_of_another_network_is_not_used():
    updater = trained(STEER)
    document, sizes = updater.state().document(), sizes_of(updater)
    assert sizes == (OBSERVATIONS + 3, *CRITIC_HIDDEN, 1)
    assert CriticsState.from_document(document, (*sizes[:-1], 4), updater.network) is None
    assert CriticsState.from_document(document, (sizes[0], 64, 1), updater.network) is None
    assert CriticsState.from_document(document, sizes, make_updater(CHOICE).network) is None


def test_a_state_of_one_critic_is_not_used():
    updater = make_updater(STEER)
    one = Critics.initial(1, sizes_of(updater), seed=0).document()
    document = updater.state().document() | {"critics": one, "targets": one, "critics_adam": None}
    assert CriticsState.from_document(document, sizes_of(updater), updater.network) is None
