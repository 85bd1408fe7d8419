"""Finds the two stacks of layers in a state dict, by the names that Hotlap and known scripts give them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

from schemas.errors import ModelError
from schemas.model import LOG_STD_START

Layers = tuple[tuple[Tensor, Tensor], ...]
"""Weights [out, in] and biases [out] of one stack. The head is the last layer."""

_NAME = re.compile(
    r"(?:.*\.)?(?:"
    r"(?P<hidden>policy_layers|value_layers|shared|shared_layers|trunk)\.(?P<index>\d+)"
    r"|(?P<head>policy_head|policy_mean|value_head|value)"
    r")\.(?P<part>weight|bias)"
)
_STD_NAME = re.compile(r"(?:.*\.)?(?:\w*log_?std|policy_std)")
"""`policy_std` is the name in the public Unreal scripts, which use its exponential as the deviation."""
_SHARED = frozenset({"shared", "shared_layers", "trunk"})
_HINT = (
    "name the layers policy_layers.<i>, policy_head, value_layers.<i>, value_head; or shared.<i>, policy_mean, value"
)

_Pairs = dict[int, dict[str, Tensor]]


def layers_of(state: Mapping[str, Tensor]) -> tuple[Layers, Layers, Tensor]:
    """Return the policy's stack, the value function's stack and the log of the deviations.

    Hidden layers that both stacks share are in both. Raises ModelError (E_CHECKPOINT) if something is missing, or if a
    tensor does not belong to a plain stack of layers.
    """
    hidden: dict[str, _Pairs] = {"policy": {}, "value": {}, "shared": {}}
    heads: dict[str, dict[str, Tensor]] = {"policy": {}, "value": {}}
    log_std: Tensor | None = None
    unknown = []
    for name, tensor in state.items():
        match = _NAME.fullmatch(name)
        if match and match["hidden"]:
            kind = "shared" if match["hidden"] in _SHARED else match["hidden"].partition("_")[0]
            hidden[kind].setdefault(int(match["index"]), {})[match["part"]] = tensor.detach().float()
        elif match:
            heads[match["head"].partition("_")[0]][match["part"]] = tensor.detach().float()
        elif _STD_NAME.fullmatch(name):
            log_std = tensor.detach().float().reshape(-1)
        else:
            unknown.append(name)
    if unknown:
        raise ModelError(
            f"`policy_state_dict` contains {unknown[0]}, which is not a part of two plain stacks of layers with ReLU",
            hint=_HINT,
            code="E_CHECKPOINT",
        )
    stacks = [_stack(kind, {**hidden["shared"]}, hidden[kind], heads[kind]) for kind in ("policy", "value")]
    outputs = stacks[0][-1][0].shape[0]
    log_std = torch.full((outputs,), LOG_STD_START) if log_std is None else log_std
    if log_std.numel() not in {1, outputs}:
        raise ModelError(
            f"`policy_state_dict` has {log_std.numel()} deviations for {outputs} actions",
            hint=_HINT,
            code="E_CHECKPOINT",
        )
    return stacks[0], stacks[1], log_std.expand(outputs).clone()


def _stack(kind: str, shared: _Pairs, own: _Pairs, head: dict[str, Tensor]) -> Layers:
    pairs = [*(pair for _, pair in sorted(shared.items())), *(pair for _, pair in sorted(own.items())), head]
    if len(pairs) < 2 or any("weight" not in pair for pair in pairs):
        raise ModelError(f"`policy_state_dict` does not have complete {kind} layers", hint=_HINT, code="E_CHECKPOINT")
    layers = tuple((pair["weight"], pair.get("bias", torch.zeros(len(pair["weight"])))) for pair in pairs)
    for weight, bias in layers:
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise ModelError(
                f"a {kind} layer has weights of shape {list(weight.shape)} and biases of shape {list(bias.shape)}",
                hint="use linear layers",
                code="E_CHECKPOINT",
            )
    for (before, _), (after, _) in pairwise(layers):
        if before.shape[0] != after.shape[1]:
            raise ModelError(
                f"a {kind} layer has {before.shape[0]} outputs, but the next one has {after.shape[1]} inputs",
                hint=_HINT,
                code="E_CHECKPOINT",
            )
    return layers
