"""The table of what ran on Windows Python."""

import pytest

from scripts.windows import table
from scripts.windows.progress import SetupError

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest" errors="1" failures="1" skipped="2" tests="6">
<testcase classname="tests.daemon.ui.test_log" name="test_a" time="0.1" />
<testcase classname="tests.daemon.ui.test_log" name="test_b[x|y]" time="0.1">
<failure message="no">text</failure></testcase>
<testcase classname="tests.daemon.ui.test_log" name="test_c" time="0.1">
<skipped type="pytest.skip" message="POSIX: FIFOs">Z:\\tests\\x.py:1: POSIX: FIFOs</skipped></testcase>
<testcase classname="tests.daemon.ui.test_log" name="test_d" time="0.1">
<skipped type="pytest.skip" message="POSIX: FIFOs">Z:\\tests\\x.py:2: POSIX: FIFOs</skipped></testcase>
<testcase classname="tests.daemon.ui.test_log" name="test_e" time="0.1"><error message="setup">text</error></testcase>
<testcase classname="tests.daemon.ui.test_log" name="test_f" time="0.1" />
</testsuite></testsuites>
"""


def test_a_report_of_pytest_is_counted():
    result = table.read_result("tests/daemon/ui", REPORT)
    assert (result.passed, len(result.failed), result.skipped) == (2, 2, {"POSIX: FIFOs": 2})
    assert result.failed[0] == "tests/daemon/ui/test_log::test_b[x|y]"


def test_large_folders_are_split_and_every_test_file_is_in_one_run(tmp_path):
    files = ["daemon/test_cli.py", "daemon/ui/test_log.py", "schemas/test_text.py", "schemas/storage/test_files.py"]
    for name in [*files, "arch/test_words.py", "data/x.json", "daemon/conftest.py"]:
        path = tmp_path / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert table.pieces(tmp_path / "tests") == {
        "tests/daemon": ["tests/daemon/test_cli.py"],
        "tests/daemon/ui": ["tests/daemon/ui"],
        "tests/schemas": ["tests/schemas"],
    }


def test_the_table_replaces_the_earlier_one_and_nothing_else(tmp_path):
    page = tmp_path / "windows.md"
    page.write_text(f"# Windows\n\n{table.BEGIN}\nearlier\n{table.END}\n\nend\n", encoding="utf-8")
    crashed = table.Result("tests/e2e", problem="ended with exit code 5 and without a result", seconds=3.0)
    lines = table.as_markdown(
        [table.read_result("tests/daemon/ui", REPORT), crashed], ["| `hotlap` | 0 | 9 | 1 % |"], "Python 3.13"
    )
    table.replace_table(page, lines)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# Windows\n\n{table.BEGIN}\nPython 3.13. `load`")
    assert "| program | exit code | s | load |\n|---|---|---|---|\n| `hotlap` | 0 | 9 | 1 % |\n" in text
    assert text.endswith(f"\n{table.END}\n\nend\n")
    assert "| `tests/daemon/ui` | 2 | 2 | 2 | 0 | 0 % |" in text
    assert "| `tests/e2e` | ended with exit code 5 and without a result ||| 3 | 0 % |" in text
    assert "| all | 2 | 2 | 2 | 3 | |" in text
    assert "| 2 | POSIX: FIFOs |" in text
    assert "earlier" not in text


def test_the_results_of_an_earlier_run_are_read_back(tmp_path):
    result = table.read_result("tests/daemon/ui", REPORT)
    store = tmp_path / "results.json"
    assert table.load_results(store) == ([], {})
    table.save_results(store, ["| `hotlap` | 0 | 9 | 1 % |"], [result])
    assert table.load_results(store) == (["| `hotlap` | 0 | 9 | 1 % |"], {"tests/daemon/ui": result})


def test_a_page_without_the_marks_is_refused(tmp_path):
    page = tmp_path / "windows.md"
    page.write_text("# Windows\n", encoding="utf-8")
    with pytest.raises(SetupError, match="add them where the table belongs"):
        table.replace_table(page, "x")
    assert page.read_text(encoding="utf-8") == "# Windows\n"


def test_a_reason_has_no_folders_of_this_machine():
    reason = r"Windows: it does not allow this name: 'C:\users\me\Temp\[x]*'"
    assert table.escape(reason) == "Windows: it does not allow this name: '[x]*'"
