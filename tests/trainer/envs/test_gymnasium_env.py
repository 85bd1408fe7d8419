"""Gymnasium's environments in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys

import numpy as np
import pytest

from trainer.envs.gymnasium_env import GymnasiumVecEnv


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send a signal to one process")
def test_workers_continue_after_ctrl_c_and_a_closed_terminal_so_that_the_run_can_end_in_order():
    env = GymnasiumVecEnv("CartPole-v1", 2, workers=True)
    try:
        env.reset(0)
        workers = multiprocessing.active_children()
        assert len(workers) == 2
        for worker in workers:
            for number in (signal.SIGINT, signal.SIGHUP):
                os.kill(worker.pid, number)
        for _ in range(3):
            assert env.step(np.zeros((2, 1), np.float32)).observation.shape == (2, 4)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        env.close()
