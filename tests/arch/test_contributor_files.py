"""The contributor files: they parse, name files that exist, use the pinned tools, and agree with the code's numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from scripts import dev
from scripts.devtools.checkout import NEWEST, OLDEST

ROOT = Path(__file__).resolve().parents[2]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PRE_COMMIT = ROOT / ".pre-commit-config.yaml"
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
PAGES = [
    *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", ".github/pull_request_template.md")),
    *(ROOT / "docs" / name for name in ("glossary.md", "style.md", "reference/versioning.md", "decisions/README.md")),
    *DECISIONS,
]
PARTS = ["Context", "Decision", "Consequences", "How we would notice that it was wrong"]

#: Terms with words that must not be used for them; a term of the glossary may have more of these.
TERMS = {
    "engine": {"world"},
    "game client": {"player"},
    "experience": {"sample", "transition"},
    "rollout": {"recording", "drop"},
    "rejected rollout": {"refused file"},
    "episode": {"life"},
    "cycle": {"round", "iteration"},
    "epoch": {"round"},
    "checkpoint": {"snapshot", "save"},
    "published model": {"placed model"},
    "pointer file": {"link", "path file"},
    "policy version": {"generation"},
    "behaviour policy": {"player", "who played", "stranger"},
    "parent policy": {"start", "start policy"},
    "proximal policy": {"start", "start policy"},
    "ledger": {"witness", "database"},
    "warm trainer": {"spare"},
    "command": {"order"},
    "retention": {"pruning", "tidying"},
    "invariant check": {"oracle", "examine"},
    "evidence": {"score", "proof"},
    "champion": {"winner", "best model"},
    "receipt": {"acknowledgement"},
    "relay": {"bridge"},
    "milestone": {"task", "level"},
    "expert": {"teacher", "driver"},
    "stage": {"milestone", "level"},
    "opponent pool": {"pool", "members"},
    "segment": {"piece"},
    "beta": {"coin"},
    **{term: set() for term in ("agent", "advantage", "GAE", "claim", "attempt", "parked", "attribution")},
    **{term: set() for term in ("held-out loss", "score", "normaliser", "normalisation folding", "clamped action")},
    **{term: set() for term in ("noise_std", "probe", "contract", "lineage", "warning", "curriculum")},
    **{term: set() for term in ("expert label", "version 0")},
}


def glossary() -> dict[str, tuple[str, set[str]]]:
    """Return the glossary's rows: term -> (definition, words that must not be used)."""
    rows = {}
    for line in (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] != "term" and set(line) != {"|", "-"}:
            term, definition, words = cells
            assert term not in rows, f"{term} has two definitions"
            rows[term] = (definition, {word.strip() for word in words.split(",")} - {"-"})
    return rows


@pytest.mark.parametrize("term", TERMS)
def test_the_glossary_defines_the_term(term):
    definition, words = glossary()[term]
    assert definition.endswith(".")
    assert TERMS[term] <= words


@pytest.mark.parametrize("path", [*FORMS, *WORKFLOWS, PRE_COMMIT], ids=lambda path: path.name)
def test_yaml_files_parse(path):
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "body" in document:
        fields = [field for field in document["body"] if field["type"] != "markdown"]
        assert document["name"]
        assert document["description"]
        assert len({field["id"] for field in fields}) == len(fields)
        assert all(field["attributes"]["label"] for field in fields)


def test_the_bug_form_asks_for_what_is_needed():
    text = (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text(encoding="utf-8")
    for wanted in ("`hotlap doctor --json`", "`hotlap --version`", "Operating system", "Python", "Engine", "Steps"):
        assert f"{wanted}\n" in text or f"{wanted} version\n" in text


def test_pre_commit_uses_the_pinned_tools_only():
    """Check that hooks run in .venv, which constraints.txt pins. Hooks of other repositories have other versions."""
    text = PRE_COMMIT.read_text(encoding="utf-8")
    assert set(re.findall(r"repo: *(\S+)", text)) == {"local"}
    assert not re.search(r"^\s*(?:rev|additional_dependencies):", text, re.MULTILINE)
    entries = re.findall(r"entry: *(.+)", text)
    assert entries
    for entry in entries:
        python, script, *arguments = entry.split()
        assert (python, script) == ("python", "scripts/dev.py")
        assert dev.parse(arguments)[0].verb == "lint"


def test_the_workflow_covers_what_is_supported():
    [text] = [path.read_text(encoding="utf-8") for path in WORKFLOWS if path.name == "ci.yml"]
    (oldest, newest) = (OLDEST[1], NEWEST[1])
    wanted = ", ".join(f'"3.{minor}"' for minor in range(oldest, newest + 1))
    assert f"python: [{wanted}]" in text
    assert all(f"{system}-latest" in text for system in ("ubuntu", "windows", "macos"))
    actions = re.findall(r"uses: *(\S+)", text)
    assert actions
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", action) for action in actions)
    for command in re.findall(r"run: python scripts/dev\.py (.+)", text):
        dev.parse(command.partition(" ${{")[0].split())


def test_ci_has_a_stage_for_every_check():
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    stages = re.findall(r"^stage \S+ (\d+) ([^|#\n]+)", text, re.MULTILINE)
    verbs = [dev.parse(words.split())[0].verb for _, words in stages]
    assert {"setup", "lint", "test", "pythons", "oldest-torch"} <= set(verbs)
    assert any(words.startswith("test --all") for _, words in stages), "the slow tests run too"
    limit_s = int(re.findall(r"^limit_s=(\d+)", text, re.MULTILINE)[0])
    assert all(0 < int(limit) < limit_s for limit, _ in stages)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_named_files_and_links_exist(path):
    text = path.read_text(encoding="utf-8")
    tops = "daemon|trainer|schemas|tests|scripts|docs|configs"
    named = set(re.findall(rf"`((?:{tops})/[\w./-]*)`", text))
    missing = [name for name in named if not (ROOT / name).exists()]
    links = {link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link}
    missing += [link for link in links if not (path.parent / link).exists()]
    assert sorted(missing) == []


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name)
def test_a_decision_has_its_parts_and_is_in_the_index(path):
    text = path.read_text(encoding="utf-8")
    assert re.match(rf"# {path.name[:4]} \S.+\n\nStatus: \S", text)
    assert re.findall(r"^## (.+)", text, re.MULTILINE) == PARTS
    assert f"]({path.name})" in (path.parent / "README.md").read_text(encoding="utf-8")
