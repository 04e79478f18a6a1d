"""How much a package may hold. What exceeds it is refused early: no commit can fill a worker's disk or memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The settings of the same names, section ``[sm_git]``.

    :param max_files: files and symlinks of a package.
    :param max_file_size: bytes of one file.
    :param max_package_size: bytes of all files together, before compression.
    """

    max_files: int = 100_000
    max_file_size: int = 1 << 30
    max_package_size: int = 2 << 30


DEFAULTS = Limits()
