"""What pages and messages name exists: commands and their flags, files, links, headings, and names of `trainer`."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import trainer
from benchmarks.__main__ import build_parser as benchmarks_parser
from daemon.arguments import TRAINER_COMMANDS, build_parser
from schemas.program.parser import CommandParser
from scripts import dev
from scripts.devtools.markdown_blocks import blocks_of
from scripts.devtools.run_docs import pages
from trainer.dagger.settings import DaggerSettings
from trainer.programs import PROGRAMS

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path for name in ("daemon", "trainer", "schemas") for path in (ROOT / name).rglob("*.py"))
TOPS = "benchmarks|configs|daemon|docs|examples|schemas|scripts|tests|trainer"
IN_BACKQUOTES = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
COMMAND = re.compile(r"(?:hotlap(?= |$)|python -m (?:daemon|trainer|benchmarks|schemas|scripts)\b|python scripts/)")
#: benchmarks/out is what the benchmarks write
NAMED_FILE = re.compile(rf"(?<![\w./-])(?!benchmarks/out)(?:{TOPS})/[\w./-]*\w(?:\.\w+)?/?")
#: a word that stands for a value
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*(?:\.\w+)?")
#: flags of other programs, and a flag that does not exist, as an example of one
OTHER_FLAGS = {"--no-deps", "--force-reinstall", "--logdir", "--no-edit"}


class Parsed(Exception):
    """The words were parsed without an error. Its argument is the parser."""


class WrongCommand(Exception):
    """The words are not a command line of any program here."""


@pytest.fixture
def stop_after_parsing(monkeypatch):
    """End a program as soon as it has parsed its arguments."""
    for parser in (argparse.ArgumentParser, CommandParser):
        original = parser.parse_args

        def parse_args(self, args=None, namespace=None, original=original):
            original(self, args, namespace)
            raise Parsed(self)

        monkeypatch.setattr(parser, "parse_args", parse_args)


def check_command(line: str) -> None:
    """Parse a command line with the program's own parser. Raises WrongCommand."""
    words = [re.sub(r"[\[\]]", "", word) for word in shlex.split(line, comments=True)]
    words = ["status" if word == "COMMAND" else word for word in words]
    words = ["1" if PLACEHOLDER.fullmatch(word) else word for word in words if word.strip(".")]
    try:
        run_parser(words)
    except Parsed:
        return
    except SystemExit as end:
        if end.code:
            raise WrongCommand(f"{line}: its parser refuses it") from None


def run_parser(words: list[str]) -> None:
    program, arguments = (words[0], words[1:]) if words[0] == "hotlap" else (words[1], words[2:])
    if program == "-m":
        program, arguments = arguments[0], arguments[1:]
    if program in {"hotlap", "daemon", "trainer"}:
        commands = {*known_commands()} if program != "trainer" else {*PROGRAMS}
        if program == "trainer" and arguments and arguments[0] not in commands:
            arguments = ["train", *arguments]
        word = arguments[0] if arguments else ""
        if arguments in ([], [word]) and (word in {*commands, "", "1"}):  # a command that is named, and not run
            return
        if word in PROGRAMS:
            module, _, function = PROGRAMS[word].function.partition(":")
            getattr(import_module(module), function)(arguments[1:], prog="hotlap")
        build_parser().parse_args(arguments)
    elif program == "benchmarks":
        for name in (arguments[0] if arguments else "cycle").split("|"):
            benchmarks_parser().parse_args(["cycle" if name == "1" else name, *arguments[1:]])
    elif program == "scripts/dev.py":
        dev.parse(arguments or ["--help"])
    else:
        run_module(program, arguments)


