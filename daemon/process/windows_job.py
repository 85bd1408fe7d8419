"""A Windows job object that ends its processes when it is closed; the calls to the system lie behind a seam."""

from __future__ import annotations

import ctypes
import sys
from typing import Any, Protocol

CREATE_SUSPENDED = 0x4
KILL_ON_JOB_CLOSE = 0x2000
_EXTENDED_LIMIT_INFORMATION = 9
_PROCESS_SET_QUOTA_AND_TERMINATE = 0x0100 | 0x0001


class Kernel(Protocol):
    """The five calls of Windows that a job object is made of. Each raises OSError where it is refused."""

    def create_job(self) -> int:
        """Make a job that no child inherits a handle of."""

    def limit(self, job: int, flags: int) -> None:
        """Set the job's limit flags."""

    def assign(self, job: int, pid: int) -> None:
        """Put a process into the job."""

    def terminate(self, job: int) -> None:
        """End every process in the job."""

    def close(self, job: int) -> None:
        """Close the handle."""


class JobObject:
    """One job. Where the system refuses to make one, the lifeline and the token have to do."""

    def __init__(self, kernel: Kernel | None = None) -> None:
        self._kernel = kernel or windows_kernel()
        self._handle: int | None = None
        self.refusal: OSError | None = None  #: why it holds nothing
        try:
            self._handle = self._kernel.create_job()
            self._kernel.limit(self._handle, KILL_ON_JOB_CLOSE)
        except OSError as error:
            self._refuse(error)

    def assign(self, pid: int) -> None:
        """Put a process, and what it starts from now on, into the job."""
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
        """Close the only handle: what is still in the job ends. May be called again."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._kernel.close(handle)

    def _refuse(self, error: OSError) -> None:
        self.refusal = error
        self.close()


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
        def _checked(answer: Any) -> Any:
            if not answer:
                raise ctypes.WinError(ctypes.get_last_error())
            return answer

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
        """Return the system's own calls."""
        return _Kernel32()

else:

    def windows_kernel() -> Kernel:
        """Refuse: there are job objects on Windows alone. Raises OSError."""
        raise OSError("there are job objects on Windows alone")
