"""An S3 server in the tests' own process, with one bucket."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from moto.server import ThreadedMotoServer
from pyarrow import fs

BUCKET = "sweeps"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "something",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def serving() -> Iterator[str]:
    """host:port of a server that lives as long as the block."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        bucket = fs.S3FileSystem(
            endpoint_override=f"{host}:{port}", scheme="http", region="us-east-1",
            access_key="somebody", secret_key="something", allow_bucket_creation=True,
        )  # fmt: skip
        bucket.create_dir(BUCKET)
        yield f"{host}:{port}"
    finally:
        server.stop()


def url(endpoint: str, path: str) -> str:
    """Of a prefix of the bucket."""
    return f"s3://{BUCKET}/{path}?endpoint_override={endpoint}&scheme=http&region=us-east-1"


def objects(endpoint: str, path: str) -> list[str]:
    """Names of all objects below a prefix of the bucket, relative to it."""
    files, start = fs.FileSystem.from_uri(url(endpoint, path))
    found = files.get_file_info(fs.FileSelector(start, recursive=True, allow_not_found=True))
    return sorted(info.path.removeprefix(f"{start}/") for info in found if info.is_file)


def put(endpoint: str, path: str, content: bytes) -> None:
    """One object."""
    files, where = fs.FileSystem.from_uri(url(endpoint, path))
    with files.open_output_stream(where) as file:
        file.write(pa.py_buffer(content))
