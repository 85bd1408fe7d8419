"""The number of threads: more than one only if it saves time and keeps the result, and if cores are free."""

import pytest

from trainer.common.threads import ThreadCount, counts_to_try, tune_thread_count


@pytest.mark.parametrize(
    ("seconds", "differs", "chosen"),
    [
        ({1: 1.0, 2: 0.6, 4: 0.5}, 0, 4),
        ({1: 1.0, 2: 0.6, 4: 0.59}, 0, 2),
        ({1: 1.0, 2: 0.99, 4: 0.1}, 0, 1),
        ({1: 1.0, 2: 0.5, 4: 0.4}, 2, 1),
        ({1: 1.0, 2: 0.5, 4: 0.3}, 4, 2),
    ],
)
def test_more_threads_are_used_only_if_they_save_time_and_keep_the_result(seconds, differs, chosen):
    count = tune_thread_count(seconds.__getitem__, lambda n: n != differs, [2, 4])
    assert count == ThreadCount(chosen, 1.0)


def test_contended_cores_mean_one_thread_for_a_while_and_longer_each_time():
    count = ThreadCount(2, 0.1)
    assert count.checked(0.12) == count
    pauses = []
    for _ in range(9):
        count = count.checked(0.14)
        pauses.append(0)
        while count.current == 1:
            pauses[-1] += 1
            count = count.checked(0.1)
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    assert ThreadCount(1, 0.1).checked(9.0) == ThreadCount(1, 0.1)


def test_no_more_threads_than_cores_are_tried(monkeypatch):
    for cores, tried in ((1, []), (2, [2]), (6, [2, 4]), (64, [2, 4, 8])):
        monkeypatch.setattr("trainer.common.threads.os.cpu_count", lambda cores=cores: cores)
        assert counts_to_try() == tried


def test_cores_that_another_process_needs_are_left_out(monkeypatch):
    monkeypatch.setattr("trainer.common.threads._busy_cores", 1)
    for cores, tried in ((1, []), (2, []), (4, [2]), (5, [2, 4]), (64, [2, 4, 8])):
        monkeypatch.setattr("trainer.common.threads.os.cpu_count", lambda cores=cores: cores)
        assert counts_to_try() == tried
