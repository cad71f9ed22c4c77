"""Makes the bucket that APEX_STAGING names, on the S3 emulator of compose.yaml's profile `s3`."""

import os
import sys
from typing import Any, cast
from urllib.parse import urlsplit

import boto3  # pyright: ignore[reportMissingTypeStubs]
from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

_ALREADY_THERE = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})


def main() -> None:
    staging = urlsplit(os.environ["APEX_STAGING"])
    if staging.scheme != "s3":
        sys.exit("APEX_STAGING names no bucket; the profile s3 needs the lines of .env that belong to it")
    client = cast("Any", boto3).client("s3", endpoint_url=os.environ["APEX_S3_ENDPOINT_URL"])
    try:
        client.create_bucket(Bucket=staging.netloc)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _ALREADY_THERE:
            raise


if __name__ == "__main__":
    main()
