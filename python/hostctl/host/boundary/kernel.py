"""The calls of the Linux kernel that Python's os module lacks: prctl(2), capset(2) and openat2(2)."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct

_LIBC = ctypes.CDLL(None, use_errno=True)

# include/uapi/linux/prctl.h
_PARENT_DEATH_SIGNAL, _DUMPABLE, _NO_NEW_PRIVILEGES, _AMBIENT, _CLEAR_ALL = 1, 4, 38, 47, 4
# include/uapi/linux/capability.h: two sets of three words of 32 bits
_CAPABILITY_VERSION, _CAPABILITY_WORDS = 0x20080522, 6
_OPENAT2 = 437  # the same on every architecture
# include/uapi/linux/openat2.h
_NO_MAGIC_LINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _prctl(option: int, value: int) -> None:
    _check(_LIBC.prctl(option, *(ctypes.c_ulong(each) for each in (value, 0, 0, 0))))


def forbid_new_privileges() -> None:
    """From now on no program that this process starts gains privileges, by a set-user-ID bit or otherwise."""
    _prctl(_NO_NEW_PRIVILEGES, 1)


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends. A change of the user forgets it."""
    _prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def hide_memory() -> None:
    """Forbid other processes of this process's user to trace it, to read its memory and to use its handles."""
    _prctl(_DUMPABLE, 0)


def drop_capabilities() -> None:
    """Empty the sets of capabilities of this process. Raises OSError if one is left."""
    _prctl(_AMBIENT, _CLEAR_ALL)
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    _check(_LIBC.capset(header, struct.pack(f"={_CAPABILITY_WORDS}I", *[0] * _CAPABILITY_WORDS)))
    if any(capabilities()):
        raise OSError(errno.EPERM, "a capability is left")


def capabilities() -> tuple[int, ...]:
    """The words of this process's sets of capabilities, which are all 0 if it has none."""
    sets = ctypes.create_string_buffer(4 * _CAPABILITY_WORDS)
    _check(_LIBC.capget(struct.pack("=Ii", _CAPABILITY_VERSION, 0), sets))
    return struct.unpack(f"={_CAPABILITY_WORDS}I", sets.raw)


def open_beneath(directory: int, path: str, flags: int, mode: int) -> int:
    """openat2(2) that follows no link and does not leave the directory. Returns the new handle.

    Raises OSError: ELOOP for a link, EXDEV for a path that leads outside, ENOSYS on a kernel before 5.6.
    """
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, _BENEATH | _NO_SYMLINKS | _NO_MAGIC_LINKS)
    return _check(_LIBC.syscall(_OPENAT2, directory, os.fsencode(path), how, ctypes.c_size_t(len(how))))