def run_module(program: str, arguments: list[str]) -> None:
    path = ROOT / (program if program.endswith(".py") else program.replace(".", "/") + ".py")
    if not path.is_file():
        raise WrongCommand(f"{program} does not exist")
    if not arguments or "parse_args" not in path.read_text(encoding="utf-8"):
        return
    sys.argv[:] = [program, *arguments]
    main = import_module(path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")).main
    main(arguments) if main.__code__.co_argcount else main()


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    [commands] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(commands.choices)


def known_commands() -> set[str]:
    return set(subparsers(build_parser()))


def prose_of(text: str) -> str:
    """Return a page without its blocks."""
    lines, inside = [], False
    for line in text.splitlines():
        fence = line.strip().startswith("```")
        inside ^= fence
        lines.append("" if inside or fence else line)
    return "\n".join(lines)


def commands_of_page(text: str) -> list[str]:
    """Return the command lines in the text, and those in blocks."""
    inline = [" ".join(each.split()) for each in IN_BACKQUOTES.findall(prose_of(text).replace("\n", " "))]
    in_blocks = [
        line.partition(" #")[0].strip()
        for block in blocks_of(text)
        if block.language in {"bash", "text"}
        for line in block.body.splitlines()
    ]
    return [line for line in [*inline, *in_blocks] if COMMAND.match(line) and not line.endswith("=")]


def strings_of_code(path: Path) -> list[str]:
    """Return the string constants of a module that are not part of an f-string."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in parts)
    return [node.value for node in constants if isinstance(node.value, str)]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", pages(), ids=name_of)
@pytest.mark.torch  # the programs of the trainer load it before they parse
@pytest.mark.usefixtures("stop_after_parsing")
def test_commands_on_a_page_exist(path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    for line in commands_of_page(path.read_text(encoding="utf-8")):
        check_command(line)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
@pytest.mark.torch  # the programs of the trainer load it before they parse
@pytest.mark.usefixtures("stop_after_parsing")
def test_commands_in_messages_exist(path, monkeypatch):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    for text in strings_of_code(path):
        for line in IN_BACKQUOTES.findall(text):
            if re.match(r"hotlap [\w-]", line) and "{" not in line:
                check_command(line)


@pytest.mark.parametrize(
    "line",
    [
        "hotlap statsu",
        "hotlap status --jsno",
        "hotlap --cycels 3",
        "hotlap publish --epoch one",
        "hotlap online --confg x",
        "hotlap dagger --milestone",
        "python -m trainer onlien --steps 3",
        "python -m scripts.faults.soak --cycels 3",
        "python -m scripts.faults.sock",
        "python -m benchmarks cyle",
        "python scripts/dev.py paint",
        "python scripts/tarin.py",
    ],
)
@pytest.mark.torch  # the programs of the trainer load it before they parse
@pytest.mark.usefixtures("stop_after_parsing")
def test_a_wrong_command_is_found(line, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    with pytest.raises(WrongCommand):
        check_command(line)


@cache
def known_flags() -> frozenset[str]:
    """Return every flag of the programs in the checkout."""
    files = [path for top in ("daemon", "trainer", "scripts", "benchmarks") for path in (ROOT / top).rglob("*.py")]
    literals = {text for path in [*files, *MODULES] for text in strings_of_code(path)}
    return frozenset(
        {text for text in literals if re.fullmatch(r"--[\w-]+", text)}
        | {"--" + name.replace("_", "-") for name in DaggerSettings.__annotations__}
        | OTHER_FLAGS
    )


@pytest.mark.parametrize("path", pages(), ids=name_of)
def test_flags_on_a_page_exist(path):
    text = prose_of(path.read_text(encoding="utf-8"))
    flags = {flag for span in IN_BACKQUOTES.findall(text) for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", span)}
    assert sorted(flags - known_flags()) == []


#: the change log also names files of older versions
@pytest.mark.parametrize("path", [path for path in pages() if path.name != "CHANGELOG.md"], ids=name_of)
def test_files_on_a_page_exist(path):
    spans = IN_BACKQUOTES.findall(prose_of(path.read_text(encoding="utf-8")))
    named = {name for span in spans for name in NAMED_FILE.findall(span)}
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose_of(path.read_text(encoding="utf-8")), re.MULTILINE)
    found: set[str] = set()
    for heading in headings:
        slug = (
            re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()).strip().replace(" ", "-")
        )
        found.add(slug)
    return found


@pytest.mark.parametrize("path", pages(), ids=name_of)
def test_links_of_a_page_resolve(path):
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose_of(path.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert wrong == []


@pytest.mark.parametrize("path", pages(), ids=name_of)
def test_a_page_uses_only_public_names_of_trainer(path):
    text = path.read_text(encoding="utf-8")
    code = "\n".join(block.body for block in blocks_of(text) if block.language == "python")
    names = {
        name for names in re.findall(r"^from trainer import (.+)$", code, re.MULTILINE) for name in names.split(", ")
    }
    names |= set(re.findall(r"`trainer\.([A-Z]\w*|load_policy)\b", text))
    assert sorted(names - set(trainer.__all__)) == []
    assert re.findall(r"^(?:from|import) (?:trainer\.|daemon|schemas).*", code, re.MULTILINE) == []


@pytest.mark.torch  # the programs of the trainer load it before they parse
@pytest.mark.usefixtures("stop_after_parsing")
def test_the_page_of_the_command_line_names_every_command_and_flag():
    text = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    missing = [name for name in known_commands() if f"`hotlap {name}" not in text and name not in PROGRAMS]
    missing += [name for name in TRAINER_COMMANDS if f"`hotlap {name}`" not in text]
    wanted = {"train": ["1", "1"], "export": ["1", "1"], "clone": ["--demonstrations", "1"]}
    parsers = [build_parser(), *subparsers(build_parser()).values()]
    for name in TRAINER_COMMANDS:
        module, _, function = PROGRAMS[name].function.partition(":")
        with pytest.raises(Parsed) as parsed:
            getattr(import_module(module), function)(wanted.get(name, []), prog="hotlap")
        parsers += parsed.value.args
    numbers = {"--" + name.replace("_", "-") for name in DaggerSettings.__annotations__}  # the settings page has them
    flags = {flag for parser in parsers for action in parser._actions for flag in action.option_strings}
    flags -= {*numbers, "-h", "--help"}
    assert sorted([*missing, *(flag for flag in flags if not re.search(rf"{flag}\b", text))]) == []
