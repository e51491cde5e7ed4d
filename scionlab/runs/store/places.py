"""Where a store lies: a folder on a disk that this machine sees, or a prefix of an S3 bucket.

A `Place` is what a table needs to know of either: which files there are, reading one, and putting one in its place so
that readers see the old one or the new one, whole. On a disk that takes a temporary name and a rename; an S3 object
appears when all of it has arrived.

    results/runs   file:///mnt/results/runs   s3://bucket/prefix/runs?region=eu-west-1

Credentials, region and endpoint of S3 come from the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_DEFAULT_REGION,
AWS_ENDPOINT_URL, …), the endpoint and the region also from the URL's query, as pyarrow takes them.
"""

import os
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from scionlab.errors import UserError
from scionlab.homes import expanded

SCHEMES = ("s3", "file")
AT_ONCE = 32  # requests to S3 under way: each takes tens of milliseconds, nearly all of it waiting
# Smaller files are read as a whole: one request, instead of one for its end and one for every column.
SMALL_BYTES = 2**20
T = TypeVar("T")


class Place(Protocol):
    """A folder of files. Names are relative to it, and hidden ones (with a leading dot) are listed, too."""

    @property
    def url(self) -> str:
        """What `place_of` makes the same place of, also on another machine: an absolute path, or a URL."""

    def below(self, name: str) -> "Place":
        """The folder called `name` in this one."""

    def names(self) -> list[str]:
        """All files; none where there is no such folder."""

    def open(self, name: str) -> pa.NativeFile:
        """A file, to be read at any position. FileNotFoundError where it does not exist."""

    def each(self, call: Callable[[str], T], names: Iterable[str]) -> Iterator[T]:
        """What `call`, which reads a file, gives for each of some names, in their order."""

    def write(self, name: str, rows: pa.Table) -> None:
        """Make a Parquet file, or replace it."""

    def put(self, name: str, content: bytes) -> None:
        """Make a file of any content, or replace it. OSError or UserError where that cannot be."""

    def remove(self, name: str) -> None:
        """Remove a file; nothing where there is none."""

    def check_writable(self) -> None:
        """Raise OSError or UserError unless files can be made; leaves no file behind."""


