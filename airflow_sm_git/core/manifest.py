"""A package's manifest: which commit it was made of, and the hash of every file, so that anyone can check it."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from collections.abc import Mapping
from typing import IO, Any, BinaryIO

from airflow_sm_git.core.errors import BadParameter
from airflow_sm_git.core.records import SCHEMA

_CHUNK = 1 << 20


class ManifestWriter:
    """Writes a manifest while its package is written; holds none of it.

    ::

        {"schema": 1,
         "files": [
          {"path": "train.py", "mode": "0644", "size": 12, "sha256": "…"},
          {"path": "link", "target": "train.py"}],
         "repository": "…", "commit": "…", "tree": "…", "digest": "…", "file_count": 2, …}

    Sizes are bytes, ``digest`` is the SHA-256 of the uncompressed tar.

    :param out: binary file, written from where it stands.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._between = "\n"
        out.write(f'{{"schema": {SCHEMA},\n "files": ['.encode())

    def file(self, path: str, *, executable: bool, size: int, sha256: str) -> None:
        """Note a file."""
        self._entry({"path": path, "mode": "0755" if executable else "0644", "size": size, "sha256": sha256})

    def symlink(self, path: str, target: str) -> None:
        """Note a symlink."""
        self._entry({"path": path, "target": target})

    def _entry(self, entry: Mapping[str, Any]) -> None:
        self._out.write(f"{self._between}  {json.dumps(entry)}".encode())
        self._between = ",\n"

    def finish(self, head: Mapping[str, Any]) -> None:
        """Write what is known in the end.

        :param head: ``repository``, ``commit``, ``tree``, ``digest`` and the like.
        """
        text = json.dumps(head, indent=1).removeprefix("{\n")
        self._out.write(f"],\n{text}\n".encode())


def check_manifest(manifest: Mapping[str, Any], archive: IO[bytes]) -> None:
    """Hold a package against its manifest.

    :param manifest: the manifest's content.
    :param archive: the package, ``sourcedir.tar.gz``, from its beginning; seekable.
    :raises BadParameter: names the first difference.
    """
    archive.seek(0)
    digest = hashlib.sha256()
    with gzip.open(archive) as tar:
        while chunk := tar.read(_CHUNK):
            digest.update(chunk)
    expected = {entry["path"]: entry for entry in manifest["files"]}
    archive.seek(0)
    with tarfile.open(fileobj=archive, mode="r:gz") as package:
        for member in package:
            found = _described(package, member)
            if expected.pop(member.name, None) != found:
                raise BadParameter("archive", member.name, "is not what the manifest says", _REMEDY)
    if expected:
        raise BadParameter("archive", min(expected), "is in the manifest, but not in the package", _REMEDY)
    if digest.hexdigest() != manifest["digest"]:
        raise BadParameter("archive", digest.hexdigest(), "is not the digest that the manifest names", _REMEDY)


def _described(package: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    if member.issym():
        return {"path": member.name, "target": member.linkname}
    content = package.extractfile(member)
    if content is None:
        return {"path": member.name}
    sha256 = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]  # reads as a file does
    return {"path": member.name, "mode": f"{member.mode:04o}", "size": member.size, "sha256": sha256}


_REMEDY = "Build the package anew from the commit; find out who changed it."
