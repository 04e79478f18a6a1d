"""S3: packages and models put once under what they contain, answers and inputs beside them."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_git.clients.s3_upload import Taken, upload
from airflow_sm_git.clients.sagemaker import translate
from airflow_sm_git.core import errors
from airflow_sm_git.core.checks import split_s3_uri
from airflow_sm_git.core.names import short_hash

_CHUNK = 1 << 20
_LONGEST_METADATA = 1500


class Store:
    """One prefix of one bucket.

    :param client: a boto3 ``s3`` client.
    :param prefix: S3 URI, such as ``s3://bucket/sm-git/``.
    :param expected_owner: account id that must own the bucket (``ExpectedBucketOwner``), or None.
    """

    def __init__(self, client: Any, prefix: str, *, expected_owner: str | None = None) -> None:
        self._client = client
        self.bucket, key = split_s3_uri("s3_uri_prefix", prefix)
        self._prefix = f"{key.rstrip('/')}/" if key.strip("/") else ""
        self._owner = {"ExpectedBucketOwner": expected_owner} if expected_owner else {}

    def uri(self, key: str) -> str:
        """The S3 URI of a key below the prefix."""
        return f"s3://{self.bucket}/{self._prefix}{key}"

    def head(self, uri: str) -> dict[str, Any] | None:
        """HeadObject of any object, or None if there is none."""
        bucket, key = split_s3_uri("s3_uri", uri)
        owner = self._owner if bucket == self.bucket else {}
        try:
            return self._call("head_object", bucket, key, **owner)
        except errors.NotFound:
            return None

    def put_once(self, key: str, body: IO[bytes], metadata: dict[str, str]) -> tuple[str, bool]:
        """Put an object whose key tells its content; an existing one is left as it is.

        :param metadata: what it is to be known by; the ``digest`` of an existing object must be the same.
        :return: its URI, and whether it was there already.
        :raises AwsError: S3 refused it: no such bucket, another owner, no permission, a checksum that does not fit; or
            what is there has another digest.
        """
        uri = self.uri(key)
        if self._is_there(uri, metadata):
            return uri, True
        body.seek(0)
        try:
            upload(self._client, self.bucket, f"{self._prefix}{key}", body, metadata=metadata, owner=self._owner)
        except Taken as error:
            if self._is_there(uri, metadata):
                return uri, True
            what = f"PutObject for {uri} met another writer, who has left nothing there."
            raise errors.ServiceFault(what, "Try again.", operation="PutObject") from error
        except (ClientError, BotoCoreError) as error:
            raise translate(error, "PutObject", uri) from error
        return uri, False

    def _is_there(self, uri: str, metadata: dict[str, str]) -> bool:
        found = self.head(uri)
        if found is None:
            return False
        digest = found["Metadata"].get("digest")
        if metadata.get("digest", digest) != digest:
            what = f"{uri} has the digest {digest!r} in its metadata, where {metadata['digest']!r} belongs."
            raise errors.AwsError(what, "Find out who put it there, and delete it.", operation="HeadObject")
        return True

    def put(self, key: str, body: bytes, content_type: str) -> str:
        """Put a small object, in place of what is there.

        :return: its URI.
        """
        self._call(
            "put_object", self.bucket, f"{self._prefix}{key}", Body=body, ContentType=content_type, **self._owner
        )
        return self.uri(key)

    def put_directory(self, directory: Path) -> str:
        """Put a local file or directory under the digest of its content.

        :return: the URI of the prefix that holds its files.
        :raises BadParameter: there is no such path, or nothing in it.
        """
        files = sorted(p for p in directory.rglob("*") if p.is_file()) if directory.is_dir() else [directory]
        files = [path for path in files if path.is_file()]
        if not files:
            raise errors.BadParameter(
                "inputs", f"file://{directory}", "has no files", "Name a file or a filled directory."
            )
        root = directory if directory.is_dir() else directory.parent
        hashes = {path.relative_to(root).as_posix(): _sha256(path) for path in files}
        key = f"inputs/{short_hash(hashes)}"
        for path in files:
            name = path.relative_to(root).as_posix()
            with path.open("rb") as body:
                self.put_once(f"{key}/{name}", body, {"sha256": hashes[name]})
        return self.uri(f"{key}/")

    def repack(self, model_data: str, package: str, digest: str) -> str:
        """Put a model.tar.gz made of a model's artefact and, under ``code/``, a package.

        Keyed by what went in, so that a second deploy of both finds it. Streamed: neither is held in memory.

        :param model_data: S3 URI of the training job's model.tar.gz.
        :param package: S3 URI of sourcedir.tar.gz.
        :param digest: the package's digest.
        :raises NotFound: the model or the package is not there.
        """
        head = self.head(model_data)
        if head is None:
            raise errors.NotFound(f"There is no model at {model_data}.", "Check that the training job saved one.")
        key = f"models/{short_hash([model_data, head['ETag'], head['ContentLength'], digest])}/model.tar.gz"
        if self.head(self.uri(key)) is not None:
            return self.uri(key)
        with tempfile.TemporaryFile() as out:
            with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as target:
                self._copy_members(model_data, target, "", skip="code")
                self._copy_members(package, target, "code/")
            self.put_once(key, out, {"package-digest": digest, **_made_of(model_data, package)})
        return self.uri(key)

    def _copy_members(self, uri: str, target: tarfile.TarFile, prefix: str, skip: str | None = None) -> None:
        with tempfile.TemporaryFile() as spool:
            for chunk in self.read(uri):
                spool.write(chunk)
            spool.seek(0)
            try:
                _copy_archive(spool, target, prefix, skip)
            except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
                problem = f"is not a whole tar archive: {error}"
                raise errors.BadParameter("model_data", uri, problem, "Give what the training job saved.") from error

    def read(self, uri: str) -> Iterator[bytes]:
        """The bytes of any object, in chunks.

        :raises NotFound: there is none.
        """
        bucket, key = split_s3_uri("s3_uri", uri)
        body = self._call("get_object", bucket, key)["Body"]
        try:
            yield from body.iter_chunks(_CHUNK)
        except BotoCoreError as error:  # it broke off
            raise translate(error, "GetObject", uri) from error
        finally:
            body.close()

    def uris(self, prefix: str) -> Iterator[str]:
        """The URIs of all objects whose URI begins with a text, in the order of their keys."""
        bucket, key = split_s3_uri("s3_uri", prefix)
        more: dict[str, str] = {}
        while True:
            answer = self._ask("list_objects_v2", prefix, Bucket=bucket, Prefix=key, **more)
            yield from (f"s3://{bucket}/{item['Key']}" for item in answer.get("Contents", []))
            if not answer.get("NextContinuationToken"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def delete(self, uri: str) -> None:
        """Delete an object; it is no error if there is none."""
        bucket, key = split_s3_uri("s3_uri", uri)
        self._call("delete_object", bucket, key)

    def _call(self, method: str, bucket: str, key: str, **request: Any) -> dict[str, Any]:
        return self._ask(method, f"s3://{bucket}/{key}", Bucket=bucket, Key=key, **request)

    def _ask(self, method: str, uri: str, **request: Any) -> dict[str, Any]:
        operation = "".join(part.capitalize() for part in method.split("_"))
        try:
            answer: dict[str, Any] = getattr(self._client, method)(**request)
        except (ClientError, BotoCoreError) as error:
            raise translate(error, operation, uri) from error
        return answer


def _made_of(model_data: str, package: str) -> dict[str, str]:
    """What leads from a repacked model back to its job's. Metadata are ASCII, of 2 KB in all (S3 user guide)."""
    metadata = {"model-data": quote(model_data, safe="/:"), "package": quote(package, safe="/:")}
    return metadata if len("".join(metadata.values())) <= _LONGEST_METADATA else {}


def _copy_archive(archive: IO[bytes], target: tarfile.TarFile, prefix: str, skip: str | None) -> None:
    with tarfile.open(fileobj=archive, mode="r:*") as source:
        for member in source:
            name = member.name.removeprefix("./").strip("/")
            if not name or name == "." or (skip and (name == skip or name.startswith(f"{skip}/"))):
                continue
            member.name = prefix + name
            if member.islnk():
                member.linkname = prefix + member.linkname.removeprefix("./")
            # tarfile writes what it read into these in preference to the names just set
            member.pax_headers = {k: v for k, v in member.pax_headers.items() if k not in ("path", "linkpath")}
            target.addfile(member, source.extractfile(member) if member.isreg() else None)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
