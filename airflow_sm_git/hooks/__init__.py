"""From an Airflow connection to a client. Imported when a task runs, never when a DAG file is parsed."""
