"""The fuzz of ledgers, cache files and folders of models: it counts, repeats a case and finds broken rules."""

from __future__ import annotations

import random
import re

import pytest

from daemon.diagnostics.ledger_audit import LedgerContents
from daemon.publishing import foreign_files
from schemas.rollout import cache
from scripts.faults import fuzz
from scripts.faults.lib.fuzzing import cache_cases, ledger_cases, model_folder_cases


@pytest.mark.parametrize(
    ("what", "unit"), [("ledger", "ledgers"), ("cache", "cache files"), ("models", "model folders")]
)
def test_each_mode_counts_its_cases_and_finds_nothing(capsys, what, unit):
    assert fuzz.main(["--what", what, "--seconds", "1", "--seed", "1"]) == 0
    assert re.search(rf"seed 1: [1-9][\d,]* {unit}, 0 rules broken; ", capsys.readouterr().out)


def test_one_case_can_be_repeated(capsys):
    outputs = []
    for _ in range(2):
        assert fuzz.main(["--what", "cache", "--seed", "1", "--case", "4"]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert outputs[0].startswith("case 4: ")


def test_a_cache_whose_content_is_not_checked_is_found(tmp_path, monkeypatch):
    cases = cache_cases.CacheCases(tmp_path)
    monkeypatch.setattr(cache, "require_stored_rollout", lambda rollout: None)
    broken = [cases.check(random.Random(number)).broken for number in range(20)]
    assert ["observations is not all finite numbers of the right type"] in broken


def test_a_doctor_that_overlooks_what_the_start_finds_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger_cases, "read_ledger", lambda paths: LedgerContents())
    monkeypatch.setattr(ledger_cases, "_CHANGES", (ledger_cases._page,))
    broken = ledger_cases.LedgerCases(tmp_path).check(random.Random(1)).broken
    assert "doctor finds nothing, but the start rebuilds the ledger" in broken


def test_a_foreign_file_that_is_lost_is_found(tmp_path, monkeypatch):
    def change(rng, models, outside, foreign):
        (models / "model_epoch_9.json").write_text("foreign 0.5")
        foreign["model_epoch_9.json"] = "foreign 0.5"
        return "model_epoch_9.json is a file"

    monkeypatch.setattr(model_folder_cases, "_change", change)
    cases = model_folder_cases.ModelFolderCases(tmp_path)
    assert cases.check(random.Random(1)).broken == []
    monkeypatch.setattr(foreign_files, "move_to", lambda folder, path, *, disk: path.unlink())
    assert cases.check(random.Random(1)).broken == ["model_epoch_9.json of another program is lost"]
