"""A trainer that learns nothing: it keeps to the protocol, and can fail in every way that a real one may.

Usage: trainer.py MODE; started by the tests in place of `python -m trainer serve`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from schemas.files import sha256_of
from schemas.job import EpochDone, Failure, Heartbeat, Job, Notice, Ready, Result, Selecting
from tests.helpers import model_bytes


def say(event: object) -> None:
    sys.stdout.buffer.write(event.to_bytes())
    sys.stdout.buffer.flush()


def lifeline() -> None:
    while os.read(0, 1024):
        pass
    os._exit(1)


def work(job: Job, mode: str) -> None:
    say(Heartbeat(doing="training", progress=0.1))
    say(Notice(code="DEMO", message="something [bold]odd[/bold] \x1b[2J"))
    if mode == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "fails":
        say(Failure(code="E_DATA", message="these rollouts are no good"))
        sys.exit(65)
    if mode == "traceback":
        raise RuntimeError("a bug")
    if mode == "silent":
        time.sleep(3600)
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=True)
        time.sleep(3600)
    if mode == "nothing":
        sys.exit(0)
    output, files = Path(job.output), {}
    epochs = [0] if job.kind == "initial" else list(range(1, job.settings.epochs + 1))
    for epoch in epochs:
        files[f"model_epoch_{epoch}.pt"] = f"checkpoint {job.cycle} {epoch}".encode()
        if epoch:
            say(EpochDone(epoch=epoch, epochs=len(epochs), losses={"value_loss": 1.0 / epoch}, score=0.5, seconds=0.01))
    say(Selecting())
    best = (job.use_epoch if job.kind == "train" else 0) or epochs[-1]
    data = model_bytes(version=job.cycle, seed=job.cycle, observation_size=job.contract.observation_size)
    if mode == "wrong probe":
        data = data.replace(b'"values":[', b'"values":[9,', 1)
    files[f"model_epoch_{best}.json"] = data
    files["model_analysis.json"] = b"{}"
    for name, content in files.items():
        (output / name).write_bytes(content)
    say(
        Result(
            epoch=best,
            score=0.5,
            model=f"model_epoch_{best}.json",
            checkpoint=f"model_epoch_{best}.pt",
            files={name: sha256_of(content) for name, content in files.items()},
            contract=job.contract,
            hidden_sizes=job.hidden_sizes,
            losses={"value_loss": 0.25},
        )
    )


def main() -> None:
    mode = sys.argv[1]
    if mode == "chatty":
        sys.stdout.write("x" * 3_000_000 + "\nnot json\n\xff\n")
        sys.stdout.flush()
    job = Job.from_bytes(sys.stdin.buffer.readline())
    threading.Thread(target=lifeline, daemon=True).start()
    if mode != "never ready":
        say(Ready(versions={"fake": "1"}))
    else:
        time.sleep(3600)
    work(job, "" if job.kind == "initial" else mode)


if __name__ == "__main__":
    main()
