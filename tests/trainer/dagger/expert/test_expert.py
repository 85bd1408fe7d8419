"""Experts are the user's own code: a bad expert fails only its milestone, with one line."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.faults.support.children import is_gone, until
from trainer.dagger.actions import ActionSpec
from trainer.dagger.expert.client import Expert, ExpertError

ROOT = Path(__file__).parents[4]
ACTIONS = ActionSpec("discrete", ("LEFT", "RIGHT"))

RUN = "def run(state):\n"
BAD = {
    "no file": (None, "E_EXPERT_MISSING", "expert.py does not exist -> write it: a file with the function run(state)"),
    "no run": ("walk = 1\n", "E_EXPERT_NO_RUN", "the expert expert.py has no function run(state) -> see `hotlap docs"),
    "run is not a function": ("run = 'LEFT'\n", "E_EXPERT_NO_RUN", "the expert expert.py has no function run(state)"),
    "does not compile": (
        "def run(state)\n    return 'LEFT'\n",
        "E_EXPERT_RAISED",
        "the expert expert.py cannot be loaded: SyntaxError: expected ':' (expert.py, line 1) ->",
    ),
    "wrong indentation": (
        "def run(state):\nreturn 'LEFT'\n",
        "E_EXPERT_RAISED",
        "cannot be loaded: IndentationError: expected an indented block",
    ),
    "missing module": (
        "import numpy\nimport carlib\n",
        "E_EXPERT_RAISED",
        "cannot be loaded: ModuleNotFoundError: No module named 'carlib' (expert.py, line 2) ->",
    ),
    "raises": (
        f"{RUN}    return state['x']\n",
        "E_EXPERT_RAISED",
        "the expert expert.py: run() raised KeyError: 'x' (expert.py, line 2) ->",
    ),
    "takes no state": (
        "def run():\n    return 'LEFT'\n",
        "E_EXPERT_NO_RUN",
        "the expert expert.py has no function run(state) ->",
    ),
    "exits": (
        f"import sys\n{RUN}    sys.exit(3)\n",
        "E_EXPERT_RAISED",
        "run() raised SystemExit: 3 (expert.py, line 3)",
    ),
    "hangs": (
        f"import time\n{RUN}    time.sleep(60)\n",
        "E_EXPERT_HUNG",
        "run() did not return within 0.4 s -> make it faster, or raise --expert-timeout",
    ),
    "dies": (
        f"import os\n{RUN}    os._exit(9)\n",
        "E_EXPERT_DIED",
        "the process of the expert expert.py ended with exit code 9 -> see the milestone's log",
    ),
    "unknown name": (
        f"{RUN}    return 'JUMP'\n",
        "E_EXPERT_NONSENSE",
        "run() returned 'JUMP', which is not the name of an action -> return a whole number from 0 to 1, or one of",
    ),
    "several names": (
        f"{RUN}    return ['LEFT', 'RIGHT']\n",
        "E_EXPERT_NONSENSE",
        "2 actions instead of one -> return",
    ),
    "nothing": (f"{RUN}    pass\n", "E_EXPERT_NONSENSE", "run() returned None, which is not an action -> return"),
    "an object": (f"{RUN}    return object()\n", "E_EXPERT_NONSENSE", "run() returned <object object at"),
}


def ask(path, states, timeout_s=0.4):
    with Expert(path, ACTIONS, call_timeout_s=timeout_s) as expert:
        return expert.label(states)


def living_experts():
    return [c for c in psutil.Process().children() if "trainer.dagger.expert.server" in " ".join(c.cmdline())]


def test_expert_s_process_runs_as_long_as_its_block(tmp_path):
    """The control of the tests below: they look for this process."""
    (tmp_path / "expert.py").write_text(f"{RUN}    return 1\n")
    with Expert(tmp_path / "expert.py", ACTIONS, call_timeout_s=20.0):
        assert len(living_experts()) == 1
    assert living_experts() == []


@pytest.mark.parametrize(("text", "code", "message"), BAD.values(), ids=BAD)
def test_bad_expert_is_reported_in_one_line_and_its_process_ends(tmp_path, text, code, message):
    path = tmp_path / "expert.py"
    if text is not None:
        path.write_text(text)
    start_s = time.monotonic()
    with pytest.raises(ExpertError) as caught:
        ask(path, [{"y": 1}])
    assert caught.value.code == code
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start_s < 30
    assert living_experts() == []


def test_expert_that_prints_works_and_its_text_is_in_the_log(tmp_path):
    path, log = tmp_path / "expert.py", tmp_path / "log"
    path.write_text(f"import os\nprint('loaded')\n{RUN}    print('asked')\n    os.write(1, b'raw')\n    return 1\n")
    with log.open("wb") as file, Expert(path, ACTIONS, call_timeout_s=20.0, log=file) as expert:
        assert [int(label) for label in expert.label([0, 0])] == [1, 1]
    assert log.read_text().count("asked") == log.read_text().count("raw") == 2


def test_states_arrive_unchanged_and_actions_come_back_in_order(tmp_path):
    path = tmp_path / "expert.py"
    path.write_text(
        "import numpy as np\n"
        "def run(state):\n"
        "    print('noise')\n"
        "    assert isinstance(state['image'], np.ndarray) and state['image'].dtype == np.uint8\n"
        "    assert state['deep'] == {'list': [1, 'two', None]}\n"
        "    return np.int64(state['image'].sum() % 2)\n"
    )
    states = [{"image": np.full((3, 3), k % 256, np.uint8), "deep": {"list": [1, "two", None]}} for k in range(600)]
    labels = ask(path, states, timeout_s=20.0)
    assert [int(label) for label in labels] == [k % 2 for k in range(600)]


def test_many_slow_calls_are_not_a_call_that_hangs(tmp_path):
    """The time limit is for one call: a hundred calls of 20 ms may take longer."""
    path = tmp_path / "expert.py"
    path.write_text("import time\ndef run(state):\n    time.sleep(0.02)\n    return 1\n")
    assert len(ask(path, [0] * 100, timeout_s=1.0)) == 100


def test_seed_makes_a_random_expert_repeatable(tmp_path):
    path = tmp_path / "expert.py"
    path.write_text("import random\ndef run(state):\n    return random.randrange(2)\n")
    with Expert(path, ACTIONS, call_timeout_s=5.0) as expert:
        labels = []
        for _ in range(2):
            expert.seed(5)
            labels.append([int(a) for a in expert.label([0] * 64)])
    assert labels[0] == labels[1]
    assert set(labels[0]) == {0, 1}


BUSY = """
import os, pathlib, time
def run(state):
    pathlib.Path(state + ".new").write_text(str(os.getpid()))
    os.replace(state + ".new", state)
    time.sleep(3600)
"""
CLIENT = """
import sys
from pathlib import Path
from trainer.dagger.actions import ActionSpec
from trainer.dagger.expert.client import Expert
with Expert(Path(sys.argv[1]), ActionSpec("discrete", ("LEFT", "RIGHT")), call_timeout_s=3600.0) as expert:
    expert.label([sys.argv[2]])
"""


def test_an_expert_ends_if_the_process_that_uses_it_is_killed(tmp_path):
    (tmp_path / "expert.py").write_text(BUSY)
    command = [sys.executable, "-c", CLIENT, str(tmp_path / "expert.py"), str(tmp_path / "pid")]
    client = subprocess.Popen(command, cwd=ROOT)
    try:
        until((tmp_path / "pid").exists, timeout_s=60.0)
        assert client.poll() is None
    finally:
        client.kill()
        client.wait()
    until(lambda: is_gone(int((tmp_path / "pid").read_text())))
