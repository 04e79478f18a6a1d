"""The directory of one job or model: its ``/opt/ml``, filled from S3 and emptied into it.

Layout and object names follow the SageMaker developer guide ("How Amazon SageMaker provides training information",
"How Amazon SageMaker processes training output") and the API reference of ``S3DataSource``.
"""

from __future__ import annotations

import errno
import json
import os
import posixpath
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_sm_git.local.errors import ApiError
from airflow_sm_git.local.objects import ObjectStore

_FAILURE_LIMIT = 65_536
_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE)


class DataError(Exception):
    """Data could not be brought in or taken out; the text is what FailureReason shall say."""


def parse_uri(uri: str) -> tuple[str, str]:
    """Bucket and key (or prefix) of an ``s3://`` URI.

    :raises DataError: it is not one.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket:
        raise DataError(f"ClientError: {uri!r} is not an S3 URI (s3://bucket/key)")
    return bucket, key


class Workspace:
    """The files of one job or model.

    :param root: its directory; made here, must not exist or be empty.
    :param objects: where S3 objects are.
    """

    def __init__(self, root: Path, objects: ObjectStore) -> None:
        self.root = root
        self.objects = objects
        self.ml = root / "ml"
        self.home = root / "home"
        self.temporary = root / "tmp"
        self.code = self.ml / "code"
        self.model = self.ml / "model"
        self.output = self.ml / "output"
        self.data = self.ml / "input" / "data"
        self.config = self.ml / "input" / "config"
        for folder in (self.home, self.temporary, self.code, self.model, self.output / "data", self.data, self.config):
            folder.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        """Delete everything, whatever the script has made: read-only directories, or ones nested deeper than a path."""

        def force(function: Any, path: str, _: object) -> None:
            os.chmod(os.path.dirname(path), 0o700)
            if not os.path.islink(path):  # the mode of what it points to is not ours
                os.chmod(path, 0o700)
            function(path)

        if not self.root.exists():
            return
        try:
            if sys.version_info >= (3, 12):
                shutil.rmtree(self.root, onexc=force)
            else:
                shutil.rmtree(self.root, onerror=force)
        except (OSError, RecursionError):
            subprocess.run(["/bin/rm", "-rf", "--", str(self.root)], stderr=subprocess.DEVNULL, check=False)

    def write_config(self, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Write the JSON files of ``/opt/ml/input/config``."""
        for name, content in files.items():
            (self.config / name).write_text(json.dumps(content))

    def download_channel(self, channel: Mapping[str, Any], *, mode: str, role: str, region: str) -> int:
        """Bring in one input channel.

        :param channel: element of ``InputDataConfig``.
        :param mode: ``File`` or ``FastFile`` (both become files on disk).
        :param role: ARN named in the message when there is no data.
        :returns: number of files.
        :raises DataError: no data, or a kind of channel that is not supported here.
        """
        name = channel["ChannelName"]
        if mode == "Pipe":
            raise DataError(
                f"ClientError: channel {name!r}: the local SageMaker has no input mode Pipe; use File or FastFile"
            )
        source = channel.get("DataSource", {}).get("S3DataSource")
        if not source:
            raise DataError(f"ClientError: channel {name!r}: the local SageMaker reads S3DataSource only")
        kind, uri = source.get("S3DataType", "S3Prefix"), source["S3Uri"]
        if kind not in ("S3Prefix", "ManifestFile"):
            raise DataError(f"ClientError: channel {name!r}: S3DataType {kind} is not supported by the local SageMaker")
        folder = self.data / name
        folder.mkdir(exist_ok=True)
        count = 0
        try:
            found = self._prefix(uri) if kind == "S3Prefix" else self._manifest(uri)
            for bucket, key, relative in found:
                self.fetch(bucket, key, inside(folder, relative))
                count += 1
        except ApiError as error:
            reason = self._no_data(uri, name, role, region)
            raise DataError(f"{reason} Error message from S3: {error.message}") from error
        if not count:
            raise DataError(self._no_data(uri, name, role, region))
        return count

    def fetch(self, bucket: str, key: str, target: Path) -> None:
        """Copy one object to a file, making its folder.

        :raises ApiError: NoSuchBucket, NoSuchKey.
        :raises DataError: another object's key makes its folder a file, or the reverse.
        """
        reader, _ = self.objects.open_read(bucket, key)
        try:
            with reader:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as writer:
                    shutil.copyfileobj(reader, writer, 1 << 20)
        except OSError as error:
            raise DataError(f"ClientError: Data download failed: s3://{bucket}/{key}: {error.strerror}") from error

    def unpack(self, uri: str, target: Path) -> None:
        """Extract a ``.tar.gz`` object into a directory.

        :raises DataError: it is not there, is not an archive, or has a member that would leave the directory.
        """
        bucket, key = parse_uri(uri)
        try:
            reader, _ = self.objects.open_read(bucket, key)
        except ApiError as error:
            raise DataError(f"{uri}: {error.message}") from error
        with reader:
            extract(reader, target, uri)

    def upload_directory(self, folder: Path, name: str, prefix: str, *, compress: bool) -> str | None:
        """Put a directory's content into S3, if it has any.

        :param folder: what to upload.
        :param name: name of the archive without ``.tar.gz``, and of the prefix of uncompressed files.
        :param prefix: S3 URI under which it goes.
        :param compress: one ``name.tar.gz``, or each file by itself below ``name/``.
        :returns: S3 URI of the archive or prefix; None if the directory is empty, or gone.
        :raises DataError: the bucket does not exist; or the script left what cannot be read, or leads out of it.
        """
        with self._told(folder):
            self._refuse_leaving(folder)
            try:
                entries = sorted(folder.iterdir())
            except FileNotFoundError:
                entries = []
            if not entries:
                return None
            bucket, base = parse_uri(prefix)
            try:
                if not compress:
                    self._upload_files(folder, bucket, f"{base}/{name}")
                    return f"{prefix}/{name}/"
                with tempfile.TemporaryFile(dir=self.root) as archive:
                    # Level 1: on one machine time counts more than size. Links go in as links.
                    with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=1) as tar:
                        for entry in entries:
                            tar.add(entry, entry.name)
                    archive.seek(0)
                    self.objects.write(bucket, f"{base}/{name}.tar.gz", archive)
                return f"{prefix}/{name}.tar.gz"
            except ApiError as error:
                raise DataError(f"ClientError: Failed to upload to {prefix}: {error.message}") from error

    def failure(self) -> str | None:
        """What the script left in ``/opt/ml/output/failure``, or None."""
        path = self.output / "failure"
        try:
            if self.leads_out(path) or not path.is_file():
                return None
            with path.open(errors="replace") as file:
                return file.read(_FAILURE_LIMIT)
        except OSError:
            return None

    def leads_out(self, path: Path) -> bool:
        """Whether a path of ours is, through symbolic links that the script has made, another place."""
        return os.path.realpath(path) != os.path.join(os.path.realpath(self.root), path.relative_to(self.root))

    def _refuse_leaving(self, folder: Path) -> None:
        if self.leads_out(folder):
            raise DataError(
                f"ClientError: {self._inside(folder)} is, or lies below, a symbolic link: "
                "the script must leave a directory there"
            )

    def _upload_files(self, folder: Path, bucket: str, base: str) -> None:
        for path, relative in files_below(folder, strict=True):
            with path.open("rb") as reader:
                self.objects.write(bucket, f"{base}/{relative}", reader)

    def _inside(self, folder: Path) -> str:
        return f"/opt/ml/{folder.relative_to(self.ml).as_posix()}"

    @contextmanager
    def _told(self, folder: Path) -> Iterator[None]:
        """Errors that the script's files cause, in the words of the script's world."""
        try:
            yield
        except RecursionError as error:
            raise DataError(f"ClientError: {self._inside(folder)}: directories are nested too deeply") from error
        except OSError as error:
            if error.errno in _OURS:
                raise
            raise DataError(f"ClientError: {self._inside(folder)} cannot be uploaded: {error.strerror}") from error

    def _prefix(self, uri: str) -> Iterator[tuple[str, str, str]]:
        bucket, prefix = parse_uri(uri)
        for info in self.objects.list(bucket, prefix):
            if not info.key.endswith("/"):
                yield bucket, info.key, relative_key(info.key, prefix)

    def _manifest(self, uri: str) -> Iterator[tuple[str, str, str]]:
        """API reference, S3DataSource: ``[{"prefix": "s3://…"}, "relative/path", …]``."""
        reader, _ = self.objects.open_read(*parse_uri(uri))
        with reader:
            try:
                head, *entries = json.load(reader)
                bucket, prefix = parse_uri(head["prefix"])
            except (ValueError, TypeError, KeyError) as error:
                raise DataError(f"ClientError: Data download failed: {uri} is not a manifest file") from error
        for entry in entries:
            yield bucket, prefix + entry, entry

    @staticmethod
    def _no_data(uri: str, channel: str, role: str, region: str) -> str:
        bucket = parse_uri(uri)[0]
        return (
            f'ClientError: Data download failed:No S3 objects found under S3 URL "{uri}" given in input data source '
            f'of channel "{channel}". Please ensure that the bucket exists in the selected region ({region}), '
            f"that objects exist under that S3 prefix, "
            f'and that the role "{role}" has "s3:ListBucket" permissions on bucket "{bucket}".'
        )


