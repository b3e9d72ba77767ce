"""MNIST and Fashion-MNIST in full: small sets of their kind, packed or not, whole or damaged; and their format, idx."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import zlib
from dataclasses import replace

import numpy as np
import pytest

from scratch.cli import main
from scratch.data import (
    CATALOG,
    Dataset,
    class_counts,
    hold_out,
    load_fashion_mnist,
    load_mnist,
    load_tiny_shakespeare,
    read_idx,
    stratified_split,
)
from scratch.data.cache import unpacked
from scratch.data.digits import DIGIT_NAMES
from scratch.data.mnist import FASHION_NAMES
from scratch.data.sources import SOURCES, File
from scratch.models.mlp.train import IMAGES, PRESETS, load_data
from tests.attack.damage import of_bytes

TRAIN, TEST = 240, 30


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def small(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images and labels to train and to test; each class lights up a spot of its own, for an MLP to find."""
    rng = np.random.default_rng(seed)
    arrays = []
    for n in (TRAIN, TEST):
        labels = rng.permutation(np.arange(n) % 10)
        images = rng.integers(0, 60, (n, 28, 28))
        images[np.arange(n), 2 + 2 * labels, 3:20] = 255
        arrays += [images.astype(np.uint8), labels.astype(np.uint8)]
    return tuple(arrays)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A data folder with small sets in the places of both; returns {set: {name without .gz: array}}."""
    monkeypatch.setenv("SCRATCH_DATA", str(tmp_path))
    monkeypatch.setattr("scratch.data.download.urllib.request.urlopen", None)  # nothing is to be downloaded
    made = {}
    for seed, name in enumerate(("mnist", "fashion_mnist")):
        arrays = dict(zip((file.name.removesuffix(".gz") for file in SOURCES[name].files), small(seed), strict=True))
        described = [_described(f"{file}.gz", idx(array)) for file, array in arrays.items()]
        monkeypatch.setitem(SOURCES, name, replace(SOURCES[name], files=tuple(described), installed=()))
        (tmp_path / name).mkdir()
        for file, array in arrays.items():
            (tmp_path / name / f"{file}.gz").write_bytes(gzip.compress(idx(array)))
        made[name] = arrays
    return made


def _described(name: str, content: bytes) -> File:
    return File(name, 1, "0" * 64, len(content), hashlib.sha256(content).hexdigest())


LOADERS = {"mnist": (load_mnist, DIGIT_NAMES), "fashion_mnist": (load_fashion_mnist, FASHION_NAMES)}


# -- what is loaded ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOADERS)
def test_a_set_is_what_its_files_hold(files, name):
    load, names = LOADERS[name]
    images, labels, test_images, test_labels = files[name].values()
    data = load(flat=False)
    assert [len(part) for part in data] == [220, 20, 30]
    for part in data:
        assert part.name == name and part.class_names == names
        assert part.inputs.dtype == np.float32 and part.targets.dtype == np.int64
        assert part.inputs.shape[1:] == (1, 28, 28)
        assert part.inputs.min() == 0 and part.inputs.max() == 1
    np.testing.assert_array_equal(data.test.inputs[:, 0], test_images.astype(np.float32) / 255)
    np.testing.assert_array_equal(data.test.targets, test_labels)
    # The other two share out the training images, each with its label, by class.
    number = {(image.astype(np.float32) / 255).tobytes(): label for image, label in zip(images, labels, strict=True)}
    rows = [row.tobytes() for part in data[:2] for row in part.inputs]
    assert len(set(rows)) == len(rows) == len(number) and set(rows) == set(number)
    assert [number[row] for row in rows] == [*data.train.targets, *data.validation.targets]
    assert class_counts(data.train) == [22] * 10 and class_counts(data.validation) == [2] * 10


def test_flat_rows_are_the_same_images(files):
    flat, square = load_mnist(), load_mnist(flat=False)
    for a, b in zip(flat, square, strict=True):
        assert a.inputs.shape == (len(a), 784)
        np.testing.assert_array_equal(a.inputs, b.inputs.reshape(len(b), 784))
        np.testing.assert_array_equal(a.targets, b.targets)


def test_the_split_depends_on_the_content_alone(files, tmp_path):
    first = load_fashion_mnist()
    for path in (tmp_path / "fashion_mnist").iterdir():
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    for a, b in zip(first, load_fashion_mnist(), strict=True):
        np.testing.assert_array_equal(a.inputs, b.inputs)
        np.testing.assert_array_equal(a.targets, b.targets)


@pytest.mark.parametrize("folder", ["fashion_mnist", "fashion-mnist", "FashionMNIST/raw", "installed"])
@pytest.mark.parametrize("packed", [True, False])
def test_files_are_found_where_they_may_lie(files, tmp_path, monkeypatch, folder, packed):
    source = replace(SOURCES["fashion_mnist"], installed=(tmp_path / "installed",))
    monkeypatch.setitem(SOURCES, "fashion_mnist", source)
    (tmp_path / "fashion_mnist").rename(tmp_path / "away")
    (tmp_path / folder).mkdir(parents=True)
    for file in source.files:
        content = (tmp_path / "away" / file.name).read_bytes()
        if packed:  # by another program, into other bytes
            (tmp_path / folder / file.name).write_bytes(gzip.compress(gzip.decompress(content), 1, mtime=5))
        else:
            (tmp_path / folder / file.name.removesuffix(".gz")).write_bytes(gzip.decompress(content))
    assert len(load_fashion_mnist(download=False).train) == 220


def test_an_unpacked_file_may_keep_its_name_with_gz(files, tmp_path):
    for path in (tmp_path / "mnist").iterdir():
        path.write_bytes(gzip.decompress(path.read_bytes()))
    assert len(load_mnist().train) == 220


def test_a_missing_file_is_named_with_its_place(files, tmp_path):
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        load_mnist(download=False)
    text = str(caught.value)
    assert text.startswith("mnist: t10k-labels-idx1-ubyte.gz is not here.\nPut by hand")
    assert str(tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz") in text
    assert "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz" in text
    assert "train-images" not in text and "SCRATCH_DATA" not in text


DAMAGES = {
    "one bit": lambda content: gzip.compress(content[:-1] + bytes([content[-1] ^ 1])),
    "shorter": lambda content: gzip.compress(content[:-1]),
    "longer": lambda content: gzip.compress(content + b"\0"),
    "cut off": lambda content: gzip.compress(content)[:-9],
    "empty": lambda content: b"",
    "another set": lambda content: idx(small(9)[3]),
    "a web page": lambda content: b"<html>" * 40,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_damaged_file_is_named_and_not_used(files, tmp_path, damage, file):
    path = tmp_path / "mnist" / f"{file}.gz"
    path.write_bytes(DAMAGES[damage](idx(files["mnist"][file])))
    with pytest.raises(ValueError, match="`scratch data fetch mnist` downloads what is damaged or missing") as caught:
        load_mnist()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: [a[0][:, :, :27], *a[1:]], r"mnist: train-images-idx3-ubyte.gz must hold images of 28 x 28"),
        (lambda a: [a[0][1:], *a[1:]], "mnist: 239 inputs, but 240 targets"),
        (lambda a: [*a[:3], a[3] + 10], "labels go from 0 to 9"),
        (lambda a: [a[0], a[2], *a[2:]], "an idx file of bytes with 1 axes begins with 00 00 08 01, got 00 00 08 03"),
        (lambda a: [a[1], *a[1:]], "an idx file of bytes with 3 axes begins with 00 00 08 03, got 00 00 08 01"),
    ],
)
def test_files_of_right_sum_that_do_not_fit_together(tmp_path, monkeypatch, change, message):
    monkeypatch.setenv("SCRATCH_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    contents = [idx(array) for array in change(list(small(0)))]
    described = []
    for file, content in zip(SOURCES["mnist"].files, contents, strict=True):
        (tmp_path / "mnist" / file.name).write_bytes(content)
        described.append(_described(file.name, content))
    monkeypatch.setitem(SOURCES, "mnist", replace(SOURCES["mnist"], files=tuple(described)))
    with pytest.raises(ValueError, match=message):
        load_mnist()


@pytest.mark.skipif(
    not (SOURCES["fashion_mnist"].installed[0] / "train-images-idx3-ubyte.gz").is_file(),
    reason="Debian's dataset-fashion-mnist is not installed",
)
def test_the_real_fashion_mnist_is_split_as_ever(tmp_path, monkeypatch):
    monkeypatch.setenv("SCRATCH_DATA", str(tmp_path))
    data = load_fashion_mnist(download=False)
    assert [len(part) for part in data] == [55_000, 5_000, 10_000]
    assert class_counts(data.validation) == [500] * 10
    sums = [hashlib.sha256(part.targets.tobytes()).hexdigest()[:16] for part in data]
    assert sums == ["9687d6d40e433a00", "2f4d6fbd757f8301", "d51d859896c55775"]
    # No image twice, so none in two parts: equal ones would have equal products with these numbers.
    key = np.random.default_rng(0).integers(0, 2**40, 784)
    pieces = (piece for part in data for piece in np.array_split(part.inputs, 20))
    assert len(np.unique(np.concatenate([np.rint(piece * 255).astype(np.int64) @ key for piece in pieces]))) == 70_000


# -- holding out ------------------------------------------------------------------------------------------------


def test_equal_rows_are_held_out_together_and_classes_in_proportion():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    inputs = np.random.default_rng(0).standard_normal((100, 3))
    inputs[1] = inputs[0]
    for seed in range(20):
        train, held = hold_out(Dataset("rows", inputs, labels, ("a", "b", "c")), 0.2, seed)
        assert len(train) + len(held) == 100
        assert not {row.tobytes() for row in train.inputs} & {row.tobytes() for row in held.inputs}
        assert abs(class_counts(held)[0] - 12) <= 1 and class_counts(held)[1:] == [6, 2]


def test_rows_are_shared_out_as_ever():
    rows = Dataset("rows", np.arange(12), np.zeros(12, int), ("a",))
    parts = [[5, 6, 7, 2, 1], [3, 10, 4], [8, 11, 0, 9]]  # test is dealt out first
    assert [part.inputs.tolist() for part in stratified_split(rows, 3, 4)] == parts
    assert [part.inputs.tolist() for part in hold_out(rows, 4)] == [[2, 1, 7, 6, 10, 5, 4, 3], [9, 0, 11, 8]]


def test_holding_out_says_what_is_wrong():
    rows = Dataset("rows", np.arange(10.0), np.arange(10) % 2)
    with pytest.raises(ValueError, match="rows: validation 10 of 10 rows leave nothing to train on"):
        hold_out(rows, 10)
    with pytest.raises(ValueError, match="validation must be a count from 1"):
        hold_out(rows, 0)
    with pytest.raises(ValueError, match="needs class numbers as targets, got float64"):
        hold_out(Dataset("rows", np.arange(10.0), np.arange(10.0)), 2)
    with pytest.raises(ValueError, match="rows: validation 5 and test 5 of 10 rows leave nothing"):
        stratified_split(rows, 5, 5)


# -- idx --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (2, 3), (4, 3, 5), (2, 1, 3, 2), (0, 28, 28)])
def test_idx_files_of_any_number_of_axes(tmp_path, shape):
    array = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    plain = idx(array)
    in_two_members = gzip.compress(plain[:7]) + gzip.compress(plain[7:])
    for content in (plain, gzip.compress(plain), in_two_members):
        (tmp_path / "file").write_bytes(content)
        found = read_idx(tmp_path / "file", array.ndim)
        assert found.dtype == np.uint8 and found.shape == shape
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an idx file of 3 axes has at least 16 bytes, got 0"),
        (idx(np.zeros((2, 3)))[:9], "has at least 16 bytes, got 9"),
        (idx(np.zeros((2, 30))), "with 3 axes begins with 00 00 08 03, got 00 00 08 02"),
        (b"\0\0\x0d\3" + idx(np.zeros((2, 3, 4)))[4:], "begins with 00 00 08 03, got 00 00 0d 03"),
        (b"\1\0\x08\3" + idx(np.zeros((2, 3, 4)))[4:], "begins with 00 00 08 03, got 01 00 08 03"),
        (idx(np.zeros((2, 3, 4))) + b"\0", "axes of 2 x 3 x 4 take 24 bytes, got 25"),
        (idx(np.zeros((2, 3, 4)))[:-1], "axes of 2 x 3 x 4 take 24 bytes, got 23"),
        (b"\0\0\x08\3" + b"\xff" * 12, "axes of 4294967295 x 4294967295 x 4294967295 take"),
        (gzip.compress(idx(np.zeros((2, 3, 4))))[:-1], "is damaged: Compressed file ended"),
        (gzip.compress(idx(np.zeros((2, 3, 4)))) + b"tail", "is damaged: Not a gzipped file"),
        (b"\x1f\x8b", "is damaged: "),
    ],
    ids=range(11),
)
def test_idx_files_that_are_not(tmp_path, content, message):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)


def test_a_small_file_cannot_fill_the_memory(tmp_path):
    (tmp_path / "bomb").write_bytes(gzip.compress(bytes(20_000_000)))
    assert (tmp_path / "bomb").stat().st_size < 50_000
    with pytest.raises(ValueError, match="bomb: .* is too long: expected 1,000 bytes unpacked"):
        unpacked(tmp_path / "bomb", 1000)


def test_of_mutated_files_of_a_set_each_is_refused_or_read_right(files, tmp_path):
    rng, whole = random.Random(8), load_fashion_mnist()
    paths = sorted((tmp_path / "fashion_mnist").iterdir())
    originals = [path.read_bytes() for path in paths]
    refused = 0
    for i in range(100):
        path, original = paths[i % 4], originals[i % 4]
        content = original if i % 8 < 4 else zlib.decompress(original, 31)
        at = rng.randrange(20)  # a fault in the header half of the time
        path.write_bytes(of_bytes(content, rng) if i % 2 else content[:at] + rng.randbytes(1) + content[at + 1 :])
        try:
            for part, expected in zip(load_fashion_mnist(), whole, strict=True):
                np.testing.assert_array_equal(part.inputs, expected.inputs)
                np.testing.assert_array_equal(part.targets, expected.targets)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
        path.write_bytes(original)
    assert refused > 80


# -- tiny-shakespeare -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tinyshakespeare.txt", "tiny_shakespeare/tinyshakespeare.txt"])
def test_tiny_shakespeare_is_cut_as_nanogpt_does(tmp_path, monkeypatch, name):
    monkeypatch.setenv("SCRATCH_DATA", str(tmp_path))
    text = "First Citizen:\nBefore we proceed any further, hear me speak.\n\n" * 7 + "Speak. Go."
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode())
    described = _described("tinyshakespeare.txt", text.encode())
    monkeypatch.setitem(SOURCES, "tiny_shakespeare", replace(SOURCES["tiny_shakespeare"], files=(described,)))
    train, validation = load_tiny_shakespeare()
    assert train + validation == text and (len(text), len(train)) == (444, 399)  # 399.6 rounded down
    path.write_bytes(text.encode().replace(b"\n", b"\r\n"))
    with pytest.raises(ValueError, match="tinyshakespeare.txt: .* is too long"):
        load_tiny_shakespeare()


# -- the catalog and the command line ---------------------------------------------------------------------------


def catalog_lines(capsys, *words):
    assert main(["data", *words]) == 0
    return capsys.readouterr().out


def test_the_command_lists_what_is_here_and_what_it_takes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SCRATCH_DATA", str(tmp_path))
    assert {entry.name: entry.full for entry in CATALOG if entry.full} == SOURCES
    shown = tuple(entry for entry in CATALOG if entry.name in ("mnist", "tiny_shakespeare"))  # the other is installed
    monkeypatch.setattr("scratch.data.CATALOG", shown)
    listed = catalog_lines(capsys)
    for name, megabytes in (("mnist", "11.6"), ("tiny_shakespeare", "1.1")):
        assert f"not here: scratch data fetch {name} downloads {megabytes} MB; or by hand: " in listed
    assert f"t10k-labels-idx1-ubyte.gz into {tmp_path / 'mnist'}" in listed
    (tmp_path / "tinyshakespeare.txt").write_text("damaged")
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").write_text("damaged")
    listed = catalog_lines(capsys)
    assert "damaged: scratch data fetch tiny_shakespeare downloads 1.1 MB" in listed
    assert "incomplete or damaged: scratch data fetch mnist downloads 11.6 MB" in listed


def test_the_entries_state_sizes_and_folders(files, tmp_path, monkeypatch):
    entry = replace(next(entry for entry in CATALOG if entry.name == "mnist"), full=SOURCES["mnist"])
    assert entry.is_here and entry.state == f"here: {tmp_path / 'mnist'}"
    for name, sizes in (("mnist", "55,000 / 5,000 / 10,000 images, 12 MB"), ("fashion_mnist", "images, 31 MB")):
        assert sizes in next(entry for entry in CATALOG if entry.name == name).size


def test_fetch_brings_what_is_damaged_or_missing_and_tells_where(files, tmp_path, monkeypatch, capsys):
    fetched = []

    def download(addresses, path, size, sha256, report):
        fetched.append(path.name)
        path.write_bytes(idx(files["mnist"][path.name.removesuffix(".gz")]))

    monkeypatch.setattr("scratch.data.download.download", download)
    paths = [tmp_path / "mnist" / file.name for file in SOURCES["mnist"].files]
    paths[0].unlink()
    paths[3].write_bytes(b"damaged")
    text = catalog_lines(capsys, "fetch", "mnist")
    assert fetched == [paths[0].name, paths[3].name] and len(load_mnist().train) == 220
    assert text.startswith("mnist ") and "fashion" not in text


def test_fetch_says_what_can_be_fetched(capsys):
    for words in (["fetch"], ["fetch", "digits"], ["bring", "mnist"]):
        with pytest.raises(SystemExit) as end:
            main(["data", *words])
        assert end.value.code == 2
    assert "fetch what? fashion_mnist, mnist, tiny_shakespeare" in capsys.readouterr().err


# -- the MLP trains on them -------------------------------------------------------------------------------------


def test_an_mlp_learns_clothes(files, tmp_path, capsys):
    words = "--hidden 32 --steps 60 --warmup 5 --evaluate_every 30 --dropout 0 --lr 0.01".replace("_", "-").split()
    assert main(["train", "mlp", "--preset", "fashion", *words, "--folder", str(tmp_path / "run")]) == 0
    assert "fashion_mnist: 220 / 20 / 30 to learn from" in capsys.readouterr().out
    assert (tmp_path / "run" / "mistakes.png").is_file()
    results = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert results["validation_accuracy"] > 0.5, results
    assert main(["sample", "mlp", "--run", str(tmp_path / "run"), "--count", "2"]) == 0
    assert any(name in capsys.readouterr().out for name in FASHION_NAMES)


def test_images_are_the_same_through_the_mlp_as_from_the_loaders(files):
    assert PRESETS["fashion"]["data"] in IMAGES
    for name, (load, _) in LOADERS.items():
        for a, b in zip(load_data(name), load(), strict=True):
            np.testing.assert_array_equal(a.inputs, b.inputs)


def test_a_packed_file_unpacks_to_no_more_than_its_size_allows(tmp_path, monkeypatch):
    packed = gzip.compress(idx(np.zeros((1000, 100, 3))))
    (tmp_path / "bomb.gz").write_bytes(packed)
    assert read_idx(tmp_path / "bomb.gz", 3).shape == (1000, 100, 3) and len(packed) < 3000
    monkeypatch.setattr("scratch.data.cache._FREE", 1000)
    with pytest.raises(ValueError, match=rf"bomb\.gz: .*too long: expected {1000 + 100 * len(packed):,} bytes"):
        read_idx(tmp_path / "bomb.gz", 3)
    with pytest.raises(ValueError, match="it is a folder"):
        read_idx(tmp_path, 3)
