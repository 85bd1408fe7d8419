"""Every request to end acts as Ctrl-C, and Windows waits until the program has ended."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading

import pytest

from schemas.process import ending
from schemas.process.ending import act_as_ctrl_c, end_in_order
from schemas.process.session_window import CLOSE, END_SESSION, QUERY_END_SESSION, SessionWindow

NUMBERS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]


@pytest.fixture(autouse=True)
def _handlers_of_a_new_program():
    old = {number: signal.getsignal(number) for number in [*NUMBERS, signal.SIGINT]}
    for number in NUMBERS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    ending._is_closing.clear()
    for number, handler in old.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_request_to_end_acts_as_ctrl_c(number):
    with pytest.raises(KeyboardInterrupt), end_in_order():
        signal.raise_signal(number)
    received = []
    signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    with end_in_order():
        signal.raise_signal(number)
    assert received == [signal.SIGINT]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_that_is_ignored_or_handled_stays_so(number):
    received = []
    for handler in (signal.SIG_IGN, lambda number, frame: received.append(number)):
        signal.signal(number, handler)
        with end_in_order():
            signal.raise_signal(number)
        assert signal.getsignal(number) is handler
    assert received == [number]


def test_the_handlers_are_removed_at_the_end_also_after_an_error():
    for error in (None, RuntimeError):
        with contextlib.suppress(RuntimeError), end_in_order():
            assert [signal.getsignal(number) for number in NUMBERS] == [act_as_ctrl_c] * len(NUMBERS)
            if error is not None:
                raise error
        assert [signal.getsignal(number) for number in NUMBERS] == [signal.SIG_DFL] * len(NUMBERS)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGHUP is of POSIX")
def test_a_closed_terminal_sends_sighup_twice_and_counts_once():
    received = []
    signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    with end_in_order():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
    assert received == [signal.SIGINT]


def test_on_another_thread_nothing_is_changed():
    def run() -> None:
        with end_in_order():
            found.append(signal.getsignal(signal.SIGTERM))

    found: list[object] = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]


def test_a_service_continues_if_a_user_logs_off(monkeypatch):
    monkeypatch.setattr(ending, "is_service", lambda: True)
    assert ending.handle_console_event(ending.LOGOFF_EVENT)
    assert not ending.is_closing()


def test_a_program_that_does_not_handle_ctrl_c_leaves_the_end_to_windows():
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    assert [ending.handle_console_event(event) for event in range(7)] == [False] * 7


def test_the_window_answers_only_messages_about_the_end():
    calls: list[object] = []
    window = SessionWindow(on_end=calls.append, on_close=lambda: calls.append("close"))
    assert window.answer(QUERY_END_SESSION, 0, 0) == 1
    assert window.answer(END_SESSION, 0, 0) == 0
    assert calls == []
    assert [window.answer(END_SESSION, 1, 0), window.answer(END_SESSION, 1, 0x80000000)] == [0, 0]
    assert window.answer(CLOSE, 0, 0) == 0
    assert window.answer(0x1A, 0, 0) is None
    assert calls == [False, True, "close"]
