"""The cases of the suite: what the daemon does in each of them, and what a client must do then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from daemon.conformance.models import random_model, with_other_observations, with_wrong_probe
from daemon.conformance.session import Session
from schemas.model import Model
from schemas.status import DaemonState


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the suite waits for a client."""

    timeout_s: float  #: for a rollout
    settle_s: float  #: how long a client may take to look at the pointer file again


@dataclass(frozen=True, slots=True)
class Case:
    """One case, and the heading under which the contract describes it."""

    name: str
    heading: str
    run: Callable[[Session, Patience], None]


def no_pointer(session: Session, patience: Patience) -> None:
    """Let the client wait for the first pointer file."""
    session.pass_time(patience.settle_s)


def half_written_pointer(session: Session, patience: Patience) -> None:
    """Write the pointer file in two parts; then the client must load the first model."""
    path = session.paths.for_engine(session.publish(_next(session), point=False))
    session.half_written_pointer(path[: len(path) * 2 // 3])
    session.pass_time(patience.settle_s)
    session.point_to(path)
    require_rollout(session, patience, "after the first model was published")


def new_model(session: Session, patience: Patience) -> None:
    """Publish the next model, which the client must load."""
    session.publish(_next(session))
    require_rollout(session, patience, "after another model was published")


def wrong_probe(session: Session, patience: Patience) -> None:
    """Publish a model that does not compute its probe, which the client must not load."""
    _publish_wrong(session, patience, with_wrong_probe(_wrong(session)), "that does not compute its probe")


def other_layers(session: Session, patience: Patience) -> None:
    """Publish a model with other hidden sizes, which the client must not load."""
    sizes = tuple(size + 3 for size in session.hidden)
    _publish_wrong(session, patience, _wrong(session, sizes), "with other hidden sizes")


def other_observations(session: Session, patience: Patience) -> None:
    """Publish a model for more observations, which the client must not load."""
    model = with_other_observations(_wrong(session), session.hidden)
    _publish_wrong(session, patience, model, "with another number of observations")


def missing_pointer(session: Session, patience: Patience) -> None:
    """Remove the pointer file for a moment: the client must continue with the model that it has."""
    session.remove_pointer()
    session.pass_time(patience.settle_s)
    session.publish(_next(session))
    require_rollout(session, patience, "after the pointer file could not be read for a moment")


def failed_cycle(session: Session, patience: Patience) -> None:
    """Train without publishing anything: a client that pauses must not wait forever."""
    session.set_state(DaemonState.TRAINING)
    session.pass_time(patience.settle_s)
    session.set_state(DaemonState.IDLE)
    require_rollout(session, patience, "after a cycle that published nothing")


def parked(session: Session, patience: Patience) -> None:
    """Park: a client that pauses must not wait for a daemon that waits for a user."""
    session.set_state(DaemonState.PARKED)
    require_rollout(session, patience, "while the daemon is parked")
    session.set_state(DaemonState.IDLE)


def restart(session: Session, patience: Patience) -> None:
    """Kill the client and start it again: no rollout is lost, and no name is used again."""
    session.kill()
    session.start()
    require_rollout(session, patience, "after the client was killed and started again")
    session.check_files()


CASES = (
    Case("starts before the first model", "The folders", no_pointer),
    Case("a half-written pointer file", "The folders", half_written_pointer),
    Case("a new model", "Write the loop", new_model),
    Case("a model that fails its probe", "Model JSON", wrong_probe),
    Case("a model with other hidden layers", "Model JSON", other_layers),
    Case("a model with other observations", "Model JSON", other_observations),
    Case("a pointer file that cannot be read", "Write the loop", missing_pointer),
    Case("a cycle that publishes nothing", "Write the loop", failed_cycle),
    Case("a parked daemon", "Write the loop", parked),
    Case("a restart", "The folders", restart),
)


def first_model(session: Session, patience: Patience) -> None:
    """Publish the first model in a folder whose name is not ASCII."""
    session.publish(_next(session))
    require_rollout(session, patience, "in a folder whose name is not ASCII")


OTHER_FOLDER = Case("a folder whose name is not ASCII", "The folders", first_model)


def require_rollout(session: Session, patience: Patience, when: str) -> None:
    """Report a client that does not write a rollout with the newest model."""
    version, first = session.newest.policy_version, len(session.examined)
    is_right = session.wait(lambda: session.has_version_since(first, version), patience.timeout_s)
    if is_right or not session.is_running():
        return
    written = session.examined[first:]
    if not written:
        session.report("Write the loop", f"no rollout within {patience.timeout_s:g} s {when}")
    elif all(each.version is not None for each in written):
        text = f"{len(written)} rollouts {when}, but none with model {version}: read the pointer file again"
        session.report("Write the loop", text)


def _next(session: Session) -> Model:
    """Return the next model that the client must run."""
    model = random_model(session.contract, session.hidden, session.next_version())
    session.expect(model)
    return model


def _wrong(session: Session, hidden: tuple[int, ...] | None = None) -> Model:
    return random_model(session.contract, hidden or session.hidden, session.next_version())


def _publish_wrong(session: Session, patience: Patience, model: Model, what: str) -> None:
    """Publish a model that the client must not run, and report a client that runs it or stops writing rollouts."""
    first = len(session.examined)
    session.watch_for(model)
    session.publish(model)
    session.pass_time(patience.settle_s)
    seen = len(session.examined)
    session.wait(lambda: len(session.examined) >= seen + 2, patience.timeout_s)
    if not session.is_running():
        return
    if session.has_version_since(first, model.policy_version):
        session.report("Model JSON", f"the client runs a model {what}: keep the old one, and report it")
    elif len(session.examined) == seen:
        session.report("Model JSON", f"no rollout after a model {what}: continue with the old one")
