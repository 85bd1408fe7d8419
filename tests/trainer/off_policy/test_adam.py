"""Adam over one vector against torch's, also if it continues from a state."""

import pytest
import torch

from trainer.off_policy.adam import VectorAdam


@pytest.mark.usefixtures("float64")
def test_steps_are_those_of_torch_also_after_a_pause():
    torch.manual_seed(0)
    scale = torch.logspace(-9, 6, 30)  # also gradients of the size of epsilon
    vector, gradient = torch.randn(30), torch.zeros(30)
    parameter = torch.nn.Parameter(vector.clone())
    reference = torch.optim.Adam([parameter], lr=0.01)
    adam = VectorAdam(vector, gradient, 0.01)
    for step in range(200):
        if step == 70:
            adam = VectorAdam(vector, gradient, 0.01, adam.state())
        gradient.copy_(torch.randn(30) * scale)
        gradient[step % 30] = 0.0
        parameter.grad = gradient.clone()
        reference.step()
        adam.step()
        torch.testing.assert_close(vector, parameter.detach(), rtol=1e-9, atol=1e-12)
    assert adam.state()["step"] == 200
