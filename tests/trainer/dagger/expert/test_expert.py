"""Experts are the user's own code: whatever they do, they cost their milestone and nothing else."""

import time

import numpy as np
import psutil
import pytest

from trainer.dagger.actions import Actions
from trainer.dagger.expert.client import Expert, ExpertError

ACTIONS = Actions("discrete", ("LEFT", "RIGHT"))

BAD = {
    "no file": (None, "E_EXPERT_MISSING", "is not there"),
    "no run": ("walk = 1\n", "E_EXPERT_NO_RUN", "has no run()"),
    "does not compile": ("def run(\n", "E_EXPERT_RAISED", "SyntaxError"),
    "raises": ("def run(state):\n    return state['x']\n", "E_EXPERT_RAISED", "KeyError: 'x' (expert.py, line 2)"),
    "exits": ("import sys\ndef run(state):\n    sys.exit(3)\n", "E_EXPERT_RAISED", "SystemExit"),
    "hangs": ("import time\ndef run(state):\n    time.sleep(60)\n", "E_EXPERT_HUNG", "no answer within 0.4 s"),
    "dies": ("import os\ndef run(state):\n    os._exit(9)\n", "E_EXPERT_DIED", "exit code 9"),
    "nonsense": ("def run(state):\n    return 'JUMP'\n", "E_EXPERT_NONSENSE", "'JUMP' is none of the actions"),
    "nothing": ("def run(state):\n    pass\n", "E_EXPERT_NONSENSE", "None is no action"),
}


def ask(path, states, limit_s=0.4):
    with Expert(path, ACTIONS, call_limit_s=limit_s) as expert:
        return expert.label(states)


@pytest.mark.parametrize(("text", "code", "says"), BAD.values(), ids=BAD)
def test_a_bad_expert_is_one_line_and_leaves_no_process(tmp_path, text, code, says):
    path = tmp_path / "expert.py"
    if text is not None:
        path.write_text(text)
    began = time.monotonic()
    with pytest.raises(ExpertError) as caught:
        ask(path, [{"y": 1}])
    assert caught.value.code == code
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 30
    assert [c for c in psutil.Process().children() if "expert_child" in " ".join(c.cmdline())] == []


def test_states_cross_unharmed_and_answers_come_in_order(tmp_path):
    path = tmp_path / "expert.py"
    path.write_text(
        "import numpy as np\n"
        "def run(state):\n"
        "    print('noise')\n"
        "    assert isinstance(state['picture'], np.ndarray) and state['picture'].dtype == np.uint8\n"
        "    assert state['deep'] == {'list': [1, 'two', None]}\n"
        "    return np.int64(state['picture'].sum() % 2)\n"
    )
    states = [{"picture": np.full((3, 3), k % 256, np.uint8), "deep": {"list": [1, "two", None]}} for k in range(600)]
    answers = ask(path, states, limit_s=20.0)
    assert [int(a) for a in answers] == [k % 2 for k in range(600)]


def test_a_slow_batch_is_no_hung_expert(tmp_path):
    """The limit is for a call: a hundred calls of 20 ms take longer than it, and are fine."""
    path = tmp_path / "expert.py"
    path.write_text("import time\ndef run(state):\n    time.sleep(0.02)\n    return 1\n")
    assert len(ask(path, [0] * 100, limit_s=1.0)) == 100


def test_seeds_make_a_random_expert_repeat_itself(tmp_path):
    path = tmp_path / "expert.py"
    path.write_text("import random\ndef run(state):\n    return random.randrange(2)\n")
    with Expert(path, ACTIONS, call_limit_s=5.0) as expert:
        given = []
        for _ in range(2):
            expert.seed(5)
            given.append([int(a) for a in expert.label([0] * 64)])
    assert given[0] == given[1]
    assert set(given[0]) == {0, 1}
