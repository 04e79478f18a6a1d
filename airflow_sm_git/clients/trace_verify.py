"""Hold what a trace has found against the bytes in S3: digests, manifests, and the code inside models' archives."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any

from airflow_sm_git.clients.s3 import Store
from airflow_sm_git.core import errors
from airflow_sm_git.core import trace_reading as reading
from airflow_sm_git.core.manifest import check_manifest
from airflow_sm_git.core.members import BROKEN, first_difference, members, parted, tar_digest
from airflow_sm_git.core.trace import Check, Node, title

_BYTES = "the digest of the bytes in S3"
_CODE = "code"
_SAME = "the same files"


def verify_tree(tree: Node, store: Store) -> None:
    """Add to every node of a tree the checks that can be made there; what cannot be read becomes a problem.

    Objects are downloaded once each, to temporary files.

    :param store: any one; objects of all buckets are read through it.
    :raises AwsError: S3 failed; a refusal or a missing object is a problem of its node.
    """
    with ExitStack() as stack:
        verifier = _Verifier(store, stack)
        verifier.node(tree, None)


class _Verifier:
    def __init__(self, store: Store, stack: ExitStack) -> None:
        self._store = store
        self._stack = stack
        self._files: dict[str, IO[bytes]] = {}

    def node(self, node: Node, parent: Node | None) -> None:
        with _as_problem(node):
            if node.kind == "Package":
                self._package(node, parent)
            elif node.kind == "ModelData" and node.facts.get("package_digest"):
                self._archive(node, parent)
            elif node.kind == "ModelData" and parent and parent.kind == "Model":
                _as_deployed(node, parent)
        for child in node.children:
            self.node(child, node)

    def _package(self, node: Node, parent: Node | None) -> None:
        digest = tar_digest(self._file(node.name))
        if not node.facts.get("digest"):
            node.problems.append("its metadata have no digest")
        said = {
            "its metadata": node.facts.get("digest"),
            "its key": reading.digest_in(node.name),
            title(parent) if parent else "": _digest_of(parent),
        }
        node.checks += [Check(_BYTES, digest, who, text) for who, text in said.items() if text]
        for commit in node.children:
            with _as_problem(commit):
                self._commit(commit, node, parent)

    def _commit(self, node: Node, package: Node, claimant: Node | None) -> None:
        """Hold the manifests of a commit against what the model or the job says, and the package against them."""
        manifests = {uri: self._manifest(uri) for uri in node.facts.get("manifests") or []}
        claims = claimant.facts if claimant and claimant.kind != "Manifest" else {}
        repo = claims.get("repo")
        # Another repository, such as a fork, may have the same commit and share the package.
        fitting = {uri: each for uri, each in manifests.items() if not repo or reading.says(repo, each["repository"])}
        for uri, manifest in (fitting or manifests).items():
            name = uri.rpartition("/")[2]
            if claimant and claims.get("commit"):
                node.checks += _held(manifest, claims, title(claimant))
            else:
                node.checks.append(Check("the commit in the manifest", manifest["commit"], "its key", node.name))
            expected = f"its {len(manifest['files'])} files"
            try:
                check_manifest(manifest, self._file(package.name))
                found = expected
            except errors.BadParameter as error:
                found = f"another: {error.value!r} {error.problem}"
            node.checks.append(Check("what is in the package", found, name, expected))

    def _archive(self, node: Node, parent: Node | None) -> None:
        if expected := _digest_of(parent):
            of = "the digest of the code put into it"
            node.checks.append(Check(of, node.facts["package_digest"], title(parent) if parent else "", expected))
        code, rest = parted(members(self._file(node.name)), _CODE)
        package = next((each for each in (parent or node).children if each.kind == "Package"), None)
        if package is None:
            node.problems.append("nothing says which package was put into it")
        else:
            difference = first_difference(code, members(self._file(package.name)))
            node.checks.append(Check(f"what is under {_CODE}/", difference or _SAME, "the package", _SAME))
        source = node.facts.get("made_of")
        if source:
            _, artefact = parted(members(self._file(source)), _CODE)
            difference = first_difference(rest, artefact)
            node.checks.append(Check("the rest", difference or _SAME, source, _SAME))

    def _manifest(self, uri: str) -> dict[str, Any]:
        manifest: dict[str, Any] = json.load(self._file(uri))
        return manifest

    def _file(self, uri: str) -> IO[bytes]:
        if uri not in self._files:
            self._files[uri] = self._stack.enter_context(_downloaded(self._store.read(uri)))
        self._files[uri].seek(0)
        return self._files[uri]


def _as_deployed(node: Node, model: Node) -> None:
    """Hold an archive in whose place another may have been put against what S3 told of it when it was deployed."""
    expected, found = model.facts.get("model_etag"), node.facts.get("etag")
    if expected and found:
        node.checks.append(Check("the ETag of the archive in S3", str(found), title(model), str(expected)))
    else:
        node.problems.append("nothing tells whether it is the archive that was deployed")


def _held(manifest: dict[str, Any], claims: dict[str, Any], claimant: str) -> Iterator[Check]:
    """Commit, tree and repository of a manifest against the tags of what runs the package."""
    for key, member in (("commit", "commit"), ("tree", "tree"), ("repo", "repository")):
        said, found = claims.get(key), str(manifest[member])
        if said:  # a tag may be cut
            yield Check(f"the {member} in the manifest", said if reading.says(said, found) else found, claimant, said)


@contextmanager
def _downloaded(chunks: Iterator[bytes]) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        for chunk in chunks:
            file.write(chunk)
        yield file


def _digest_of(parent: Node | None) -> str | None:
    digest = parent.facts.get("digest") if parent else None
    return str(digest) if digest else None


@contextmanager
def _as_problem(node: Node) -> Iterator[None]:
    """What cannot be read cannot be verified."""
    try:
        yield
    except (errors.NotFound, errors.AccessDenied, errors.BadParameter) as error:
        node.problems.append(f"not verified: {error.what}")
    except BROKEN as error:
        node.problems.append(f"not verified: it is not a whole tar archive: {error}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        node.problems.append(f"not verified: a manifest is not one: {error!r}")
