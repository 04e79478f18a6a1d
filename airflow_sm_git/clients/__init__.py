"""Effects: the only users of git (`git.py`), of S3 (`s3.py`) and of the SageMaker API (`sagemaker.py`, `watch.py`)."""
