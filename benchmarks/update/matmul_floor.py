"""The arithmetic alone: the matrix products of an update, in place, one after another.

Two networks with the same hidden layers, forward and backward, without the gradient of the observations. Whether
separate or stacked products are faster depends on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

Product = Callable[[], object]
Form = Callable[[Sequence[int], Sequence[int], int, torch.device], list[Product]]


def flop(hidden_in: Sequence[int], outputs: Sequence[int]) -> int:
    """Return floating-point operations per experience; `hidden_in` has the sizes of observation and hidden layers."""
    total = 0
    for last in outputs:
        layers = [i * o for i, o in pairwise((*hidden_in, last))]
        total += 2 * (3 * sum(layers) - layers[0])
    return total


def one_by_one(hidden_in: Sequence[int], outputs: Sequence[int], batch: int, device: torch.device) -> list[Product]:
    """Return the products of one minibatch, separate for each network."""
    return [product for last in outputs for product in _of_one((*hidden_in, last), batch, device)]


def stacked(hidden_in: Sequence[int], outputs: Sequence[int], batch: int, device: torch.device) -> list[Product]:
    """Return the products of one minibatch, stacked over the networks."""
    n, (first, *others) = len(outputs), pairwise((*hidden_in, max(outputs)))
    joined = (first[0], n * first[1])
    products = _of_one(joined, batch, device)
    for i, o in others:
        x, dy = _filled(n, batch, i, device=device), _filled(n, batch, o, device=device)
        w = _filled(n, i, o, device=device)
        products += [_product(torch.bmm, x, w), _product(torch.bmm, x.mT, dy), _product(torch.bmm, dy, w.mT)]
    return products


def _of_one(sizes: Sequence[int], batch: int, device: torch.device) -> list[Product]:
    products = []
    for k, (i, o) in enumerate(pairwise(sizes)):
        x, dy = _filled(batch, i, device=device), _filled(batch, o, device=device)
        w = _filled(i, o, device=device)
        products += [_product(torch.mm, x, w), _product(torch.mm, x.T, dy)]
        if k:
            products.append(_product(torch.mm, dy, w.T))
    return products


def _filled(*shape: int, device: torch.device) -> Tensor:
    return torch.randn(*shape, device=device)


def _product(multiply: Callable[..., Tensor], a: Tensor, b: Tensor) -> Product:
    out = multiply(a, b)
    return lambda: multiply(a, b, out=out)
