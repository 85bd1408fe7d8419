"""Most rollouts define the contract, whatever came first."""

from __future__ import annotations

from schemas.contract import ContinuousActions, DiscreteActions, PolicyContract
from schemas.rollout.meaning.majority import Vote, majority_of


def vote(size=15, names=("a", "b"), high=1.0, *, states_bounds=False, experiences=10) -> Vote:
    space = ContinuousActions(names=names, low=(0.0,) * len(names), high=(high,) * len(names))
    return Vote(PolicyContract(observation_size=size, action_space=space), states_bounds, experiences)


def test_one_stray_rollout_does_not_decide():
    found = majority_of([vote(14), vote(), vote()])
    assert (found.contract.observation_size, found.is_tied) == (15, False)


def test_the_order_of_the_names_is_the_most_frequent_one_and_no_other_shape():
    found = majority_of([vote(names=("b", "a")), vote(names=("a", "b")), vote(names=("a", "b")), vote(14), vote(14)])
    assert found.contract.action_space.names == ("a", "b")
    assert found.contract.observation_size == 15


def test_bounds_are_those_of_the_files_that_state_them():
    found = majority_of([vote(), vote(), vote(names=("b", "a"), high=5.0, states_bounds=True)])
    assert found.contract.action_space.in_words() == "a [0, 5], b [0, 5]"


def test_a_tie_is_reported_and_goes_to_the_preferred_contract_then_to_more_experiences():
    assert majority_of([vote(14), vote(15)]).is_tied
    assert majority_of([vote(14), vote(15)], vote(14).contract).contract.observation_size == 14
    assert majority_of([vote(14, experiences=99), vote(15)]).contract.observation_size == 14
    assert majority_of([]) is None


def test_choices_are_another_shape_than_real_numbers():
    choices = Vote(PolicyContract(observation_size=15, action_space=DiscreteActions(n=3)), True, 10)
    assert majority_of([choices, choices, vote()]).contract == choices.contract
