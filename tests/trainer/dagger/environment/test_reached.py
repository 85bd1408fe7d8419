"""What an environment reports is understood exactly, or refused: a wrong guess is a success that did not happen."""

from enum import Enum

import numpy as np
import pytest

from trainer.dagger.environment.reached import UnclearMilestonesError, reached_milestones


class Place(Enum):
    DOOR = 1


class Name(str, Enum):  # noqa: UP042
    GOAL = "GOAL"


UNDERSTOOD = {
    "nothing": (None, set()),
    "an empty text": ("", set()),
    "a text": ("DOOR", {"DOOR"}),
    "a text of numpy": (np.str_("DOOR"), {"DOOR"}),
    "bytes": (b"DOOR", {"DOOR"}),
    "several in a text": ("DOOR, GOAL", {"DOOR", "GOAL"}),
    "a list": (["DOOR"], {"DOOR"}),
    "a set": ({"DOOR", "GOAL"}, {"DOOR", "GOAL"}),
    "the keys of a dict": ({"DOOR": 1}.keys(), {"DOOR"}),
    "an array of texts": (np.array(["DOOR", "GOAL"]), {"DOOR", "GOAL"}),
    "an array of objects": (np.array(["DOOR"], dtype=object), {"DOOR"}),
    "members of enums": ([Place.DOOR, Name.GOAL], {"DOOR", "GOAL"}),
    "flags": ({"DOOR": True, "GOAL": False}, {"DOOR"}),
    "flags of numpy": ({"DOOR": np.bool_(True), "GOAL": np.array(False)}, {"DOOR"}),
    "flags that are numbers": ({"DOOR": 1, "GOAL": 0.0}, {"DOOR"}),
    "no flag yet": ({"DOOR": None}, set()),
    "objects": ({"DOOR": {"completed": True, "timestamp": 3.5}, "GOAL": {"completed": False}}, {"DOOR"}),
    "a list of objects": ([{"id": "DOOR", "completed": True}, {"id": "GOAL", "completed": np.False_}], {"DOOR"}),
    "an empty dict": ({}, set()),
    "an empty array": (np.array([]), set()),
}


@pytest.mark.parametrize(("value", "names"), UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_all_forms_that_are_clear_are_understood(value, names):
    assert reached_milestones(value) == names


REFUSED = {
    "a flag": (True, "True, which does not name a milestone"),
    "a number": (1, "1, which does not name a milestone"),
    "an array of flags": (np.array([True, False]), "a list of flags, which does not say whose they are"),
    "numbers in a list": ([3], "a list with 3, which is not the id of a milestone"),
    "progress": ({"DOOR": 0.4}, "0.4 for 'DOOR', which is neither true nor false"),
    "a count": ({"DOOR": 3}, "3 for 'DOOR', which is neither true nor false"),
    "a text as a flag": ({"DOOR": "false"}, "'false' for 'DOOR', which is neither true nor false"),
    "nan": ({"DOOR": float("nan")}, "nan for 'DOOR', which is neither true nor false"),
    "an array as a flag": ({"DOOR": np.array([True, False])}, "for 'DOOR', which is neither true nor false"),
    "objects without a flag": ({"DOOR": {"time": 3}}, "for 'DOOR', without a flag such as completed"),
    "a list of objects without a flag": ([{"id": "DOOR"}], "which is not the id of a milestone"),
    "numbers as keys": ({0: True}, "a dict with the key 0, which is not the id of a milestone"),
    "a sentence": ("the door is open!", "the text 'the door is open!', which is not the id of a milestone"),
}


@pytest.mark.parametrize(("value", "reason"), REFUSED.values(), ids=REFUSED)
def test_unclear_values_are_refused_with_the_value(value, reason):
    with pytest.raises(UnclearMilestonesError) as caught:
        reached_milestones(value)
    assert reason in str(caught.value)
