"""Corpora and windows: what is trained on, what is validated on, and in which order."""

import pickle

import numpy as np
import pytest
import torch

from scionlab.errors import UserError
from scionlab.problems.data import Corpus, DataShape, TrainingWindows, corpus, load, probe_windows, validation_windows


def lines(count: int) -> bytes:
    return b"".join(b"line %06d of a text that has no line twice\n" % i for i in range(count))


def letters(train: int, validation: int = 0) -> Corpus:
    # bytes 0, 1, 2, …: a window tells where it starts (modulo 256)
    text = np.arange(max(train, validation)).astype(np.uint8).tobytes()
    return Corpus("letters", "0" * 64, text[:train], text[:validation])


def test_the_embedded_speeches_are_the_ones_that_results_were_measured_on():
    text = load("sotu")
    assert text.sha256 == "5cb26a396719dcce29a3cfaf16ea59e69fabd2c9661d0dd4801c54319074e429"
    assert len(text.train) > 5 * len(text.validation) > 5_000_000


def test_documents_are_split_by_their_names_only():
    names = [f"document {i}" for i in range(400)]
    for edition in (b"first", b"second"):
        text = corpus._assemble("test", [(name, b"<%s %s>" % (edition, name.encode())) for name in names])
        held_out = {name for name in names if b" %s>" % name.encode() in text.validation}
        assert held_out == {name for name in names if corpus.is_validation(name)}
        assert all((b" %s>" % name.encode() in text.train) != (name in held_out) for name in names)
    # 10 % of 400 names: a binomial with standard deviation 6, within five of them
    assert 10 <= len(held_out) <= 70


def test_the_hash_is_of_the_documents_and_their_order():
    documents = [("a", b"one"), ("b", b"two")]
    original = corpus._assemble("x", documents).sha256
    assert corpus._assemble("y", documents).sha256 == original
    assert corpus._assemble("x", documents[::-1]).sha256 != original
    assert corpus._assemble("x", [("a", b"one"), ("b", b"twp")]).sha256 != original


def test_a_file_is_cut_at_line_ends_and_nothing_is_lost_or_shared(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(lines(5_000))
    text = load(f"path:{path}")
    train, validation = (set(part.splitlines(keepends=True)) for part in (text.train, text.validation))
    assert not train & validation
    assert train | validation == set(lines(5_000).splitlines(keepends=True))
    assert len(text.train) + len(text.validation) == len(lines(5_000))
    # 10 % of 53 pieces in expectation
    assert 0.02 < len(text.validation) / len(lines(5_000)) < 0.3


@pytest.mark.parametrize(
    "content", [lines(40), b"x" * 2_000, b"\n" * 500 + b"x" * 1_000], ids=["lines", "one", "blank"]
)
def test_a_short_file_has_both_parts(tmp_path, content):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    text = load(f"path:{path}")
    assert text.train
    assert text.validation
    assert len(text.train) + len(text.validation) == len(content)


RECORDS = [f"record {i}: {i * i}\n".encode() for i in range(400)]
FILES = {
    "the file twice": b"".join(RECORDS * 2),
    "every line twice": b"".join(record * 2 for record in RECORDS),
    "Windows lines": b"".join(record.replace(b"\n", b"\r\n") * 2 for record in RECORDS),
    "paragraphs twice": b"\n".join([b"first of two\n" + record for record in RECORDS] * 2),
    "long paragraphs": b"\n\n".join([b" ".join(RECORDS[i : i + 40]).replace(b"\n", b"") for i in range(360)] * 2),
}


@pytest.mark.parametrize("name", FILES)
def test_what_stands_in_a_file_twice_is_on_one_side(tmp_path, name):
    (tmp_path / "text").write_bytes(FILES[name])
    text = load(f"path:{tmp_path / 'text'}")
    parts = [
        {line.strip() for line in side.splitlines()} - {b"", b"first of two"} for side in (text.train, text.validation)
    ]
    assert not parts[0] & parts[1]
    assert len(text.train) + len(text.validation) == len(FILES[name])
    # A tenth of 360 to 400 documents: three binomial standard deviations are 5%.
    assert 0.05 < len(text.validation) / len(FILES[name]) < 0.15


def test_a_paragraph_is_not_cut(tmp_path):
    paragraphs = [b"".join(f"line {j} of {i}\n".encode() for j in range(9)) for i in range(200)]
    (tmp_path / "text").write_bytes(b"\n".join(paragraphs))
    text = load(f"path:{tmp_path / 'text'}")
    for paragraph in paragraphs:
        assert (paragraph in text.train) != (paragraph in text.validation)


def test_a_file_is_known_by_its_content(tmp_path):
    texts = []
    for name, content in (("a", lines(50)), ("b", lines(50)), ("c", lines(51))):
        (tmp_path / name).write_bytes(content)
        texts.append(load(f"path:{tmp_path / name}"))
    assert (texts[0].sha256, texts[0].split_sha256) == (texts[1].sha256, texts[1].split_sha256)
    assert texts[0].sha256 != texts[2].sha256


def test_the_interpreter_sources_hold_no_tests(tmp_path, monkeypatch):
    kept = ["os.py", "json/decoder.py", "testing.py"]
    skipped = ["test/test_os.py", "json/tests/test_x.py", "idlelib/idle_test/x.py", "site-packages/torch.py"]
    for name in [*kept, *skipped, "os.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n")
    monkeypatch.setattr(corpus.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    text = corpus._stdlib()
    found = (text.train + text.validation).decode()
    assert sorted(line[2:] for line in found.splitlines() if line) == sorted(kept)


def test_the_interpreter_sources_load():
    text = load("stdlib")
    assert len(text.train) > 5 * len(text.validation) > 500_000
    assert b"def loads(" in text.train + text.validation


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("sotoo", "data: 'sotoo' is not known .*'sotu'"),
        ("path:no/such/file.txt", "'path:no/such/file.txt' cannot be read: No such file"),
        ("path:.", r"'path:\.' cannot be read: Is a directory"),
        ("path:~no-such-user/file.txt", "data: 'path:~no-such-user/file.txt' cannot be read"),
        ("path:a\0b", "data: .* cannot be read"),
    ],
)
def test_data_that_cannot_be_read_is_refused(data, message):
    with pytest.raises(UserError, match=message):
        load(data)