def relative_key(key: str, prefix: str) -> str:
    """Where an object found under ``prefix`` goes in its channel: what follows the prefix's last whole folder."""
    if key.startswith(prefix.rstrip("/") + "/") and key != prefix:
        return key[len(prefix.rstrip("/")) + 1 :]
    return key[prefix.rfind("/") + 1 :]


def inside(folder: Path, relative: str) -> Path:
    """``folder / relative``.

    :raises DataError: it would lie outside.
    """
    clean = posixpath.normpath(relative)
    if clean.startswith(("/", "../")) or clean in ("..", "."):
        raise DataError(f"ClientError: Data download failed: the key {relative!r} cannot be a file of the channel")
    return folder / clean


def files_below(folder: Path, *, strict: bool = False) -> Iterator[tuple[Path, str]]:
    """Every regular file below ``folder``, and its path relative to it, with ``/``.

    Symbolic links to directories are not followed, links to files only where they stay below ``folder``.

    :param strict: whether a link to a file elsewhere, and a directory that cannot be read, is an error.
    :raises DataError: such a link.
    :raises OSError: such a directory.
    """
    top = os.path.realpath(folder)

    def refuse(error: OSError) -> None:
        if strict:
            raise error

    found = [Path(place, name) for place, _, names in os.walk(folder, onerror=refuse) for name in names]
    for path in sorted(found):
        relative = path.relative_to(folder).as_posix()
        if not path.is_symlink() or os.path.commonpath([top, os.path.realpath(path)]) == top:
            if path.is_file():
                yield path, relative
        elif strict and path.exists():
            raise DataError(
                f"ClientError: {relative!r} is a symbolic link that leads out of its directory: copy the file"
            )


