"""Random generators by purpose: a new purpose does not change the random numbers of another one."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import torch


def key_for(seed: int, *purpose: str | int) -> int:
    """Return the seed of one purpose, a number below 2**63; for example `key_for(7, "shuffle", cycle, epoch)`."""
    name = "/".join(map(str, purpose)).encode()
    digest = blake2b(name, digest_size=8, key=seed.to_bytes(8, "big")).digest()
    return int.from_bytes(digest, "big") >> 1


def rng_for(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a torch generator (CPU) for one purpose."""
    return torch.Generator().manual_seed(key_for(seed, *purpose))


def numpy_rng_for(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a numpy generator for one purpose."""
    return np.random.default_rng(key_for(seed, *purpose))
