"""pip's output in a few words."""

import io

import pytest

from scripts.devtools.checkout import Checkout
from scripts.devtools.pip_output import SetupProgress, describe_line, explain_failure

OUTPUTS = {
    "no network": (
        "WARNING: Retrying after 'NewConnectionError(...)'\nERROR: No matching distribution found for torch==2.13.0",
        "the package index did not answer",
    ),
    "disk": ("ERROR: Could not install packages: [Errno 28] No space left on device", "is full: free"),
    "no venv module": ("The virtual environment was not created because ensurepip is not available.", "python3."),
    "proxy": ("SSLError(SSLCertVerificationError(1, 'certificate verify failed'))", "PIP_CERT"),
    "in use": ("ERROR: [WinError 32] The process cannot access the file", "in use or not yours"),
    "no build": ("ERROR: No matching distribution found for torch==2.13.0", "no torch==2.13.0 for Python 3."),
    "no such pin": ("The user requested (constraint) rich==1.0\nResolutionImpossible", "no rich==1.0 for Python 3."),
    "something else": ("Collecting rich\nERROR: {weather} in the data centre\nbye", "ERROR: {weather}"),
    "silence": ("", "failed without output"),
}


@pytest.mark.parametrize(("output", "message"), OUTPUTS.values(), ids=OUTPUTS)
def test_a_failure_is_explained_in_one_line(root, output, message):
    line = explain_failure(output, Checkout(root))
    assert message in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("line", "described"),
    [
        ("Collecting torch==2.13.0 (from hotlap==0.1.0)", "looking up torch"),
        ("  Downloading torch-2.13.0-cp311-none-win_amd64.whl (122.1 MB)", "fetching torch 2.13.0 (122.1 MB)"),
        ("Processing /a b/torch-2.13.0+cpu-cp311.whl (from hotlap==0.1.0)", ""),
        ("Processing ./wheels/torch-2.13.0+cpu-cp311.whl (from hotlap==0.1.0)", "fetching torch 2.13.0"),
        ("Installing collected packages: rich, torch, hotlap", "installing torch 2.13.0 and 1 more"),
        ("Installing collected packages: hotlap", "installing only hotlap itself"),
        ("Requirement already satisfied: rich", ""),
    ],
)
def test_a_line_of_pip_is_described_in_a_few_words(root, line, described):
    assert describe_line(line, Checkout(root).pins()) == described


def test_progress_rewrites_one_line_on_a_terminal_and_writes_few_lines_elsewhere():
    class Screen(io.StringIO):
        def isatty(self):
            return True

    for out, shown in ((Screen(), 16), (io.StringIO(), 1)):
        clock = iter(x / 10 for x in range(100_000))
        progress = SetupProgress(out, now=lambda clock=clock: next(clock))
        progress.doing = "fetching torch"
        for _ in range(100):
            progress.tick()
        output = out.getvalue()
        assert output.count("fetching torch") >= shown
        assert output.count("\n") == (0 if out.isatty() else output.count("fetching torch"))
    assert output.startswith("[setup] fetching torch ... ")
