"""The operators: thin, each one step of a run. Importing them loads neither boto3 nor git."""
