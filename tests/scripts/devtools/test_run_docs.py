"""Running a page's blocks: in order, in one folder, with every failure reported and every process ended."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest

from scripts.devtools import docs_workplace, run_docs
from scripts.devtools.docs_workplace import Workplace
from scripts.devtools.markdown_blocks import blocks_of
from tests.platforms import needs_posix

pytestmark = needs_posix("the pages' commands are for bash")


@pytest.fixture
def workplace(tmp_path):
    """Make a workplace whose environment has a Python and nothing else."""
    workplace = Workplace(run_docs.ROOT, tmp_path / "work")
    (workplace.pristine / "bin").mkdir(parents=True)
    (workplace.pristine / "bin" / "python").symlink_to(sys.executable)
    docs_workplace.link_tree(workplace.pristine, workplace.environment)
    workplace.original.mkdir()
    (workplace.original / "constraints.txt").write_text("torch==2.13.0\n")
    return workplace


def run(workplace: Workplace, page: str) -> list[str]:
    return list(run_docs.run_page(workplace, "page.md", blocks_of(page)))


def test_blocks_share_a_folder_that_is_empty_at_first_and_removed_at_the_end(workplace):
    page = '```bash\ntest -z "$(ls)"\necho 5 > a\n```\n```python\nassert open("a").read() == "5\\n"\n```\n'
    assert run(workplace, page) == []
    assert not workplace.page.exists()


def test_a_failure_is_reported_and_later_blocks_still_run(workplace, tmp_path, capsys):
    page = f"```bash\necho some output\nfalse\ntouch {tmp_path}/never\n```\n```bash\ntouch {tmp_path}/later\n```\n"
    assert run(workplace, page) == ["page.md:1: bash: exit code 1"]
    assert "some output" in capsys.readouterr().out
    assert (tmp_path / "later").exists()
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("page", ["```bash\nfalse | true\n```\n", "```python\nraise SystemExit(3)\n```\n"])
def test_a_failure_in_a_pipe_or_a_script_counts(workplace, page):
    assert len(run(workplace, page)) == 1


@pytest.mark.parametrize("block", ["json\n{1}", "toml\na = "])
def test_a_document_that_cannot_be_parsed_is_a_failure(workplace, block):
    language = block.partition("\n")[0]
    [line] = run(workplace, f"```{block}\n```\n")
    assert f"page.md:1: {language}: is not {language}" in line


def test_blocks_that_are_not_run_or_only_shown_change_nothing(workplace):
    assert run(workplace, '```bash no-run reason="x"\nfalse\n```\n```text\nfalse\n```\n') == []


def test_a_block_that_takes_too_long_is_ended_with_its_children(workplace, tmp_path, monkeypatch):
    monkeypatch.setattr(run_docs, "BLOCK_LIMIT_S", 1.0)
    [line] = run(workplace, f"```bash\nsleep 600 &\necho $! > {tmp_path}/pid\nwait\n```\n")
    assert "did not end within 1 s" in line
    deadline = time.monotonic() + 10.0  # a killed process needs the processor once more to end
    while is_running(tmp_path / "pid"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


CTRL_C = """\
```bash background
exec python -c '
import os, time
try:
    open("started", "w").close()
    time.sleep(600)
except KeyboardInterrupt:
    raise SystemExit(CODE)'
```
```bash
until test -e started; do :; done
```
"""


@pytest.mark.parametrize(("code", "failures"), [(0, 0), (1, 1)])
def test_a_background_block_gets_ctrl_c_and_must_end_with_0(workplace, code, failures):
    assert len(run(workplace, CTRL_C.replace("CODE", str(code)))) == failures


def test_a_background_block_that_ends_early_with_an_error_is_a_failure(workplace):
    [line] = run(workplace, "```bash background\nexit 5\n```\n```bash\ntrue\n```\n")
    assert line == "page.md:1: in the background: exit code 5"


def test_a_checkout_block_gets_a_clone_and_leaves_nothing_in_the_environment(workplace, tmp_path):
    page = "```bash checkout\ntest -e constraints.txt\ntouch ../env/bin/extra here\n```\n```bash\ntest ! -e here\n```\n"
    assert run(workplace, page) == []
    assert not workplace.clone.exists()
    assert [path.name for path in (workplace.environment / "bin").iterdir()] == ["python"]
    assert [path.name for path in workplace.original.iterdir()] == ["constraints.txt"]


def test_variables_of_the_caller_do_not_reach_a_block(workplace, monkeypatch):
    monkeypatch.setenv("HOTLAP_TRAINER__EPOCHS", "3")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert run(workplace, '```bash\nset -u\ntest -z "${HOTLAP_TRAINER__EPOCHS-}${PYTHONPATH-}"\n```\n') == []


def test_everything_is_removed_if_the_preparation_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_docs.tempfile, "mkdtemp", lambda prefix: str(tmp_path / "work"))
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(run_docs, "ROOT", tmp_path)  # not a git checkout
    assert len(run_docs.run_pages({})) == 1
    assert "preparation" in capsys.readouterr().out
    assert not (tmp_path / "work").exists()


def test_list_names_each_block_and_runs_none(capsys):
    assert run_docs.main(["--list", "--only", "other-engine"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("docs/guides/other-engine.md:") and line.endswith("run background") for line in lines)
    assert all(line.startswith("docs/guides/other-engine.md:") for line in lines)


def test_a_page_that_does_not_exist_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        run_docs.main(["--only", "unreel"])
    assert end.value.code == 2
    assert "unreel" in capsys.readouterr().err


def is_running(pid_file: Path) -> bool:
    try:
        return psutil.Process(int(pid_file.read_text())).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
