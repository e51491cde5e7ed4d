import socket
from pathlib import Path

import pytest

from scionlab.doctor import machine
from scionlab.errors import UserError
from scionlab.sweep import sockets

LONG = "/tmp/jobs/of_a_cluster_user_with_a_long_name/jobdir/1355700/tmp.t0016/and_more_of_it"


@pytest.fixture
def long(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", LONG)


def test_a_folder_that_is_short_enough_stays_ray_s_own(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    assert sockets.short_folder() is None
    assert machine.sockets().level == "ok"


def test_the_longest_folder_that_fits_leaves_room_for_ray_s_longest_socket():
    name = "session_2026-11-29_12-36-07_123456_4194304/sockets/plasma_store"
    longest = "/" + "x" * (sockets.LONGEST - sockets.BELOW - 1)
    assert sockets.fits(longest)
    assert not sockets.fits(longest + "x")
    with socket.socket(socket.AF_UNIX) as made, pytest.raises(FileNotFoundError):  # not "path too long"
        made.bind(f"{longest}/ray/{name}")


def test_a_long_one_is_replaced_by_a_folder_that_fits(long):
    folder = sockets.short_folder()
    try:
        assert sockets.fits(folder)
        assert machine.sockets().found.endswith("they go below /tmp")
    finally:
        Path(folder).rmdir()


def test_where_no_short_folder_can_be_made_a_sentence_says_what_to_set(long, tmp_path):
    with pytest.raises(UserError, match=r"RAY_TMPDIR: sockets of Ray in .* set it to one of at most"):
        sockets.short_folder(tmp_path / "none")
    assert machine.sockets(tmp_path / "none").level == "problem"