def extract(reader: Any, target: Path, name: str) -> None:
    """Extract a compressed tar file, refusing what would not stay inside.

    :param reader: binary file.
    :param name: what to call the archive in messages.
    :raises DataError: not an archive, or a member that is a device, or lies or points outside ``target``.
    """
    try:
        with tarfile.open(fileobj=reader, mode="r:*") as tar:
            for member in tar:
                _refuse_escape(member, target, name)
                member.uid = member.gid = 0
                member.uname = member.gname = ""
                member.mode = (member.mode & 0o755) | (0o700 if member.isdir() else 0o600)
                tar.extract(member, target, **_fully_trusted())
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{name} cannot be unpacked: {error}") from error


def _refuse_escape(member: tarfile.TarInfo, target: Path, name: str) -> None:
    root = os.path.realpath(target)
    reached = [member.name]
    if member.issym():
        reached.append(os.path.join(os.path.dirname(member.name), member.linkname))
    elif member.islnk():
        reached.append(member.linkname)
    places = [os.path.realpath(os.path.join(root, path)) for path in reached]
    outside = any(os.path.commonpath([root, place]) != root for place in places)
    if outside or not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        raise DataError(f"{name}: member {member.name!r} is a device or lies outside the archive's directory")


def _fully_trusted() -> dict[str, Any]:
    """Every member was checked; newer Pythons want to hear it (3.11.0 to 3.11.3 do not know the word)."""
    return {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
