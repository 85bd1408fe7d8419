"""Adam without torch.compile takes the steps of torch's Adam, and no trainer imports torch.compile."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainer.common.eager_adam import EagerAdam

ROOT = Path(__file__).parents[3]
TRAINS = """
import sys
from pathlib import Path
from tests.trainer.toy import Bandit, loop_for
from trainer.worker.warmup import warm_up

warm_up()
env = Bandit()
loop = loop_for(env, Path(sys.argv[1]))
loop.train(env.play(loop.train(env.play(loop.start(), 40)), 40))
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize("fused", [True, False])
def test_the_steps_and_the_state_are_those_of_torchs_adam(fused):
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1.0, 1.0, 7)) for _ in range(2))
    adams = [
        kind([parameter], lr=0.1, fused=fused) for kind, parameter in ((EagerAdam, ours), (torch.optim.Adam, theirs))
    ]
    for _ in range(3):
        for adam, parameter in zip(adams, (ours, theirs), strict=True):
            adam.zero_grad()
            parameter.square().sum().backward()
            adam.step()
        adams[0].load_state_dict(copy.deepcopy(adams[1].state_dict()))
    assert torch.equal(ours, theirs)
    own, other = (adam.state_dict() for adam in adams)
    assert own["param_groups"] == other["param_groups"]
    assert all(torch.equal(own["state"][0][name], value) for name, value in other["state"][0].items())


def test_a_trainer_does_not_import_torch_compile(tmp_path):
    command = [sys.executable, "-c", TRAINS, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "False", done.stderr
