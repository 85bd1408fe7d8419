"""A Windows job object that ends its processes when it is closed; tests replace the calls to the system."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from typing import Any, Protocol

CREATE_SUSPENDED = 0x4
KILL_ON_JOB_CLOSE = 0x2000
_EXTENDED_LIMIT_INFORMATION = 9
_PROCESS_SET_QUOTA_AND_TERMINATE = 0x0100 | 0x0001


class Kernel(Protocol):
    """The five Windows calls that a job object needs. Each raises OSError if Windows refuses it."""

    def create_job(self) -> int:
        """Create a job and return its handle, which children do not inherit."""

    def limit(self, job: int, flags: int) -> None:
        """Set the job's limit flags."""

    def assign(self, job: int, pid: int) -> None:
        """Put a process into the job."""

    def terminate(self, job: int) -> None:
        """End every process in the job."""

    def close(self, job: int) -> None:
        """Close the handle."""


class JobObject:
    """One job. If Windows refuses to create it, only the lifeline and the token end the processes."""

    def __init__(self, kernel: Kernel | None = None) -> None:
        self._kernel = kernel or windows_kernel()
        self._handle: int | None = None
        self.refusal: OSError | None = None  #: the error, if Windows refused the job or the process
        try:
            self._handle = self._kernel.create_job()
            self._kernel.limit(self._handle, KILL_ON_JOB_CLOSE)
        except OSError as error:
            self._refuse(error)

    def assign(self, pid: int) -> None:
        """Put a process into the job; its future descendants are in the job as well."""
        if self._handle is None:
            return
        try:
            self._kernel.assign(self._handle, pid)
        except OSError as error:
            self._refuse(error)

    def terminate(self) -> None:
        """End every process in the job."""
        if self._handle is not None:
            try:
                self._kernel.terminate(self._handle)
            except OSError as error:
                self.refusal = error

    def close(self) -> None:
        """Close the only handle, which ends the remaining processes. A second call does nothing."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._kernel.close(handle)

    def _refuse(self, error: OSError) -> None:
        self.refusal = error
        self.close()


def job_for_child() -> JobObject:
    """Return a new job for a child, after putting this process into a job that ends with it."""
    _job_of_this_process()
    return JobObject()


@functools.cache
def _job_of_this_process() -> JobObject:
    """Put this process into a job, so that Windows ends its children with it from the moment they exist.

    A child's own job does this only after the child was put into it: if this process were killed just before, the
    child would stay suspended forever. Nothing closes the job except the end of this process.
    """
    job = JobObject()
    job.assign(os.getpid())
    return job


class _BasicLimits(ctypes.Structure):
    _fields_ = (
        ("PerProcessUserTimeLimit", ctypes.c_int64),
        ("PerJobUserTimeLimit", ctypes.c_int64),
        ("LimitFlags", ctypes.c_uint32),
        ("MinimumWorkingSetSize", ctypes.c_size_t),
        ("MaximumWorkingSetSize", ctypes.c_size_t),
        ("ActiveProcessLimit", ctypes.c_uint32),
        ("Affinity", ctypes.c_size_t),
        ("PriorityClass", ctypes.c_uint32),
        ("SchedulingClass", ctypes.c_uint32),
    )


class _ExtendedLimits(ctypes.Structure):
    _fields_ = (
        ("BasicLimitInformation", _BasicLimits),
        ("IoInfo", ctypes.c_uint64 * 6),
        ("ProcessMemoryLimit", ctypes.c_size_t),
        ("JobMemoryLimit", ctypes.c_size_t),
        ("PeakProcessMemoryUsed", ctypes.c_size_t),
        ("PeakJobMemoryUsed", ctypes.c_size_t),
    )


if sys.platform == "win32":

    class _Kernel32:
        def __init__(self) -> None:
            self._dll = ctypes.WinDLL("kernel32", use_last_error=True)
            handle = ctypes.c_void_p
            self._dll.CreateJobObjectW.restype = handle
            self._dll.CreateJobObjectW.argtypes = (handle, ctypes.c_wchar_p)
            self._dll.OpenProcess.restype = handle
            self._dll.OpenProcess.argtypes = (ctypes.c_uint32, ctypes.c_int, ctypes.c_uint32)
            self._dll.SetInformationJobObject.argtypes = (handle, ctypes.c_int, handle, ctypes.c_uint32)
            self._dll.AssignProcessToJobObject.argtypes = (handle, handle)
            self._dll.TerminateJobObject.argtypes = (handle, ctypes.c_uint32)
            self._dll.CloseHandle.argtypes = (handle,)

        @staticmethod
        def _checked(result: Any) -> Any:
            if not result:
                raise ctypes.WinError(ctypes.get_last_error())
            return result

        def create_job(self) -> int:
            return int(self._checked(self._dll.CreateJobObjectW(None, None)))

        def limit(self, job: int, flags: int) -> None:
            limits = _ExtendedLimits()
            limits.BasicLimitInformation.LimitFlags = flags
            size = ctypes.sizeof(limits)
            self._checked(
                self._dll.SetInformationJobObject(job, _EXTENDED_LIMIT_INFORMATION, ctypes.byref(limits), size)
            )

        def assign(self, job: int, pid: int) -> None:
            process = self._checked(self._dll.OpenProcess(_PROCESS_SET_QUOTA_AND_TERMINATE, False, pid))
            try:
                self._checked(self._dll.AssignProcessToJobObject(job, process))
            finally:
                self._dll.CloseHandle(process)

        def terminate(self, job: int) -> None:
            self._checked(self._dll.TerminateJobObject(job, 1))

        def close(self, job: int) -> None:
            self._dll.CloseHandle(job)

    def windows_kernel() -> Kernel:
        """Return the calls of Windows."""
        return _Kernel32()

else:

    def windows_kernel() -> Kernel:
        """Raise OSError: only Windows has job objects."""
        raise OSError("only Windows has job objects")
