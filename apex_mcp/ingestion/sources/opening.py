"""Opens a file at exactly the path that was accepted: no link on the way is followed.

Between the moment in which a path is checked against the roots and the one in which it is read, a link may have taken the
place of the file or of a folder above it. What was accepted is a real path, with no link in it, so following none while
opening is enough: what is opened lies where the checked path says.
"""

import errno
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

# Opening a pipe must not wait for its writer.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class MovedError(OSError):
    """A link stands where there was none."""


class NotRegularError(OSError):
    """A pipe, a device or a folder stands there."""


def open_unmoved(path: Path) -> BinaryIO:
    """Open a file for reading.

    Args:
        path: absolute and real: as `Path.resolve` gave it.

    Raises:
        MovedError: the way to it leads over a link by now.
        NotRegularError: it is no regular file.
        OSError: it has gone, or cannot be opened.
    """
    descriptor = _open(path)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotRegularError(errno.EINVAL, "not a regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


if sys.platform == "win32":
    import ctypes
    import msvcrt

    _LONGEST = 32_768

    def _open(path: Path) -> int:
        """Windows cannot be told to follow no link on the way, but says where an open file is."""
        descriptor = os.open(path, _FLAGS)
        try:
            if os.path.normcase(_place(descriptor)) != os.path.normcase(path):
                raise MovedError(errno.ELOOP, "a link on the way")
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _place(descriptor: int) -> str:
        name = ctypes.create_unicode_buffer(_LONGEST)
        ask = ctypes.windll.kernel32.GetFinalPathNameByHandleW
        ask.argtypes = (ctypes.c_void_p, ctypes.c_wchar_p, ctypes.c_uint32, ctypes.c_uint32)
        length: int = ask(msvcrt.get_osfhandle(descriptor), name, _LONGEST, 0)
        if not 0 < length < _LONGEST:
            raise ctypes.WinError()
        for prefix, plain in (("\\\\?\\UNC\\", "\\\\"), ("\\\\?\\", "")):
            if name.value.startswith(prefix):
                return plain + name.value[len(prefix) :]
        return name.value

elif sys.platform == "darwin":

    def _open(path: Path) -> int:
        try:
            return os.open(path, _FLAGS | os.O_NOFOLLOW_ANY)
        except OSError as error:
            raise _as_moved(error) from error

else:
    # A folder on the way need not be readable, only passable.
    _FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

    def _open(path: Path) -> int:
        """One name after the other, each below the folder that the one before opened."""
        folder = os.open(path.anchor, _FOLDER)
        try:
            for name in path.parts[1:-1]:
                below = _enter(name, _FOLDER, folder)
                os.close(folder)
                folder = below
            return _enter(path.name, _FLAGS | os.O_NOFOLLOW, folder)
        finally:
            os.close(folder)

    def _enter(name: str, flags: int, folder: int) -> int:
        try:
            return os.open(name, flags, dir_fd=folder)
        except NotADirectoryError as error:
            # Of a link, too, the system says that it is no folder.
            if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise MovedError(errno.ELOOP, "a link on the way") from error
            raise
        except OSError as error:
            raise _as_moved(error) from error


if sys.platform != "win32":

    def _as_moved(error: OSError) -> OSError:
        return MovedError(errno.ELOOP, "a link on the way") if error.errno == errno.ELOOP else error
