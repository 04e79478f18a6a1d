"""Example DAGs, one file per story. The wheel carries them as ``airflow_sm_git.example_dags``."""
