"""The pages of the docs that need the daemon or the trainer are current and complete."""

from __future__ import annotations

import argparse

import pytest

from daemon.arguments import build_parser
from schemas.doc_tables import plain_settings_table
from schemas.generate import ROOT, with_block
from scripts.generate_docs import blocks, commands_of, generated_pages, main, options_of, options_table
from trainer import train_cli
from trainer.dagger import cli as dagger_cli
from trainer.dagger.demonstrations import cli as clone_cli
from trainer.dagger.settings import DaggerSettings
from trainer.online import cli as online_cli
from trainer.online.config import OnlineSettings
from trainer.simulate import cli as simulate_cli

PARSERS = {
    "daemon": build_parser,
    "train": lambda: train_cli.parser("hotlap train"),
    "online": lambda: online_cli.parser("hotlap online"),
    "dagger": lambda: dagger_cli.parser("hotlap dagger"),
    "clone": lambda: clone_cli.parser("hotlap clone"),
    "simulate": lambda: simulate_cli.parser("hotlap simulate"),
}


@pytest.mark.parametrize("path", generated_pages(), ids=lambda path: path.name)
def test_generated_pages_are_current(path):
    assert path.read_text(encoding="utf-8") == generated_pages()[path], "run `python scripts/generate_docs.py`"


@pytest.mark.parametrize("page", blocks())
def test_a_page_shows_all_its_generated_blocks(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in blocks()[page]:
        assert with_block(text, name, "other text") != text, name


@pytest.mark.parametrize("name", PARSERS)
def test_every_option_has_a_help_text_and_is_on_a_page(name):
    parser = PARSERS[name]()
    pages = "".join((ROOT / page).read_text(encoding="utf-8") for page in blocks())
    commands = [command for _, command in commands_of(parser)]
    options = [action for each in (parser, *commands) for action in options_of(each)]
    assert options
    for action in options:
        assert action.help, action.dest
        if action.dest in DaggerSettings.model_fields and name == "dagger":
            assert f"| `{action.dest}` |" in pages
        else:
            names = action.option_strings or [f"[{action.metavar}]" if action.nargs == "?" else str(action.metavar)]
            assert all(f"`{option}" in pages for option in names)


@pytest.mark.parametrize("settings", [OnlineSettings, DaggerSettings])
def test_every_setting_has_a_default_a_range_and_a_description(settings):
    rows = plain_settings_table(settings).splitlines()[2:]
    assert len(rows) >= len(settings.model_fields)
    for row in rows:
        assert all(cell.strip() for cell in row.split("|")[1:-1]), row


def test_settings_in_groups_have_dotted_names_and_others_have_not():
    assert "| `run.seed` | `0` |" in plain_settings_table(OnlineSettings)
    assert "| `seed` | `0` |" in plain_settings_table(DaggerSettings)


def test_an_options_table_shows_values_choices_and_optional_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("FOLDER", help="where")
    parser.add_argument("COUNT", nargs="?", help="how many")
    parser.add_argument("--kind", choices=("a", "b"), help="<kind>")
    parser.add_argument("--old", "--new", metavar="X", help="two names")
    parser.add_argument("--quiet", action="store_true", help="no output")
    assert options_table(parser, without=("quiet",)).splitlines()[2:] == [
        "| `FOLDER` | where |",
        "| `[COUNT]` | how many |",
        r"| `--kind a\|b` | \<kind> |",
        "| `--old X`, `--new X` | two names |",
    ]
    assert options_table(parser, only=("quiet",)).splitlines()[2:] == ["| `--quiet` | no output |"]


def test_check_names_a_stale_page_and_changes_nothing(monkeypatch, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("old", encoding="utf-8")
    monkeypatch.setattr("schemas.generate.main", lambda arguments: 0)
    monkeypatch.setattr("scripts.generate_docs.generated_pages", lambda: {page: "new"})
    assert main(["--check"]) == 1
    assert (page.read_text(encoding="utf-8"), capsys.readouterr().out) == ("old", "page.md is out of date\n")
    assert main([]) == 0
    assert page.read_text(encoding="utf-8") == "new"
    assert main(["--check"]) == 0
