"""`hotlap adopt`: a trained model becomes the next version through the usual publish, or is refused with one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from daemon.cli import main
from daemon.ledger.cycle import Phase
from daemon.publishing.adoption import fixed_contract, is_published, require_settings
from daemon.runtime.commands import Command
from schemas.errors import ContractError
from schemas.job import Adoption, Job, Result
from schemas.model import model_to_bytes, read_model
from schemas.settings.models import AgentSettings
from schemas.storage.files import sha256_of
from schemas.storage.layout import ProjectPaths
from tests.faults.support.harness import InstantHarness, train, violations
from tests.helpers import make_model, write_rollout

ROOT = Path(__file__).parents[2]


def adoption_of(path: Path) -> Adoption:
    return Adoption(file=str(path), sha256=sha256_of(path.read_bytes()))


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "elsewhere" / "model_epoch_7.json"
    path.parent.mkdir()
    path.write_bytes(model_to_bytes(make_model(hidden=8)))
    return path


def harness_in(folder: Path, jobs: list[Job]) -> InstantHarness:
    """Return a daemon that does nothing without a command; `jobs` gets its trainers' jobs."""
    harness = InstantHarness(folder)
    harness.service._automatic = False
    harness.launcher.answer = lambda job: jobs.append(job) or train(job)
    return harness


def test_an_adopted_model_is_the_first_version_and_the_next_cycle_continues_from_it(tmp_path, file):
    jobs: list[Job] = []
    with harness_in(tmp_path / "project", jobs) as harness:
        harness.write_rollouts(1, 2)
        harness.until(lambda: harness.ledger.pending_count() == 2)
        reply = harness.service._execute(Command(what="adopt", adoption=adoption_of(file)))
        assert (reply.ok, reply.cycle) == (True, 0)
        harness.until(lambda: not harness.runner.busy)
        assert harness.version == 0
        assert harness.ledger.pending_count() == 2
        assert jobs[0].kind == "adopt"
        assert jobs[0].adoption == adoption_of(file).model_copy(
            update={"is_contract_fixed": True, "are_hidden_sizes_fixed": True}
        )
        assert is_published(harness.ledger, adoption_of(file))
        [summary] = harness.ledger.history()
        assert summary.adopted == f"model_epoch_7.json (sha256 {jobs[0].adoption.sha256[:16]})"
        assert "adopted from model_epoch_7.json" in "\n".join(harness.log.lines)
        harness.service._automatic = True
        harness.until_version(1)
        assert jobs[1].kind == "train"
        assert jobs[1].parent == str(harness.paths.cycle_folder(0) / "model_epoch_2.pt")
    assert violations(tmp_path / "project") == ()


def test_a_model_is_adopted_as_the_next_version_and_is_known_after_the_ledger_was_lost(tmp_path, file):
    paths = ProjectPaths(tmp_path / "project")

    def answer(job: Job) -> list[object]:
        events = train(job)
        result = events[-1]
        assert isinstance(result, Result)
        if job.adoption is not None:  # as the trainer does
            path = Path(job.output) / result.model
            model = orjson.loads(path.read_bytes())
            model["lineage"]["adopted"] = f"model_epoch_7.json {job.adoption.sha256}"
            path.write_bytes(orjson.dumps(model))
            files = {**result.files, result.model: sha256_of(path.read_bytes())}
            events[-1] = result.model_copy(update={"files": files})
        return events

    with InstantHarness(paths.project) as harness:
        harness.launcher.answer = answer
        harness.run_cycle(1)
        assert harness.service.adopt(adoption_of(file)).cycle == 2
        harness.until_version(2)
    paths.ledger.unlink()
    with InstantHarness(paths.project) as harness:
        assert harness.version == 2
        assert [cycle.adopted is not None for cycle in harness.ledger.history()] == [False, False, True]
        assert is_published(harness.ledger, adoption_of(file))
        assert read_model((paths.models / harness.ledger.last_publication().model).read_bytes()).policy_version == 2
        harness.tick()
        assert not harness.runner.busy  # no second version 0


def test_a_crash_while_adopting_adopts_after_the_next_start(tmp_path, file):
    paths = ProjectPaths(tmp_path / "project")
    for phase in (Phase.CLAIMED, Phase.TRAINING, Phase.PUBLISHING):
        before = 0
        with InstantHarness(paths.project) as harness:
            harness.until(lambda: harness.version >= 0 and not harness.runner.busy)
            before = harness.ledger.last_cycle_id()
            if phase is Phase.TRAINING:
                harness.launcher.answer = lambda job: []
            if phase is Phase.PUBLISHING:
                harness.runner._publish = lambda *_: None
            harness.service.adopt(adoption_of(file))
            while harness.runner.cycle.phase is not phase:
                harness.tick()
            harness.crash()
        with InstantHarness(paths.project) as harness:
            harness.until_version(before + 1)
            assert harness.ledger.adoption(before + 1).sha256 == adoption_of(file).sha256
    assert violations(paths.project) == ()


