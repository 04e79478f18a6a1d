"""The checksums that S3 clients send and that the standard library can compute."""

from __future__ import annotations

import base64
import hashlib
import zlib

ALGORITHMS = ("crc32", "sha1", "sha256")


class Checksum:
    """A running checksum.

    :param algorithm: one of :data:`ALGORITHMS`.
    :raises ValueError: another one.
    """

    def __init__(self, algorithm: str) -> None:
        if algorithm not in ALGORITHMS:
            raise ValueError(algorithm)
        self.algorithm = algorithm
        self._crc = 0
        self._hash = None if algorithm == "crc32" else hashlib.new(algorithm, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        """Go on over ``data``."""
        if self._hash:
            self._hash.update(data)
        else:
            self._crc = zlib.crc32(data, self._crc)

    def value(self) -> str:
        """Base64 of the big-endian value, the form of the ``x-amz-checksum-*`` headers."""
        raw = self._hash.digest() if self._hash else self._crc.to_bytes(4, "big")
        return base64.b64encode(raw).decode()


def composite(algorithm: str, parts: list[str]) -> str:
    """Checksum of checksums of a multipart object (Amazon S3 User Guide, Checking object integrity).

    :param parts: the parts' base64 checksums, in order.
    """
    whole = Checksum(algorithm)
    for part in parts:
        whole.update(base64.b64decode(part))
    return f"{whole.value()}-{len(parts)}"
