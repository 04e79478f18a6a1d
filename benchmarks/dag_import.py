"""What our operators add to the import of a DAG file, over ``airflow.sdk`` alone; each in a new interpreter.

The peer is a DAG file with the Amazon provider's SageMaker operators. Both files' DAGs have the same number of tasks,
and the DAG machinery that Airflow loads for any DAG is loaded before the clock starts.
"""

from __future__ import annotations

from benchmarks.table import Row, in_new_interpreter, median

_CODE = """
import sys, time
from airflow.sdk import DAG, BaseOperator, BaseOperatorLink, BaseSensorOperator, Param, TaskGroup

with DAG("warm", schedule=None, params={"a": Param("b", type="string")}), TaskGroup("group"):
    first, last = BaseOperator(task_id="first"), BaseOperator(task_id="last")
    first >> last
began = time.perf_counter()
exec(sys.argv[1])
print(time.perf_counter() - began)
"""
_OURS = """
from airflow_sm_git import train_deploy_predict
with DAG("ours", schedule=None):
    train_deploy_predict(repo="https://example.com/r", ref="main", entry_point="train.py", image_uri="image", data={})
"""
_THEIRS = """
from airflow.providers.amazon.aws.operators.sagemaker import SageMakerEndpointConfigOperator as Config
from airflow.providers.amazon.aws.operators.sagemaker import SageMakerEndpointOperator as Endpoint
from airflow.providers.amazon.aws.operators.sagemaker import SageMakerModelOperator as Model
from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTrainingOperator as Training
with DAG("theirs", schedule=None):
    tasks = [kind(task_id=f"t{i}", config={}) for i, kind in enumerate([Training, Model, Config, Endpoint] * 2)][:7]
"""
_PLAIN = """
with DAG("plain", schedule=None), TaskGroup("group"):
    tasks = [BaseOperator(task_id=f"t{i}") for i in range(7)]
"""


def rows(times: int) -> list[Row]:
    """:param times: interpreters started for each."""
    plain = median(lambda: in_new_interpreter(_CODE, [_PLAIN]), times)
    ours = median(lambda: in_new_interpreter(_CODE, [_OURS]), times)
    theirs = median(lambda: in_new_interpreter(_CODE, [_THEIRS]), times)
    peer = "Amazon provider's operators"
    return [Row("DAG file over airflow.sdk and 7 plain tasks", ours - plain, "s", peer, theirs - plain, limit=0.01)]
