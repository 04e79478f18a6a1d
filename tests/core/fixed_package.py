"""Fixed entries of every kind; as a program, prints the digest of their package. Standard library only."""

from __future__ import annotations

import io

from airflow_sm_git.core.package import Entry, write_package

# What it must be for ever, on every machine: another one would make every package in S3 be built anew.
DIGEST = "d70d83dd1e3f5d31cf94d17f3bed724d1bf1fedc8ea61696a38fd1028353f7b6"


def one(path: str, content: bytes, **more: object) -> Entry:
    """An entry that holds its content."""
    return Entry(path, len(content), lambda: [content], **more)  # type: ignore[arg-type]


def fixed() -> list[Entry]:
    """The entries."""
    long = "d" * 90 + "/" + "e" * 90 + "/long.py"
    return [
        one("train.py", b"print('hello')\n", executable=True),
        one("requirements.txt", b""),
        one(long, b"x" * 511),
        one("f" * 120 + ".py", b"x" * 512),
        one("gr\u00fc\u00dfe/\u6f22\u5b57.py", b"x" * 513),
        one("links/here", b"../train.py", kind="symlink"),
        one("links/far", b"../" + long.encode(), kind="symlink"),
        one("data.bin", bytes(range(256)) * 5000),
    ]


if __name__ == "__main__":
    print(write_package(fixed(), io.BytesIO()).sha256)