def test_it_is_refused_while_a_cycle_runs_or_is_parked(tmp_path, file):
    with InstantHarness(tmp_path / "project", failures_before_parking=1) as harness:
        harness.until_version(0)
        harness.launcher.answer = lambda job: []
        harness.write_rollouts(1, 2)
        harness.until(lambda: harness.runner.busy)
        reply = harness.service.adopt(adoption_of(file))
        assert (reply.ok, reply.exit_code) == (False, 2)
        assert "a cycle is running" in reply.message


def test_a_file_that_the_start_has_moved_is_found(tmp_path):
    paths = ProjectPaths(tmp_path)
    paths.models.mkdir(parents=True)
    file = paths.models / "model_epoch_7.json"
    file.write_bytes(model_to_bytes(make_model(hidden=8)))
    adoption = adoption_of(file)
    jobs: list[Job] = []
    with harness_in(tmp_path, jobs) as harness:
        assert not file.exists()
        harness.service.adopt(adoption)
        harness.until(lambda: not harness.runner.busy)
    assert Path(jobs[0].adoption.file).parent.name.startswith("before_hotlap_")


def test_a_model_that_is_adopted_first_decides_which_rollouts_fit(tmp_path, file):
    with harness_in(tmp_path / "project", []) as harness:
        harness.service.adopt(adoption_of(file))
        harness.until(lambda: not harness.runner.busy)
        assert harness.context.contract == read_model(file.read_bytes()).contract
        harness.service._automatic = True
        from tests.helpers import v1_bytes

        write_rollout(harness.paths.exports, 1, v1_bytes(observation_size=16))
        harness.until(lambda: harness.ledger.rejected_count() == 1)
        assert harness.version == 0
        assert len(harness.ledger.publications()) == 1


def test_only_settings_that_were_set_describe_the_agents(file):
    assert fixed_contract(None, AgentSettings()) is None
    assert fixed_contract(None, AgentSettings(hidden_sizes=(8,))) is None
    agent = AgentSettings(observation_size=9, actions=("a",), action_low=(-1.0,), action_high=(2.0,))
    assert fixed_contract(None, agent) == agent.contract()
    contract = read_model(file.read_bytes()).contract
    require_settings(contract, AgentSettings())
    require_settings(contract, AgentSettings(observation_size=15))
    for settings in (AgentSettings(observation_size=9), AgentSettings(actions=("throttle", "steer", "brake"))):
        with pytest.raises(ContractError, match="the model has"):
            require_settings(contract, settings)


@pytest.mark.parametrize(
    ("name", "message"), [("none.json", "does not exist"), (".", "is not a file"), ("model_epoch_3.pt", "did you mean")]
)
def test_a_path_that_is_not_a_file_is_refused_and_nothing_is_created(tmp_path, capsys, name, message):
    moved = ProjectPaths(tmp_path).models / "before_hotlap_20261126"
    moved.mkdir(parents=True)
    (moved / "model_epoch_3.pt").write_bytes(b"theirs")
    before = sorted(tmp_path.rglob("*"))
    assert main(["--project", str(tmp_path), "adopt", str(tmp_path / name)]) == 2
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.torch
@pytest.mark.slow
def test_adopt_as_a_user_types_it(tmp_path, file):
    """Check a dry run, a refusal, the adoption and a repetition, with the real trainer and no daemon."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "daemon", "--project", str(tmp_path), "adopt", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, env=environment)

    before = sorted(tmp_path.rglob("*"))
    dry = run(file, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "hidden layers 8, 8" in dry.stdout
    assert sorted(tmp_path.rglob("*")) == before
    done = run("elsewhere/model_epoch_7.json")  # relative to the project
    assert done.returncode == 0, done.stderr
    assert "published as version 0: cycle_000000/model_epoch_7.json" in done.stdout
    model = read_model(Path(ProjectPaths(tmp_path).pointer.read_text()).read_bytes())
    assert model.lineage.adopted.startswith("model_epoch_7.json ")
    assert "nothing to do" in run(file).stdout
    assert violations(tmp_path) == ()
