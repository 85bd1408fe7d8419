"""`hotlap adopt FILE`: a trained model becomes the project's next version, which the next cycle continues from."""

from __future__ import annotations

import contextlib
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from daemon.app import open_service
from daemon.errors import DaemonError, Exit
from daemon.ledger.cycle import Phase
from daemon.ledger.ledger import Ledger
from daemon.ledger.sqlite_errors import as_ledger_errors
from daemon.process.interpreter import check_python
from daemon.publishing.adoption import absolute, fixed_contract, fixed_hidden_sizes, is_published, require_settings
from daemon.publishing.republish import run_export
from daemon.runtime.clock import REAL_CLOCK
from daemon.runtime.commands import Command, Reply, send_command
from daemon.runtime.instance_lock import is_running
from schemas.contract import PolicyContract
from schemas.errors import HotlapError
from schemas.job import Adoption, Job, LogStdForm, Result
from schemas.model import MAX_MODEL_BYTES
from schemas.program.commands import usable
from schemas.rollout.meaning.majority import Vote, majority_of
from schemas.rollout.meaning.rules import ReadingRules
from schemas.rollout.reader import read_rollout
from schemas.rollout.rollout import MAX_ROLLOUT_BYTES
from schemas.settings.models import AgentSettings, Settings
from schemas.storage.files import REAL_DISK, read_with_retries, sha256_of
from schemas.storage.layout import ProjectPaths, is_rollout_name
from schemas.storage.set_aside import PREFIX
from schemas.storage.windows_paths import shown_path
from schemas.text import ascii_safe

CODE = "E_ADOPT"
TIMEOUT_S = 300.0
_ROLLOUTS_READ = 5
"""How many rollouts are read to find the agents' shape, before any daemon has run."""


def adopt(file: Path, paths: ProjectPaths, settings: Settings, *, log_std: LogStdForm, dry_run: bool) -> Exit:
    """Check a trained model and publish it as the next version; with `dry_run`, only check it. Raises DaemonError."""
    path = absolute(file, paths.project)
    data = _read(path, file, paths)
    check_python(settings.daemon.python_executable)
    adoption = Adoption(file=str(path), sha256=sha256_of(data), log_std=log_std)
    with _read_ledger(paths) as ledger:
        if ledger is not None and is_published(ledger, adoption):
            last = ledger.last_publication()
            version = last.policy_version if last else 0
            return _print([f"version {version}, which is published, is this model: nothing to do"])
        job, version = _trial_job(adoption, ledger, paths, settings)
    result = _try(job, settings, paths)
    require_settings(result.contract, settings.agent)
    if dry_run:
        _print(result.notes)
        return _print(
            [f"nothing was changed: without --dry-run, this becomes version {version} of {shown_path(paths.project)}"]
        )
    if is_running(paths):
        _print(result.notes)
        return _adopt_in_daemon(adoption, paths)
    return _adopt_here(adoption, paths, settings)