class LocalPlace:
    """A folder on a disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def url(self) -> str:
        """The absolute path."""
        return str(self.path.resolve())

    def below(self, name: str) -> "LocalPlace":
        """As `Place`."""
        return LocalPlace(self.path / name)

    def names(self) -> list[str]:
        """As `Place`."""
        try:
            return os.listdir(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def open(self, name: str) -> pa.NativeFile:
        """As `Place`."""
        file = pa.OSFile(str(self.path / name))
        return pa.BufferReader(file.read()) if file.size() <= SMALL_BYTES else file

    def each(self, call: Callable[[str], T], names: Iterable[str]) -> Iterator[T]:
        """One after another: a disk does not make us wait."""
        return map(call, names)

    def write(self, name: str, rows: pa.Table) -> None:
        """As `put`."""
        self._replace(name, lambda temporary: pq.write_table(rows, temporary))

    def put(self, name: str, content: bytes) -> None:
        """Under a hidden temporary name of its own, which is renamed when the disk has what is in it."""
        self._replace(name, lambda temporary: temporary.write_bytes(content))

    def remove(self, name: str) -> None:
        """As `Place`."""
        (self.path / name).unlink(missing_ok=True)

    def _replace(self, name: str, write: Callable[[Path], object]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        temporary = temporary_in(self.path, name.partition(".")[0])
        try:
            write(temporary)
            sync(temporary)  # else a power cut can leave the new name without its content
            os.replace(temporary, self.path / name)
        finally:
            temporary.unlink(missing_ok=True)

    def check_writable(self) -> None:
        """Makes the folder, too."""
        self.path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.path):
            pass


class BucketPlace:
    """A prefix of an S3 bucket. What S3 refuses is a UserError that names the prefix and the reason."""

    def __init__(self, url: str, path: str, files: fs.FileSystem) -> None:
        self.url, self._path, self._files = url, path, files

    @classmethod
    def at(cls, url: str) -> "BucketPlace":
        """Of s3://bucket/prefix and a query as pyarrow takes it."""
        try:
            files, path = fs.FileSystem.from_uri(url)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"results: {url!r} is not allowed: {_first_line(error)}") from None
        return cls(url, path.rstrip("/"), files)

    def __str__(self) -> str:
        return f"s3://{self._path}"

    def below(self, name: str) -> "BucketPlace":
        """As `Place`, with the same connections."""
        return BucketPlace(join(self.url, name), f"{self._path}/{name}", self._files)

    def names(self) -> list[str]:
        """As `Place`."""
        with self._asking("read"):
            found = self._files.get_file_info(fs.FileSelector(self._path, allow_not_found=True))
        return [info.base_name for info in found if info.is_file]

    def open(self, name: str) -> pa.NativeFile:
        """As `Place`."""
        with self._asking("read"):
            file = self._files.open_input_file(f"{self._path}/{name}")
            return pa.BufferReader(file.read()) if file.size() <= SMALL_BYTES else file

    def each(self, call: Callable[[str], T], names: Iterable[str]) -> Iterator[T]:
        """Many at once."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            yield from pool.map(call, names)

    def write(self, name: str, rows: pa.Table) -> None:
        """The whole file at once, so that an error on the way leaves no part of it."""
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink)
        self._put(name, sink.getvalue())

    def put(self, name: str, content: bytes) -> None:
        """As `write`."""
        self._put(name, content)

    def remove(self, name: str) -> None:
        """As `Place`."""
        with suppress(FileNotFoundError), self._asking("write to"):
            self._files.delete_file(f"{self._path}/{name}")

    def check_writable(self) -> None:
        """Puts an empty object and removes it; where only the latter is forbidden, it stays."""
        name = f".writable-{secrets.token_hex(4)}"
        self._put(name, b"")
        with suppress(OSError):
            self._files.delete_file(f"{self._path}/{name}")

    def _put(self, name: str, content: pa.Buffer | bytes) -> None:
        with self._asking("write to"), self._files.open_output_stream(f"{self._path}/{name}") as file:
            file.write(content)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UserError(f"results: cannot {what} {str(self)!r}: {_first_line(error)}") from None


def place_of(root: str | os.PathLike[str]) -> Place:
    """Of a path or a URL. UserError for URLs that are neither file: nor s3:, or hold a password."""
    text = os.fspath(root)
    if "://" not in text:
        return LocalPlace(Path(expanded(text, "results")))
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES:
        raise UserError(f"results: {text!r} is not allowed: it must be a folder, file:///… or s3://bucket/prefix")
    if parts.scheme == "file":
        if parts.netloc or not parts.path:
            raise UserError(f"results: {text!r} is not allowed: write three slashes, as in file:///mnt/results")
        return LocalPlace(Path(unquote(parts.path)))
    if parts.username or parts.password:
        raise UserError("results: the URL holds credentials; give them by AWS_ACCESS_KEY_ID or a profile instead")
    if not parts.netloc:
        raise UserError(f"results: {text!r} is not allowed: the bucket is missing, as in s3://bucket/prefix")
    return BucketPlace.at(text)


def join(root: str, *names: str) -> str:
    """A path or URL with some names below it; a URL's query stays at its end."""
    if "://" not in root:
        return os.path.join(root, *names)
    parts = urlsplit(root)
    path = "/".join([parts.path.rstrip("/"), *map(quote, names)])
    return urlunsplit(parts._replace(path=path))


def temporary_in(folder: Path, key: str) -> Path:
    """A hidden name that no other writer has: processes of two containers can have one number."""
    return folder / f".{key}.{secrets.token_hex(8)}.tmp"


def sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
