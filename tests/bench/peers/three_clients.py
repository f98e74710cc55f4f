"""What cannot be gone below with boto3: its import, and the three clients that the function `terminate` needs."""

import boto3

clients = [boto3.client(name) for name in ("sqs", "ssm", "secretsmanager")]
