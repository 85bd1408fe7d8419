"""An expert that remembers, or draws random numbers, is noticed; one that looks only at the state is not."""

import pytest

from tests.fakes.walk import Walk, job_for
from trainer.dagger.actions import read_action_spec
from trainer.dagger.expert.client import Expert, ExpertError
from trainer.dagger.expert.memory import examine_memory

RUN = "def run(state):\n"
REMEMBERS = "the expert remembers earlier calls"
EXPERTS = {
    "looks at the state": (f"{RUN}    return int(state['x'] > 3)\n", ""),
    "always the same": (f"{RUN}    return 1\n", ""),
    "a counter": (f"calls = 0\n{RUN}    global calls\n    calls += 1\n    return calls % 2\n", REMEMBERS),
    "a counter with a long period": (
        f"calls = 0\n{RUN}    global calls\n    calls += 1\n    return int(calls % 12 < 6)\n", REMEMBERS,
    ),
    "a list that it plays": (
        f"plan = [1] * 20\n{RUN}    return plan.pop(0)\n",
        f"{REMEMBERS}: asked again about a state, run() raised IndexError: pop from empty list (expert.py, line 3)",
    ),
    "the state before": (
        f"last = 0\n{RUN}    global last\n    before, last = last, state['x']\n    return int(last > before)\n",
        REMEMBERS,
    ),
    "random": (
        f"import random\n{RUN}    return random.randrange(2)\n", "the expert is random: asked again about 20 states",
    ),
    "random numbers of its own": (
        f"import numpy as np\nrng = np.random.default_rng()\n{RUN}    return int(rng.integers(2))\n", REMEMBERS,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "note"), EXPERTS.values(), ids=EXPERTS)
def test_memory_is_noticed_by_asking_again(tmp_path, text, note):
    (tmp_path / "expert.py").write_text(text)
    states = [{"x": k} for k in range(20)]
    with Expert(tmp_path / "expert.py", read_action_spec(Walk()), call_timeout_s=20.0) as expert:
        expert.seed(5)
        labels = [expert.label([state])[0] for state in states]
        found = examine_memory(expert, states, labels)
    assert found.startswith(note)
    assert bool(found) == bool(note)
    assert "\n" not in found


def test_an_expert_that_hangs_when_it_is_asked_again_fails(tmp_path):
    (tmp_path / "expert.py").write_text(
        f"import time\ncalls = [0, 60]\n{RUN}    time.sleep(calls.pop(0))\n    return 1\n"
    )
    with Expert(tmp_path / "expert.py", read_action_spec(Walk()), call_timeout_s=0.5) as expert:
        labels = expert.label([0])
        with pytest.raises(ExpertError, match="did not return within"):
            examine_memory(expert, [0], labels)


def test_without_states_nothing_is_asked(tmp_path):
    job_for(tmp_path)
    with Expert(tmp_path / "experts" / "DOOR.py", read_action_spec(Walk()), call_timeout_s=20.0) as expert:
        assert examine_memory(expert, [], []) == ""
