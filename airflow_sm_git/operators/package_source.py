"""Build the source archive of a commit and put it into S3 under its digest."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_sm_git.core.records import SCHEMA, Checkout, Package, load
from airflow_sm_git.operators.base import AwsOperator
from airflow_sm_git.operators.secrets import refuse_stored, rendered
from airflow_sm_git.operators.values import as_bool, as_list

if TYPE_CHECKING:
    from airflow.sdk import Context


class PackageSourceOperator(AwsOperator):
    """Put a reproducible ``sourcedir.tar.gz`` of a commit into S3. The same content has the same digest everywhere.

    :param checkout: the `Checkout` record of the commit.
    :param entry_point: the script, relative to `source_dir` if given, else to the repository's root.
    :param source_dir: directory of the repository whose children become the archive's root; None for the script alone.
    :param dependencies: further files and directories of the repository, at the archive's root by base name.
    :param submodules: package the files of submodules too, at the commits that the commit records; their hosts are
        given the credentials only if they are the repository's own host.
    :param s3_uri_prefix: where to put it; None for the setting, else SageMaker's default bucket.
    :param git_conn_id: connection of type ``git`` with the credentials.
    :param git_config: the SageMaker SDK's dict, for its credentials; not a template field.
    :return: a `Package` record. A manifest lies beside the package (`airflow_sm_git.core.manifest`).
    """

    template_fields: Sequence[str] = (
        "checkout",
        "entry_point",
        "source_dir",
        "dependencies",
        "submodules",
        "s3_uri_prefix",
        "git_conn_id",
        *AwsOperator.template_fields,
    )

    def __init__(
        self,
        *,
        checkout: Checkout | str,
        entry_point: str,
        source_dir: str | None = None,
        dependencies: Sequence[str] = (),
        submodules: bool | str = False,
        s3_uri_prefix: str | None = None,
        git_conn_id: str | None = None,
        git_config: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.checkout = checkout
        self.entry_point = entry_point
        self.source_dir = source_dir
        self.dependencies = dependencies
        self.submodules = submodules
        self.s3_uri_prefix = s3_uri_prefix
        self.git_conn_id = git_conn_id
        refuse_stored(self, git_config)
        self.git_config = git_config

    def run(self, context: Context) -> Package:
        """Build, hash, put."""
        from airflow_sm_git.core.names import short_hash
        from airflow_sm_git.hooks.git import git_client, read_source

        checkout = load(Checkout, "checkout", self.checkout)
        config = rendered(self, context)
        repo = None if config else checkout["repo"]
        source = read_source(repo, None, config, self.git_conn_id, aws=self.aws)
        dependencies = tuple(as_list("dependencies", self.dependencies))
        submodules = as_bool("submodules", self.submodules)
        with tempfile.TemporaryFile() as archive, tempfile.TemporaryFile() as manifest:
            info = git_client(source.credentials).package(
                checkout["repo"],
                checkout["commit"],
                source_dir=self.source_dir or None,
                entry_point=self.entry_point,
                dependencies=dependencies,
                submodules=submodules,
                out=archive,
                manifest=manifest,
            )
            size = archive.tell()
            metadata = {"digest": info.digest, "commit": checkout["commit"]}
            store = self.aws().store(self.s3_uri_prefix or None)
            uri, reused = store.put_once(f"packages/{info.digest}/sourcedir.tar.gz", archive, metadata)
            made_of = [checkout["repo"], info.source_dir, info.entry_point, dependencies, submodules]
            # Other commits and other repositories may share the package.
            key = f"packages/{info.digest}/manifest-{checkout['commit']}-{short_hash(made_of)}.json"
            manifest_uri, _ = store.put_once(key, manifest, {"digest": info.digest})
        self.log.info("%s %s (%d files, digest %s)", "Found" if reused else "Put", uri, info.file_count, info.digest)
        return Package(
            schema=SCHEMA,
            s3_uri=uri,
            digest=info.digest,
            commit=checkout["commit"],
            tree=checkout["tree"],
            repo=checkout["repo"],
            entry_point=info.entry_point,
            source_dir=self.source_dir or None,
            size=size,
            file_count=info.file_count,
            reused=reused,
            manifest_uri=manifest_uri,
        )
