"""The part of a trace that lies in S3: packages, their manifests and commits, models' archives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from airflow_sm_git.clients.s3 import Store
from airflow_sm_git.core import errors
from airflow_sm_git.core import trace_reading as reading
from airflow_sm_git.core.trace import Node

MAX_READ = 20
"""Manifests of so many commits are read to say where a package comes from; the others are listed."""
_NO_MANIFEST = (ValueError, KeyError, TypeError, AttributeError)


class Objects:
    """Objects of S3 as nodes. What is missing, or may not be seen, is a problem of its node.

    :param store: any one; objects of all buckets are read through it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def is_there(self, uri: str) -> bool:
        """Whether there is such an object."""
        return self._store.head(uri) is not None

    def package(self, uri: str, claims: Mapping[str, Any]) -> Node:
        """A package with the commits that it may be of.

        :param claims: what refers to it says: commit, tree, repo. Without a commit, all that have a manifest are shown.
        """
        node = Node("Package", uri)
        metadata = self._head(node, uri).get("Metadata", {})
        node.facts |= {"digest": metadata.get("digest"), "first_put_for_commit": metadata.get("commit")}
        manifests = reading.manifests_by_commit(self._beside(node, uri))
        if claims.get("commit"):
            node.children.append(self._claimed(claims, manifests.get(claims["commit"], [])))
            return node
        for number, (commit, uris) in enumerate(sorted(manifests.items())):
            node.children.append(self._commit(commit, uris, is_read=number < MAX_READ))
        if not node.children:
            node.problems.append("nothing says of which commit it is")
        return node

    def manifest(self, uri: str) -> Node:
        """A manifest with its package."""
        node = Node("Manifest", uri)
        node.facts |= self._described(node, uri)
        package = f"{uri.rpartition('/')[0]}/sourcedir.tar.gz"
        node.children.append(self.package(package, {**node.facts, "commit": reading.commit_in(uri)}))
        return node

    def model_data(self, uri: str, *, with_package: bool) -> tuple[Node, str | None]:
        """A model's archive, and the URI of the artefact that is in it; its own, unless a deploy has repacked it.

        :param with_package: whether to show the package that was put into it.
        """
        node = Node("ModelData", uri)
        head = {} if uri.endswith("/") else self._head(node, uri)
        metadata = head.get("Metadata", {})
        node.facts["etag"] = head.get("ETag")
        node.facts["package_digest"] = metadata.get("package-digest")
        if "package-digest" not in metadata:
            return node, uri
        if with_package and "package" in metadata:
            node.children.append(self.package(unquote(metadata["package"]), {}))
        if "model-data" not in metadata:
            node.problems.append("it does not say which model the code was put into")
            return node, None
        node.facts["made_of"] = unquote(metadata["model-data"])
        return node, node.facts["made_of"]

    def _claimed(self, claims: Mapping[str, Any], uris: list[str]) -> Node:
        facts = {"repo": claims.get("repo"), "tree": claims.get("tree"), "manifests": uris or None}
        node = Node("Commit", claims["commit"], facts)
        if not uris:
            node.problems.append("no manifest of this commit lies beside the package")
        return node

    def _commit(self, commit: str, uris: list[str], *, is_read: bool) -> Node:
        node = Node("Commit", commit)
        if is_read:
            described = self._described(node, uris[0])
            node.facts |= {key: described.get(key) for key in ("repo", "tree")}
        node.facts["manifests"] = uris
        return node

    def _described(self, node: Node, uri: str) -> dict[str, Any]:
        """What a manifest says of its package."""
        try:
            manifest = json.loads(b"".join(self._store.read(uri)))
            keys = ("commit", "tree", "digest", "source_dir", "entry_point", "file_count")
            return {**{key: manifest.get(key) for key in keys}, "repo": manifest.get("repository")}
        except errors.AccessDenied as error:
            node.problems.append(f"{uri} cannot be read: {error.what}")
        except _NO_MANIFEST as error:
            node.problems.append(f"{uri} is no manifest: {error}")
        return {}

    def _head(self, node: Node, uri: str) -> dict[str, Any]:
        try:
            head = self._store.head(uri)
        except (errors.AccessDenied, errors.BadParameter) as error:
            node.problems.append(f"it cannot be seen: {error.what}")
            return {}
        if head is None:
            node.problems.append("it is gone: there is no such object")
            return {}
        return head

    def _beside(self, node: Node, uri: str) -> list[str]:
        try:
            return list(self._store.uris(f"{uri.rpartition('/')[0]}/manifest-"))
        except (errors.AccessDenied, errors.BadParameter, errors.NotFound) as error:
            node.problems.append(f"what lies beside it cannot be listed: {error.what}")
            return []
