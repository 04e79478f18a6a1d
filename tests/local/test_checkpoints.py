"""A checkpoint directory follows S3 and is followed by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_sm_git.local.checkpoints import Checkpoints
from airflow_sm_git.local.workspace import DataError, Workspace
from tests.local.jobs import BUCKET, Lab, eventually, lab_in


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with lab_in(tmp_path) as made:
        yield made


def test_what_is_in_s3_is_there_at_the_start_and_only_changes_go_back(lab: Lab) -> None:
    lab.put("ck/epoch-1", "one")
    before = lab.objects.head(BUCKET, "ck/epoch-1").modified
    place = Workspace(lab.root / "work", lab.objects)
    checkpoints = Checkpoints({"S3Uri": f"s3://{BUCKET}/ck/"}, place)
    checkpoints.restore()
    folder = place.ml / "checkpoints"
    assert (folder / "epoch-1").read_text() == "one"
    (folder / "deep").mkdir()
    (folder / "deep" / "epoch-2").write_text("two")
    checkpoints.finish()
    assert lab.get("ck/deep/epoch-2") == b"two"
    assert lab.objects.head(BUCKET, "ck/epoch-1").modified == before


def test_a_checkpoint_is_in_s3_while_the_job_still_runs(lab: Lab) -> None:
    place = Workspace(lab.root / "work", lab.objects)
    checkpoints = Checkpoints({"S3Uri": f"s3://{BUCKET}/ck", "LocalPath": "/opt/ml/mine"}, place)
    checkpoints.restore()
    try:
        (place.ml / "mine" / "epoch-1").write_text("one")
        eventually(lambda: lab.keys("ck/") == ["ck/epoch-1"], "the checkpoint is uploaded")
    finally:
        checkpoints.finish()


def test_a_path_outside_opt_ml_and_a_missing_bucket_are_refused_by_name(lab: Lab) -> None:
    place = Workspace(lab.root / "work", lab.objects)
    with pytest.raises(DataError, match="LocalPath '/elsewhere/ck'"):
        Checkpoints({"S3Uri": f"s3://{BUCKET}/ck", "LocalPath": "/elsewhere/ck"}, place)
    with pytest.raises(DataError, match=r"CheckpointConfig.S3Uri"):
        Checkpoints({"S3Uri": "s3://missing/ck"}, place).restore()
