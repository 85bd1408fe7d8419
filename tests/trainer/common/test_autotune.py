"""The autotuner with options of known speed."""

import pytest

from trainer.common.autotune import Autotuner


def use(tuner, seconds, *, turns=100):
    """Use the tuner for several pieces of work; return how often it used each option, and the chosen one."""
    count = dict.fromkeys(seconds, 0)
    for _ in range(turns):
        option = tuner.current
        count[option] += 1
        tuner.record(seconds[option])
    return list(count.values()), tuner.current


def test_the_fastest_option_is_chosen_and_used_from_then_on():
    seconds = {"a": 1.0, "b": 0.6, "c": 0.8}
    assert use(Autotuner("abc", rounds=6, min_saving=0.1), seconds) == ([6, 88, 6], "b")


def test_an_option_that_saves_too_little_is_not_chosen():
    seconds = {"a": 1.0, "b": 0.95, "c": 0.97}
    assert use(Autotuner("abc", rounds=6, min_saving=0.1), seconds)[1] == "a"
    assert use(Autotuner("abc", rounds=6), seconds)[1] == "b"


def test_an_option_that_is_much_too_slow_once_is_not_tried_again():
    seconds = {"a": 1.0, "b": 40.0, "c": 40.0}
    assert use(Autotuner("abc", rounds=6, give_up_factor=1.5), seconds) == ([98, 1, 1], "a")


def test_one_slow_outlier_does_not_decide():
    tuner = Autotuner("ab", rounds=3)
    for seconds in (1.0, 0.5, 1.0, 9.0, 1.0, 0.5):
        tuner.record(seconds)
    assert tuner.current == "b"


@pytest.mark.parametrize(
    ("seconds", "tried", "chosen"), [((4, 2, 3, 1), [1, 1, 1, 0], 2), ((4, 5, 1, 1), [1, 1, 0, 0], 1)]
)
def test_the_trial_can_end_at_the_first_slower_option(seconds, tried, chosen):
    measured = []

    def measure(option):
        measured.append(option)
        return seconds[option - 1]

    assert Autotuner((1, 2, 3, 4), stop_at_first_loss=True).choose(measure) == chosen
    assert [measured.count(option) for option in (1, 2, 3, 4)] == tried


def test_records_after_the_trial_do_not_change_the_choice():
    tuner = Autotuner("ab")
    assert not tuner.is_decided
    tuner.record(1.0)
    tuner.record(2.0)
    assert tuner.is_decided
    tuner.record(100.0)
    assert tuner.current == "a"
