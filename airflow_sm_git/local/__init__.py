"""A SageMaker on one machine: S3, STS, IAM, CloudWatch Logs and SageMaker on one loopback port, with real processes.

A program of its own. The operators reach it through a connection's ``endpoint_url`` and know nothing about it.
"""