def _read(path: Path, given: Path, paths: ProjectPaths) -> bytes:
    """Return the file's content. Raises DaemonError (E_ADOPT)."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DaemonError(
                f"{shown_path(given)} is not a file", hint="name a model JSON or a checkpoint (.pt, .pth)", code=CODE
            )
        return read_with_retries(path.resolve(), limit=MAX_MODEL_BYTES)
    except FileNotFoundError:
        moved = next(iter(sorted(paths.models.glob(f"{PREFIX}*/{path.name}"))), None) if path.name else None
        hint = "correct the path" if moved is None else f"did you mean {moved.relative_to(paths.project).as_posix()}?"
        raise DaemonError(f"{shown_path(given)} does not exist", hint=hint, code=CODE) from None
    except OSError as error:
        text = f"{shown_path(given)} cannot be read: {error.strerror or error}"
        raise DaemonError(text, hint="check its permissions", code=CODE) from None


@contextlib.contextmanager
def _read_ledger(paths: ProjectPaths) -> Iterator[Ledger | None]:
    """Provide the ledger for reading; None if no daemon has run here yet."""
    if not paths.ledger.exists() or not paths.ledger.stat().st_size:
        yield None
        return
    with contextlib.closing(Ledger.open(paths.ledger, read_only=True)) as ledger, as_ledger_errors(paths.ledger):
        ledger.require_sound()
        yield ledger


def _trial_job(adoption: Adoption, ledger: Ledger | None, paths: ProjectPaths, settings: Settings) -> tuple[Job, int]:
    """Return the job that only reads and checks the file, without its output folder, and the version to publish."""
    text = None if ledger is None else ledger.meta("contract")
    stored = None if text is None else PolicyContract.from_bytes(text.encode())
    contract = fixed_contract(stored, settings.agent) or _contract_of_rollouts(paths, settings.agent)
    sizes = fixed_hidden_sizes(ledger, settings.agent)
    is_first = ledger is None or ledger.last_publication() is None
    version = 0 if is_first or ledger is None else ledger.last_cycle_id() + 1
    job = Job(
        kind="adopt",
        policy_version=version,
        output="",
        contract=contract or settings.agent.contract(),
        hidden_sizes=sizes or settings.agent.hidden_sizes,
        settings=settings.trainer,
        adoption=adoption.model_copy(
            update={"is_contract_fixed": contract is not None, "are_hidden_sizes_fixed": sizes is not None}
        ),
    )
    return job, version


def _contract_of_rollouts(paths: ProjectPaths, agent: AgentSettings) -> PolicyContract | None:
    """Return the contract that most of the newest rollouts in Exports have; None if none can be read."""
    rules, votes = ReadingRules.of(agent), []
    names = (path for path in paths.exports.iterdir()) if paths.exports.is_dir() else iter(())
    rollouts = sorted((path for path in names if is_rollout_name(path.name)), key=lambda p: p.lstat().st_mtime_ns)
    for path in rollouts[-_ROLLOUTS_READ:]:
        with contextlib.suppress(OSError, HotlapError):
            rollout = read_rollout(read_with_retries(path, limit=MAX_ROLLOUT_BYTES), rules)
            votes.append(Vote(rollout.contract, rollout.states_bounds, rollout.size))
    majority = majority_of(votes, agent.contract())
    return None if majority is None else majority.contract


def _try(job: Job, settings: Settings, paths: ProjectPaths) -> Result:
    """Let a trainer read and check the file; nothing in the project changes. Raises DaemonError."""
    with tempfile.TemporaryDirectory(prefix="hotlap-adopt-") as folder:
        output = Path(folder) / "output"
        REAL_DISK.make_folder(output)
        trial = job.model_copy(update={"output": str(output)})
        try:
            return run_export(trial, settings, log=Path(folder) / "trainer.log", project=paths.project)
        except DaemonError as error:
            raise DaemonError(error.message, code=error.code, exit_code=Exit.USAGE) from None


def _adopt_here(adoption: Adoption, paths: ProjectPaths, settings: Settings) -> Exit:
    """Adopt as the daemon of this project, for as long as it takes. Raises DaemonError."""
    with open_service(paths, settings, dashboard=False, automatic=False) as app:
        service = app.service
        inbox, runner = service.inbox, service.runner

        def is_ready() -> bool:
            return not runner.busy and inbox.is_up_to_date and inbox.rereading.decide_contract(may_wait=False)

        if not app.run(until=is_ready):
            return Exit.CYCLE_FAILED
        reply = service.adopt(adoption)
        if not reply.ok:
            raise _refused(reply)
        if not app.run(until=lambda: not service.runner.busy):
            return Exit.CYCLE_FAILED
    return _report(reply, paths)


def _adopt_in_daemon(adoption: Adoption, paths: ProjectPaths) -> Exit:
    """Let the running daemon adopt, and wait until it has. Raises DaemonError."""
    reply = send_command(paths, Command(what="adopt", adoption=adoption))
    if not reply.ok:
        raise _refused(reply)
    until = REAL_CLOCK.monotonic() + TIMEOUT_S
    while REAL_CLOCK.monotonic() < until and _phase(reply, paths) not in {Phase.PUBLISHED, Phase.FAILED, Phase.PARKED}:
        REAL_CLOCK.sleep(0.2)
    return _report(reply, paths)


def _phase(reply: Reply, paths: ProjectPaths) -> Phase:
    with contextlib.closing(Ledger.open(paths.ledger, read_only=True)) as ledger:
        return ledger.cycle(reply.cycle or 0).phase


def _refused(reply: Reply) -> DaemonError:
    return DaemonError(reply.message, code=CODE, exit_code=Exit.USAGE)


def _report(reply: Reply, paths: ProjectPaths) -> Exit:
    with contextlib.closing(Ledger.open(paths.ledger, read_only=True)) as ledger:
        cycle = ledger.cycle(reply.cycle or 0)
        published = next((p for p in ledger.publications() if p.cycle_id == cycle.id), None)
    if published is None:
        text = f"cycle {cycle.id} could not adopt the model: {cycle.why}"
        raise DaemonError(text, hint="see `hotlap history`", code=CODE, exit_code=Exit.CYCLE_FAILED)
    version = published.policy_version
    return _print([f"published as version {version}: {published.model}; the next cycle continues from it"])


def _print(lines: Iterable[str]) -> Exit:
    sys.stdout.write("".join(f"{ascii_safe(usable(line))}\n" for line in lines))
    return Exit.DONE