@pytest.mark.parametrize("content", [b"", b" \n\t\n"])
def test_an_empty_file_is_refused(tmp_path, content):
    path = tmp_path / "empty.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"empty\.txt' is empty"):
        load(f"path:{path}")


def test_too_short_texts_are_refused_with_their_sizes():
    assert TrainingWindows(letters(9), 1, 8, 0).n_windows == 1
    with pytest.raises(UserError, match="8 training bytes, too short for one window of seq_len 8"):
        TrainingWindows(letters(8), 1, 8, 0)
    with pytest.raises(UserError, match="0 training bytes"):
        TrainingWindows(letters(0), 1, 8, 0)
    assert len(validation_windows(letters(0, 17), 16, 8)) == 2
    with pytest.raises(UserError, match=r"16 validation bytes \(1 windows of 8\), too short for val_tokens 16"):
        validation_windows(letters(0, 16), 16, 8)
    with pytest.raises(UserError, match="0 validation bytes"):
        validation_windows(letters(9), 16, 8)


def starts(windows: TrainingWindows, batches: int) -> list[int]:
    return torch.cat([windows.next_batch() for _ in range(batches)])[:, 0].tolist()


def test_every_epoch_holds_every_window_once_in_an_order_of_its_own():
    windows = TrainingWindows(letters(47), batch_size=3, seq_len=4, seed=5)  # 11 windows: batches span epochs
    drawn = starts(windows, 11)
    epochs = [drawn[i : i + 11] for i in (0, 11, 22)]
    assert all(sorted(epoch) == list(range(0, 44, 4)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_one_batch_may_span_several_epochs():
    windows = TrainingWindows(letters(13), batch_size=8, seq_len=4, seed=0)  # 3 windows
    drawn = starts(windows, 1)
    assert sorted(drawn[:3]) == sorted(drawn[3:6]) == [0, 4, 8]
    assert windows.epochs == pytest.approx(8 / 3)  # two additions in float64


def test_epochs_count_what_was_seen():
    windows = TrainingWindows(letters(47), batch_size=3, seq_len=4, seed=5)
    assert windows.epochs == 0
    for batch in range(1, 12):
        windows.next_batch()
        assert windows.epochs == pytest.approx(3 * batch / 11)


def test_the_order_follows_the_seed():
    first, again, other = (starts(TrainingWindows(letters(201), 5, 4, seed), 20) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_order_of_the_first_stage_is_numpys_for_seed_and_epoch_and_others_have_their_own():
    orders = [starts(TrainingWindows(letters(201), 50, 4, seed=3, stage=stage), 2) for stage in (0, 1, 2)]
    epochs = [np.random.default_rng((3, epoch)).permutation(50) * 4 for epoch in (0, 1)]
    assert orders[0] == np.concatenate(epochs).tolist()
    assert len({tuple(order) for order in orders}) == 3


def test_the_order_goes_on_when_the_batch_size_changes():
    windows = TrainingWindows(letters(201), 3, 4, seed=0)
    drawn = starts(windows, 4)
    windows.batch_size = 7
    drawn += starts(windows, 10)
    assert drawn == starts(TrainingWindows(letters(201), 1, 4, seed=0), 4 * 3 + 10 * 7)


@pytest.mark.parametrize("batches", [0, 1, 10, 25])
@pytest.mark.parametrize("stage", [0, 2])
def test_the_place_in_the_order_can_be_saved(batches, stage):
    windows = TrainingWindows(letters(201), 5, 4, seed=0, stage=stage)
    for _ in range(batches):
        windows.next_batch()
    again = TrainingWindows(letters(201), 5, 4, seed=0)
    again.load_state_dict(windows.state_dict())
    assert again.epochs == windows.epochs
    assert starts(again, 12) == starts(windows, 12)


def test_windows_of_a_probe_are_different_ones_and_always_the_same():
    windows = probe_windows(letters(200), 32, 6)
    assert windows.shape == (32, 7)
    assert torch.equal(windows[:, 1:], windows[:, :-1] + 1)
    first = windows[:, 0].tolist()
    assert set(first) < set(range(0, 198, 6))
    assert len(set(first)) == 32
    assert torch.equal(windows, probe_windows(letters(200), 32, 6))
    with pytest.raises(UserError, match=r"192 training bytes \(31 windows of 6\), too short for a probe of 32"):
        probe_windows(letters(192), 32, 6)


def test_a_window_is_its_inputs_and_their_next_bytes():
    batch = TrainingWindows(letters(100), batch_size=4, seq_len=6, seed=0).next_batch()
    assert batch.shape == (4, 7)
    assert batch.dtype == torch.int64
    assert torch.equal(batch[:, 1:], batch[:, :-1] + 1)  # the text counts upwards


def test_memory_does_not_grow_with_the_batches_drawn():
    windows = TrainingWindows(letters(2_001), batch_size=7, seq_len=8, seed=0)
    windows.next_batch()
    before = len(pickle.dumps(windows))
    for _ in range(500):
        windows.next_batch()
    assert windows.epochs > 10
    assert len(pickle.dumps(windows)) <= before + 16  # counters may take a few more bytes


def test_validation_windows_are_spread_over_the_text_and_counted_exactly():
    windows = validation_windows(letters(0, 245), n_tokens=8 * 5, seq_len=8)
    assert windows.shape == (5, 9)
    assert windows[:, 0].tolist() == [0, 48, 96, 144, 192]  # 30 windows fit: every sixth
    assert torch.equal(windows[:, 1:], windows[:, :-1] + 1)
    everything = validation_windows(letters(0, 245), n_tokens=8 * 30, seq_len=8)
    assert everything[:, 0].tolist() == list(range(0, 240, 8))


def test_a_limit_keeps_windows_of_so_many_tokens_from_the_whole_text():
    limited = TrainingWindows(letters(201), batch_size=5, seq_len=4, seed=0, limit=42)  # ten windows, two tokens left
    assert limited.n_windows == 10
    drawn = starts(limited, 4)
    kept = sorted(drawn[:10])
    assert kept == sorted(drawn[10:])
    assert len(set(kept)) == 10
    assert set(kept) <= set(range(0, 200, 4))
    assert kept[-1] > 100  # of fifty windows in order, ten at random all lie in the first half once in 5,000 times
    assert limited.epochs == 2
    other = starts(TrainingWindows(letters(201), 5, 4, seed=1, limit=42), 2)
    assert sorted(other) == kept  # every seed has the same ones, in an order of its own
    assert other != drawn[:10]
    more = starts(TrainingWindows(letters(201), 5, 4, 0, limit=80), 4)
    assert set(kept) < set(more)  # a smaller limit is a part of a larger one
    for without in (0, 200, 10**15):
        assert starts(TrainingWindows(letters(201), 5, 4, 0, limit=without), 20) == starts(
            TrainingWindows(letters(201), 5, 4, 0), 20
        )
    with pytest.raises(UserError, match="train_limit: 3 is not allowed: it is less than one window of seq_len 4"):
        TrainingWindows(letters(201), 5, 4, 0, limit=3)


def test_a_corpus_is_a_source_whose_loss_is_the_next_bytes_cross_entropy():
    text = letters(400, 100)
    assert text.shape == DataShape("text", 256)
    assert starts(text.training(5, 4, 1, stage=2, limit=80), 9) == starts(TrainingWindows(text, 5, 4, 1, 2, 80), 9)
    assert torch.equal(text.held_out(24, 4), validation_windows(text, 24, 4))
    assert torch.equal(text.probe(8, 4, 60), probe_windows(text, 8, 4, 60))
    inputs, targets = text.unpack(text.held_out(24, 4))
    assert inputs.shape == targets.shape == (6, 4)
    assert torch.equal(targets, inputs + 1)  # the text counts upwards
    logits = torch.randn(6, 4, 256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    chances = logits.softmax(-1).gather(-1, targets[..., None])
    assert float(text.loss(logits, targets)) == pytest.approx(float(-chances.log().mean()), rel=1e-5)  # in float32
    assert text.correct(logits, targets) is None


def test_every_kind_of_data_is_offered_where_a_name_is_unknown():
    with pytest.raises(UserError, match=r"cifar10:FOLDER, digits, folder:PATH, mnist, noise:KIND, path:FILE, sotu"):
        load("imagenet")
