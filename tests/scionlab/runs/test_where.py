"""Where fits, figures and reports of runs go."""

from pathlib import Path

import pytest

from scionlab.runs.where import ResultsPlace

URLS = [
    "s3://bucket", "s3://bucket/prefix", "s3://bucket/other", "s3://bucket/prefix/deeper", "s3://prefix",
    "s3://other/prefix", "s3://bucket/prefix?endpoint_override=minio:9000", "s3://bucket/a%20b", "s3://bucket/../x",
    "s3://bucket/prefix?endpoint_override=other:9000",
]  # fmt: skip


def test_no_two_buckets_or_prefixes_share_a_folder():
    folders = [ResultsPlace.of(f"{url}{'&' if '?' in url else '?'}region=eu-west-1").folder for url in URLS]
    assert len(set(folders)) == len(folders)
    for folder in folders:
        assert folder.is_relative_to("results/s3")
        assert ".." not in folder.parts


@pytest.mark.parametrize("url", ["s3://bucket/prefix?region=eu-west-1", "s3://bucket/prefix/?region=us-east-1"])
def test_one_prefix_has_one_folder_however_it_is_written(url):
    assert ResultsPlace.of(url).folder == Path("results/s3/bucket/prefix")


def test_a_folder_that_is_named_is_taken():
    assert ResultsPlace.of("s3://bucket/prefix").writing_to(Path("here")).folder == Path("here")
    assert ResultsPlace.of("there").folder == Path("there")
