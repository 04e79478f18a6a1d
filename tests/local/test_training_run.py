"""A training job from its request to its artefacts, with real scripts as real processes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git.local.training_run import Outcome, TrainingRun, final_metrics, model_uri
from tests.local.jobs import BUCKET, STUBBORN, Lab, eventually, gone, lab_in, wheel


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with lab_in(tmp_path) as made:
        yield made


def channel(name: str, uri: str) -> dict[str, Any]:
    return {"ChannelName": name, "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}}


def in_thread(job: TrainingRun) -> tuple[threading.Thread, list[Outcome]]:
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(job.run()))
    thread.start()
    return thread, outcomes


def ended(thread: threading.Thread, outcomes: list[Outcome]) -> Outcome:
    thread.join(60)
    assert outcomes, "the job did not end"
    return outcomes[0]


def test_a_script_reads_its_channel_and_its_model_comes_out(lab: Lab) -> None:
    lab.put("data/words.txt", "some words")
    script = """
    import argparse, os, pathlib
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int)
    epochs = parser.parse_args().epochs
    text = pathlib.Path(os.environ["SM_CHANNEL_TRAINING"], "words.txt").read_text()
    pathlib.Path(os.environ["SM_MODEL_DIR"], "model.txt").write_text(f"{text} {epochs}")
    pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], "report.txt").write_text("fine")
    print("perplexity=12.5")
    print("perplexity=11.25")
    """
    definitions = [{"Name": "ppl", "Regex": "perplexity=([0-9.]+)"}]
    outcome = lab.train(
        script,
        {"epochs": "3"},
        InputDataConfig=[channel("training", f"s3://{BUCKET}/data")],
        AlgorithmSpecification={"TrainingImage": "i", "TrainingInputMode": "File", "MetricDefinitions": definitions},
    )
    assert (outcome.status, outcome.secondary_status, outcome.failure_reason) == ("Completed", "Completed", None)
    assert outcome.exit_code == 0
    assert outcome.model_data == f"s3://{BUCKET}/out/job/output/model.tar.gz"
    assert lab.members("out/job/output/model.tar.gz") == {"model.txt": b"some words 3"}
    assert lab.members("out/job/output/output.tar.gz") == {"report.txt": b"fine"}
    assert [(m.name, m.value) for m in final_metrics(outcome.metrics)] == [("ppl", 11.25)]
    assert lab.phases == ["Downloading", "Training", "Uploading"]
    assert outcome.billable_seconds >= 1


@pytest.mark.parametrize("mounts", [True, False])
def test_paths_at_opt_ml_are_the_jobs_own(lab: Lab, mounts: bool) -> None:
    lab.put("data/x", "data")
    script = """
    import os, pathlib, sys
    directory = pathlib.Path(sys.argv[sys.argv.index("--model-dir") + 1])
    (directory / "cwd").write_text(os.getcwd())
    (directory / "data").write_text(pathlib.Path(os.environ["SM_CHANNEL_C"], "x").read_text())
    """
    inputs = [channel("c", f"s3://{BUCKET}/data")]
    outcome = lab.train(script, {"model-dir": '"/opt/ml/model"'}, InputDataConfig=inputs, mounts=mounts)
    assert outcome.status == "Completed", outcome.failure_reason
    members = lab.members("out/job/output/model.tar.gz")
    assert members["data"] == b"data"
    private = members["cwd"] == b"/opt/ml/code"
    assert private or any("No private /opt/ml is possible here" in line for line in lab.lines)
    assert mounts or not private


def test_a_script_with_opt_ml_written_into_it_works_where_the_system_allows_it(lab: Lab) -> None:
    outcome = lab.train("open('/opt/ml/model/m', 'w').write(open('/opt/ml/input/config/resourceconfig.json').read())")
    assert outcome.status == "Completed", "this system allows no mount namespace, so such scripts cannot work on it"
    assert json.loads(lab.members("out/job/output/model.tar.gz")["m"])["current_host"] == "algo-1"
    assert not Path("/opt/ml/model/m").exists()


def test_two_jobs_at_once_do_not_see_each_others_opt_ml(tmp_path: Path) -> None:
    script = """
    import pathlib, sys, time
    pathlib.Path("/opt/ml/model/mine").write_text(sys.argv[-1])
    time.sleep(0.5)
    assert pathlib.Path("/opt/ml/model/mine").read_text() == sys.argv[-1]
    """
    with lab_in(tmp_path / "a") as one, lab_in(tmp_path / "b") as two:
        running = [in_thread(lab.job(script, {"n": str(number)})) for number, lab in enumerate((one, two))]
        assert [ended(*each).status for each in running] == ["Completed", "Completed"]


def test_a_traceback_is_the_failure_reason(lab: Lab) -> None:
    outcome = lab.train("def f():\n    raise ValueError('the data is upside down')\nprint('x')\nf()\n", {"epochs": "3"})
    assert outcome.status == outcome.secondary_status == "Failed"
    assert outcome.exit_code == 1
    reason = outcome.failure_reason or ""
    assert reason.startswith(
        'AlgorithmError: ExecuteUserScriptError:\nExitCode 1\nErrorMessage "Traceback (most recent'
    )
    assert "ValueError: the data is upside down" in reason
    assert reason.endswith('train.py --epochs 3", exit code: 1')
    assert lab.keys("out/") == []


def test_the_scripts_own_failure_file_wins(lab: Lab) -> None:
    outcome = lab.train("open('/opt/ml/output/failure', 'w').write('my own words'); raise SystemExit(4)")
    assert outcome.failure_reason == "AlgorithmError: my own words, exit code: 1"
    assert outcome.exit_code == 4


def test_a_failed_job_keeps_its_output_data_and_has_no_model(lab: Lab) -> None:
    script = "open('/opt/ml/output/data/o', 'w').close(); open('/opt/ml/model/m', 'w').close(); raise SystemExit(1)"
    outcome = lab.train(script)
    assert outcome.model_data is None
    assert lab.keys("out/") == ["out/job/output/output.tar.gz"]


def test_a_script_that_saves_nothing_completes_without_an_artefact(lab: Lab) -> None:
    outcome = lab.train("")
    assert (outcome.status, outcome.model_data) == ("Completed", None)
    assert "nothing in /opt/ml/model" in lab.lines[-1]


def test_stop_gives_the_script_time_and_keeps_its_model(lab: Lab) -> None:
    script = """
    import signal, sys, time
    def save(*_):
        open("/opt/ml/model/m", "w").write("saved on the way out")
        sys.exit(0)
    signal.signal(signal.SIGTERM, save)
    print("ready", flush=True)
    time.sleep(600)
    """
    job = lab.job(script)
    running = in_thread(job)
    lab.wait_for_line("ready")
    job.stop()
    job.stop()
    outcome = ended(*running)
    assert (outcome.status, outcome.secondary_status, outcome.failure_reason) == ("Stopped", "Stopped", None)
    assert lab.members("out/job/output/model.tar.gz") == {"m": b"saved on the way out"}


def test_stop_leaves_nothing_of_a_script_that_will_not_end(lab: Lab) -> None:
    job = lab.job(STUBBORN, grace=0.2)
    running = in_thread(job)
    pids = [int(word) for word in lab.wait_for_line("pids").split()[1:]]
    job.stop()
    assert ended(*running).status == "Stopped"
    assert gone(*pids)
    assert not (lab.root / "job").exists()


def test_stop_before_the_script_runs_ends_the_job_without_it(lab: Lab) -> None:
    job = lab.job("print('ran')")
    job.stop()
    outcome = job.run()
    assert (outcome.status, outcome.exit_code) == ("Stopped", None)
    assert "ran" not in lab.lines


def test_a_stop_that_comes_while_the_script_is_being_started_is_not_lost(lab: Lab) -> None:
    jobs: list[TrainingRun] = []

    def log(line: str) -> None:
        if line.startswith("No private"):  # said when the process runs and before anybody could stop it
            jobs[0].stop()

    limit = {"MaxRuntimeInSeconds": 40}
    jobs.append(lab.job("import time; time.sleep(600)", log=log, mounts=False, StoppingCondition=limit, grace=0.1))
    outcome = jobs[0].run()
    assert outcome.status == "Stopped"
    assert outcome.ended - outcome.started < 30


def test_the_maximum_runtime_stops_the_job_and_is_named(lab: Lab) -> None:
    script = "print('x', flush=True); import time; open('/opt/ml/model/m', 'w').close(); time.sleep(600)"
    outcome = lab.train(script, StoppingCondition={"MaxRuntimeInSeconds": 1}, grace=0.2)
    assert (outcome.status, outcome.secondary_status) == ("Stopped", "MaxRuntimeExceeded")
    assert outcome.failure_reason is None
    assert outcome.model_data
    assert outcome.ended - outcome.started >= 1


def test_a_channel_without_data_fails_before_the_script(lab: Lab) -> None:
    outcome = lab.train("print('ran')", InputDataConfig=[channel("training", f"s3://{BUCKET}/nothing")])
    assert outcome.status == "Failed"
    assert (outcome.failure_reason or "").startswith("ClientError: Data download failed:No S3 objects found")
    assert lab.phases == ["Downloading"]
    assert "ran" not in lab.lines


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("s3://bucket/missing.tar.gz", "s3://bucket/missing.tar.gz"),
        ("/opt/ml/input/data/code/s.tar.gz", "does not exist in the container"),
        ("/etc", "neither an S3 URI nor a path below /opt/ml"),
    ],
)
def test_code_that_is_not_there_fails_with_where_it_should_be(lab: Lab, where: str, said: str) -> None:
    outcome = lab.train("", {"sagemaker_submit_directory": json.dumps(where)})
    assert outcome.status == "Failed"
    assert said in (outcome.failure_reason or "")


def test_an_entry_point_that_the_archive_lacks_is_named(lab: Lab) -> None:
    outcome = lab.train({"other.py": ""})
    assert "train.py" in (outcome.failure_reason or "")
    assert outcome.exit_code == 2


def test_a_job_without_a_script_fails_with_a_remedy(lab: Lab) -> None:
    outcome = lab.train("", HyperParameters={"k": "10"})
    assert "Set the hyperparameter 'sagemaker_program'" in (outcome.failure_reason or "")


def test_under_network_isolation_the_code_comes_from_its_channel(lab: Lab) -> None:
    where = "/opt/ml/input/data/code/sourcedir.tar.gz"
    hyperparameters = {"sagemaker_program": '"train.py"', "sagemaker_submit_directory": json.dumps(where)}
    inputs = [channel("code", f"s3://{BUCKET}/code/")]
    outcome = lab.train("print('from the channel')", HyperParameters=hyperparameters, InputDataConfig=inputs)
    assert outcome.status == "Completed", outcome.failure_reason
    assert "from the channel" in lab.lines


def test_a_shell_script_runs_and_its_python_is_ours(lab: Lab) -> None:
    files = {"run.sh": "#!/bin/sh\necho args: $@\npython -c 'import sys; print(sys.executable)'\n"}
    outcome = lab.train(files, {"sagemaker_program": '"run.sh"', "name": '"a b"'})
    assert outcome.status == "Completed", outcome.failure_reason
    assert "args: --name a b" in lab.lines


def test_a_container_entry_point_runs_as_it_is_given(lab: Lab) -> None:
    algorithm = {
        "TrainingImage": "i",
        "ContainerEntrypoint": ["/bin/sh", "-c"],
        "ContainerArguments": ["echo hi; exit 9"],
    }
    outcome = lab.train("", AlgorithmSpecification=algorithm)
    assert outcome.failure_reason == "AlgorithmError: hi, exit code: 9"


def test_the_environment_is_the_jobs_and_not_the_servers(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    monkeypatch.setenv("AWS_PROFILE", "production")
    lab.train(
        "import json, os; print('env', json.dumps(dict(os.environ)))",
        aws={"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
        job_arn="arn:job",
        region="eu-west-1",
        Environment={"MINE": "1", "SM_MODEL_DIR": "overridden by the toolkit", "PYTHONPATH": "/x"},
    )
    found = json.loads(lab.wait_for_line("env").removeprefix("env "))
    assert "secret" not in found.values()
    assert "AWS_PROFILE" not in found
    assert found["MINE"] == "1"
    assert found["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert found["AWS_REGION"] == found["SAGEMAKER_REGION"] == "eu-west-1"
    assert (found["TRAINING_JOB_NAME"], found["TRAINING_JOB_ARN"]) == ("job", "arn:job")
    assert found["SM_MODEL_DIR"].endswith("/ml/model")
    assert found["PYTHONPATH"].endswith("/ml/code:/x")
    assert found["HOME"].startswith(str(lab.root))


def test_a_module_of_the_scripts_own_is_found_before_any_other(lab: Lab) -> None:
    outcome = lab.train(
        {"train.py": "import logs, errors; print(logs.mine)", "logs.py": "mine = 'mine'", "errors.py": ""}
    )
    assert outcome.status == "Completed", outcome.failure_reason
    assert lab.lines[0] == "mine"


def test_requirements_are_installed_for_the_script_and_not_for_us(lab: Lab) -> None:
    name = wheel(lab.root, "smgitdemo", "word = 'installed'")
    files = {
        "train.py": "import smgitdemo; print(smgitdemo.word)",
        "requirements.txt": f"./{name}\n",
        name: (lab.root / name).read_bytes(),
    }
    outcome = lab.train(files)
    assert outcome.status == "Completed", outcome.failure_reason
    assert "installed" in lab.lines
    with pytest.raises(ImportError):
        __import__("smgitdemo")


def test_requirements_that_cannot_be_installed_fail_with_the_installers_words(lab: Lab) -> None:
    outcome = lab.train({"train.py": "print('ran')", "requirements.txt": "./not-there-1.0-py3-none-any.whl\n"})
    assert outcome.status == "Failed"
    reason = outcome.failure_reason or ""
    assert reason.startswith("AlgorithmError: InstallRequirementsError:")
    assert "not-there" in reason.partition("Command")[0]
    assert "ran" not in lab.lines


def test_checkpoints_are_brought_in_and_out(lab: Lab) -> None:
    lab.put("ck/one", "1")
    script = "import os; print(os.listdir('/opt/ml/checkpoints')); open('/opt/ml/checkpoints/two', 'w').write('2')"
    outcome = lab.train(script, CheckpointConfig={"S3Uri": f"s3://{BUCKET}/ck"})
    assert outcome.status == "Completed", outcome.failure_reason
    assert "['one']" in lab.lines
    assert lab.get("ck/two") == b"2"


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ("import os; os.rmdir(os.environ['SM_MODEL_DIR'])", "Completed", None),
        ("import os, shutil; os.chdir('/'); shutil.rmtree('/opt/ml', ignore_errors=True)", "Completed", None),
        ("import os; m = os.environ['SM_MODEL_DIR']; os.rmdir(m); open(m, 'w').close()", "Failed", "Not a directory"),
        ("import os; m = os.environ['SM_MODEL_DIR']; os.rmdir(m); os.symlink('/etc', m)", "Failed", "a symbolic link"),
        (
            "import os; os.chdir(os.environ['SM_MODEL_DIR'])\n"
            "for _ in range(60): os.mkdir('d' * 200); os.chdir('d' * 200)",
            "Failed",
            "/opt/ml/model",
        ),
    ],
)
def test_what_a_script_does_to_its_directories_is_told_as_its_own_doing(
    lab: Lab, script: str, status: str, said: str | None
) -> None:
    outcome = lab.train(script)
    assert outcome.status == status, outcome.failure_reason
    assert outcome.model_data is None
    assert lab.keys("out/") == []
    if said:
        assert (outcome.failure_reason or "").startswith("ClientError: /opt/ml/model")
        assert said in (outcome.failure_reason or "")
        assert str(lab.root) not in (outcome.failure_reason or "")


def test_output_can_stay_uncompressed(lab: Lab) -> None:
    output = {"S3OutputPath": f"s3://{BUCKET}/out/", "CompressionType": "NONE"}
    outcome = lab.train("open('/opt/ml/model/m', 'w').write('x')", OutputDataConfig=output)
    assert outcome.model_data == f"s3://{BUCKET}/out/job/output/model/"
    assert outcome.model_data == model_uri({"TrainingJobName": "job", "OutputDataConfig": output})
    assert lab.get("out/job/output/model/m") == b"x"


def test_a_broken_metric_expression_fails_with_it(lab: Lab) -> None:
    algorithm = {"TrainingImage": "i", "MetricDefinitions": [{"Name": "m", "Regex": "("}]}
    outcome = lab.train("", AlgorithmSpecification=algorithm)
    assert "MetricDefinitions" in (outcome.failure_reason or "")


def test_a_metric_expression_that_takes_for_ever_stops_neither_the_job_nor_the_server(lab: Lab) -> None:
    definitions = [{"Name": "evil", "Regex": "(a+)+$"}, {"Name": "x", "Regex": r"x=(\d+)"}]
    algorithm = {"TrainingImage": "i", "TrainingInputMode": "File", "MetricDefinitions": definitions}
    outcome = lab.train("print('a' * 40 + '!'); print('x=5')", AlgorithmSpecification=algorithm)
    assert outcome.status == "Completed"
    assert [(m.name, m.value) for m in outcome.metrics] == [("x", 5.0)]
    assert any("Metric evil: its regular expression '(a+)+$' takes too long" in line for line in lab.lines)


def test_more_than_one_host_is_run_on_one_and_said(lab: Lab) -> None:
    lab.train("import os; print(os.environ['SM_HOSTS'])", ResourceConfig={"InstanceType": "t", "InstanceCount": 2})
    assert '["algo-1"]' in lab.lines
    assert any("on one host" in line for line in lab.lines)


def test_a_compressed_channel_stays_compressed_as_outside_of_pipe_mode_and_this_is_said(lab: Lab) -> None:
    inputs = [{**channel("c", lab.put("data/x.gz", b"\x1f\x8b")), "CompressionType": "Gzip"}]
    lab.train("print(open('/opt/ml/input/data/c/x.gz', 'rb').read())", InputDataConfig=inputs)
    assert repr(b"\x1f\x8b") in lab.lines
    assert any("CompressionType acts in Pipe mode only" in line for line in lab.lines)


def test_metrics_can_be_read_while_the_job_runs(lab: Lab) -> None:
    algorithm = {"TrainingImage": "i", "MetricDefinitions": [{"Name": "m", "Regex": "m=(.*)"}]}
    job = lab.job("print('m=1', flush=True); import time; time.sleep(600)", AlgorithmSpecification=algorithm, grace=0)
    running = in_thread(job)
    lab.wait_for_line("m=1")
    eventually(lambda: [metric.value for metric in job.metrics] == [1.0], "the metric")
    job.stop()
    ended(*running)


def test_an_error_of_our_own_ends_the_job_and_is_called_ours(lab: Lab) -> None:
    def broken(_: str) -> None:
        raise RuntimeError("the server's database is gone")

    outcome = lab.train("", on_phase=broken)
    assert outcome.failure_reason == "InternalServerError: RuntimeError: the server's database is gone"


def test_a_log_that_cannot_be_written_ends_the_job_and_is_called_ours(lab: Lab) -> None:
    def full(_: str) -> None:
        raise OSError("the disk is full")

    outcome = lab.train("import time\nwhile True: print('x', flush=True); time.sleep(0.01)", log=full)
    assert outcome.failure_reason == "InternalServerError: OSError: the disk is full"


def test_an_empty_job_takes_little_time(lab: Lab) -> None:
    began = time.monotonic()
    assert lab.train("").status == "Completed"
    assert time.monotonic() - began < 10  # 0.1 s on an idle machine; benchmarks/ has the figure
