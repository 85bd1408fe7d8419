"""How a process ended, in words: exit codes, signals, and the codes with which Windows ends a program that crashed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

CONTROL_C = 0xC000013A
"""The exit code of a Windows process that Ctrl-C, Ctrl-Break or the end of its console has ended."""
NO_MEMORY = frozenset({0xC0000017, 0xC000009A, 0xC000012D})
_REDISTRIBUTABLE = "install the Visual C++ Redistributable (https://aka.ms/vs/17/release/vc_redist.x64.exe)"
_PAGE_FILE = "close other programs, or make the page file of Windows larger"
_CPU = "use a CPU with AVX2, or an older torch"
_SIGNALS = 64  #: on POSIX, -1 to -64 are signals


@dataclass(frozen=True, slots=True)
class WindowsExit:
    """A code with which Windows ends a process."""

    name: str
    remedy: str = ""
    is_final: bool = False  #: another start of the same program would end in the same way


WINDOWS_EXITS: Mapping[int, WindowsExit] = MappingProxyType(
    {
        0x40010004: WindowsExit("ended by a debugger"),
        0x40010005: WindowsExit("Ctrl-C"),
        0x40015: WindowsExit("abort"),
        0x80000003: WindowsExit("breakpoint"),
        0xC0000005: WindowsExit("access violation"),
        0xC0000006: WindowsExit("a file of the program could not be read", "check the disk or the network drive"),
        0xC0000008: WindowsExit("invalid handle"),
        0xC0000017: WindowsExit("no memory", _PAGE_FILE),
        0xC000001D: WindowsExit("illegal instruction", _CPU, is_final=True),
        0xC0000022: WindowsExit("access denied", "allow the program in your antivirus software", is_final=True),
        0xC0000025: WindowsExit("exception that cannot be continued"),
        0xC000007B: WindowsExit("invalid image", "install 64-bit Python and 64-bit packages only", is_final=True),
        0xC0000094: WindowsExit("integer division by zero"),
        0xC0000096: WindowsExit("privileged instruction"),
        0xC000009A: WindowsExit("insufficient system resources", _PAGE_FILE),
        0xC00000FD: WindowsExit("stack overflow"),
        0xC000012D: WindowsExit("commitment limit: memory and page file are full", _PAGE_FILE),
        0xC0000135: WindowsExit("DLL not found", _REDISTRIBUTABLE, is_final=True),
        0xC0000138: WindowsExit("ordinal not found in a DLL", _REDISTRIBUTABLE, is_final=True),
        0xC0000139: WindowsExit("entry point not found in a DLL", _REDISTRIBUTABLE, is_final=True),
        CONTROL_C: WindowsExit("Ctrl-C, or its console was closed"),
        0xC0000142: WindowsExit("DLL initialization failed", "log in again; Windows may be shutting down"),
        0xC0000144: WindowsExit("unhandled exception"),
        0xC000026B: WindowsExit("Windows is shutting down"),
        0xC0000374: WindowsExit("heap corruption"),
        0xC0000409: WindowsExit("stack buffer overrun, or abort"),
        0xC0000417: WindowsExit("invalid argument of a C function"),
        0xC000041D: WindowsExit("unhandled exception in a callback"),
        0xC0000420: WindowsExit("assertion failure"),
        0xC0000428: WindowsExit("invalid signature", "allow the file in Smart App Control", is_final=True),
        0xC0000602: WindowsExit("fail-fast exception"),
        0xC06D007E: WindowsExit("DLL not found when it was needed", _REDISTRIBUTABLE, is_final=True),
        0xC06D007F: WindowsExit("function not found in a DLL", _REDISTRIBUTABLE, is_final=True),
        0xCFFFFFFF: WindowsExit("ended because it did not respond"),
        0xE0434352: WindowsExit(".NET exception"),
        0xE06D7363: WindowsExit("C++ exception"),
    }
)


def unsigned(code: int, *, windows: bool = sys.platform == "win32") -> int:
    """Return an exit code of Windows as subprocess returns it: some programs print it as a negative number.

    On other systems, subprocess returns a signal as a small negative number, which is returned unchanged.
    """
    return code if code >= 0 or (code >= -_SIGNALS and not windows) else code & 0xFFFFFFFF


def is_crash(code: int, *, windows: bool = sys.platform == "win32") -> bool:
    """Return whether Windows or a signal ended the process, and not the program itself."""
    code = unsigned(code, windows=windows)
    return code < 0 or 0x80000000 <= code < 0xFFFF0000


def is_final(code: int) -> bool:
    """Return whether the process could not start or run on this machine, so that another start would fail as well."""
    known = WINDOWS_EXITS.get(unsigned(code))
    return known is not None and known.is_final


def exit_words(code: int | None, *, windows: bool = sys.platform == "win32") -> str:
    """Return how a process ended, such as "exit code 3", "signal 9 (SIGKILL)", "exit code 0xC0000005 (...)"."""
    if code is None:
        return "no exit code"
    code = unsigned(code, windows=windows)
    if code < 0:
        return f"signal {-code}{_signal_name(-code)}"
    if known := WINDOWS_EXITS.get(code):
        return f"exit code 0x{code:08X} ({known.name})"
    if is_crash(code, windows=windows):
        return f"exit code 0x{code:08X}"
    return f"exit code {code if code < 0x80000000 else code - (1 << 32)}"


def remedy(code: int | None) -> str:
    """Return what to do about an exit code, or "" if nothing is known."""
    known = None if code is None else WINDOWS_EXITS.get(unsigned(code))
    return "" if known is None else known.remedy


def with_remedy(text: str, code: int | None) -> str:
    """Return a sentence about a process, with what to do about its exit code if that is known."""
    hint = remedy(code)
    return f"{text} -> {hint}" if hint else text


def system_code(code: int) -> int:
    """Return a child's exit code as `sys.exit` can pass it on: Windows has 32 bits with a sign, a shell 128 + n."""
    code = unsigned(code)
    if code < 0:
        return 128 - code
    return code if code < 0x80000000 else code - (1 << 32)


def _signal_name(number: int) -> str:
    try:
        return f" ({signal.Signals(number).name})"
    except ValueError:
        return ""
