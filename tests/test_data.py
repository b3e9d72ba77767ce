"""Data: what ships is what is said to ship, splits do not leak, and the order of the batches can be taken up again."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import math
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scratch.data as data
from scratch.data import (
    CATALOG,
    CURVES,
    SOURCES,
    TOYS,
    Batches,
    CharTokenizer,
    Dataset,
    TextWindows,
    class_counts,
    in_order,
    load_digits,
    load_shakespeare,
    split,
    stratified_split,
    windows_in_order,
)
from scratch.data.bundled import SHA256, read_bundled
from scratch.data.order import BATCHES, SPLIT, WINDOWS, draws, random_words, shuffled
from scratch.data.text import PLAYS

FILES = Path(data.__file__).parent / "files"


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.fixture(scope="module")
def plays():
    return load_shakespeare()


def rows_of(array):
    return {row.tobytes() for row in array}


# -- order ------------------------------------------------------------------------------------------------------


def test_random_words_are_the_same_on_every_machine_and_numpy_version():
    # Philox 4x64 by its definition: key (7, 3), counter (0, 0, 2**64 - 1, 1), which is raised before the first block.
    assert random_words(5, 7, 3, BATCHES).tolist() == philox_4x64((7, 3), (1, 0, 2**64 - 1, 1)) + [
        philox_4x64((7, 3), (2, 0, 2**64 - 1, 1))[0]
    ]


def philox_4x64(key, counter, rounds=10):
    """Salmon et al. 2011, section 3.3, in Python's whole numbers."""
    mask = 2**64 - 1
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for _ in range(rounds):
        p0, p1 = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (p1 >> 64) ^ c1 ^ k0, p1 & mask, (p0 >> 64) ^ c3 ^ k1, p0 & mask
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
    return [c0, c1, c2, c3]


def test_shuffles_and_draws_follow_from_the_words():
    words = random_words(9, 5, 2, SPLIT)
    assert shuffled(9, 5, 2, SPLIT).tolist() == sorted(range(9), key=lambda i: words[i])
    assert draws(9, 10, 5, 2, SPLIT).tolist() == [int(w) % 10 for w in words]
    assert draws(9, 10, 5, 2, SPLIT).dtype == np.int64


@pytest.mark.parametrize("other", [(8, 3, BATCHES), (7, 4, BATCHES), (7, 3, WINDOWS)])
def test_another_seed_index_or_purpose_gives_other_words(other):
    assert not set(random_words(50, 7, 3, BATCHES).tolist()) & set(random_words(50, *other).tolist())


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, True, None, "0"])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ValueError, match="a seed is a whole number"):
        Batches(np.zeros(3), batch_size=1, seed=seed)


# -- Dataset ----------------------------------------------------------------------------------------------------


def test_masks_are_labels_of_pixels():
    masks = np.array([[[0, 1, 2]], [[2, 2, 1]]])
    whole = Dataset("d", np.zeros((2, 1, 1, 3)), masks, ("a", "b", "c"))
    assert class_counts(whole) == [1, 2, 3] and whole.classes == 3
    np.testing.assert_array_equal(whole.take([1]).targets, masks[1:])


def test_take_returns_the_rows_in_the_order_asked_for():
    whole = Dataset("d", np.arange(12.0).reshape(4, 3), np.array([0, 1, 1, 0]), ("a", "b"))
    part = whole.take([3, 1, 1])
    assert part.inputs.tolist() == [[9, 10, 11], [3, 4, 5], [3, 4, 5]]
    assert part.targets.tolist() == [0, 1, 1]
    assert (part.name, part.class_names, len(part)) == ("d", ("a", "b"), 3)
    assert part.arrays[0] is part.inputs and part.arrays[1] is part.targets
    assert repr(part) == "Dataset('d', inputs float64 (3, 3), targets int64 (3,), 2 classes)"
    assert class_counts(whole) == [2, 2] and class_counts(part) == [1, 2]


def test_a_class_without_rows_is_counted_too():
    assert class_counts(Dataset("d", np.zeros((2, 1)), np.array([1, 1]), ("a", "b", "c"))) == [0, 2, 0]


@pytest.mark.parametrize(
    ("inputs", "targets", "names", "message"),
    [
        (np.zeros((3, 2)), np.zeros(4), None, "3 inputs, but 4 targets"),
        (np.zeros((0, 2)), np.zeros(0), None, "at least one row"),
        ([1, 2], np.zeros(2), None, "inputs must be an array with rows, got list"),
        (np.zeros(2), np.float64(1), None, "targets must be an array with rows, got float64"),
        (np.zeros(3), np.array([0, 2, 1]), ("a", "b"), "labels go from 0 to 1, row 1 has 2"),
        (np.zeros(3), np.array([0, 1, -1]), ("a", "b"), "labels go from 0 to 1, row 2 has -1"),
        (np.zeros(2), np.array([0.0, 1.0]), ("a", "b"), "or, as masks, (N, H, W), got float64 of shape (2,)"),
        (np.zeros(2), np.array([[0], [1]]), ("a", "b"), "or, as masks, (N, H, W), got int64 of shape (2, 1)"),
        (np.zeros(1), np.array([[[0, 1, 0], [1, 2, 3]]]), ("a", "b"), "from 0 to 1, row 0, pixel (1, 1), has 2"),
    ],
)
def test_a_data_set_says_what_is_wrong(inputs, targets, names, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Dataset("d", inputs, targets, names)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([], "at least one row number"),
        ([0.5], "at least one row number"),
        ([[0]], "at least one row number"),
        ([True, False, True], "at least one row number"),
        ([0, 3], "rows go from 0 to 2, asked for 0 to 3"),
        ([-1], "rows go from 0 to 2, asked for -1 to -1"),
    ],
)
def test_take_says_what_is_wrong(indices, message):
    with pytest.raises(ValueError, match=message):
        Dataset("d", np.zeros(3), np.zeros(3)).take(indices)


def test_classes_can_be_counted_only_where_there_are_some():
    with pytest.raises(ValueError, match="no class names"):
        class_counts(Dataset("d", np.zeros(3), np.zeros(3)))


# -- splits -----------------------------------------------------------------------------------------------------


def numbered(labels, classes=3):
    labels = np.asarray(labels)
    return Dataset("d", np.arange(len(labels)), labels, tuple("abcdef"[:classes]))


@given(
    st.lists(st.integers(0, 5), min_size=8, max_size=60),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 2**63 - 1),
    st.sampled_from([split, stratified_split]),
)
def test_a_split_has_every_row_once_and_the_sizes_asked_for(labels, validation, test, seed, function):
    parts = function(numbered(labels, 6), validation, test, seed)
    assert [len(part) for part in parts] == [len(labels) - validation - test, validation, test]
    assert sorted(np.concatenate([part.inputs for part in parts])) == list(range(len(labels)))
    for part in parts:
        assert part.targets.tolist() == [labels[i] for i in part.inputs]


def test_a_stratified_split_keeps_the_proportions():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    parts = stratified_split(numbered(labels), validation=0.1, test=20, seed=3)
    assert [class_counts(part) for part in parts] == [[35, 21, 14], [5, 3, 2], [10, 6, 4]]


def test_shares_that_do_not_divide_go_to_the_largest_remainders():
    parts = stratified_split(numbered(np.repeat([0, 1, 2], [7, 7, 2])), validation=1, test=5)
    assert class_counts(parts.test) == [2, 2, 1]  # 5/16 of (7, 7, 2) is 2.19, 2.19, 0.63
    assert sum(class_counts(parts.validation)) == 1


def test_equal_rows_never_land_in_two_parts():
    rng = np.random.default_rng(1)
    values = rng.integers(0, 40, 200)
    inputs = np.stack([values, -values], axis=1).astype(np.float32)
    labels = rng.integers(0, 3, 200)  # also rows that are equal but for their label
    for function in (split, stratified_split):
        for seed in range(5):
            parts = function(Dataset("d", inputs, labels, ("a", "b", "c")), validation=40, test=60, seed=seed)
            a, b, c = (rows_of(part.inputs + 0) for part in parts)
            assert not a & b and not a & c and not b & c
            assert sum(map(len, parts)) == 200
            assert 30 <= len(parts.validation) <= 40 and 50 <= len(parts.test) <= 60


def test_zero_and_minus_zero_are_the_same_row():
    inputs = np.array([[0.0], [-0.0], [1.0], [2.0], [3.0], [-0.0]], dtype=np.float32)
    for seed in range(20):
        parts = split(Dataset("d", inputs, np.arange(6)), validation=1, test=1, seed=seed)
        assert sum((part.inputs == 0).any() for part in parts) == 1


def test_a_split_depends_on_the_seed_only():
    d = numbered(np.arange(90) % 3)
    first, again, other = (stratified_split(d, 10, 20, seed=seed) for seed in (4, 4, 5))
    for a, b, c in zip(first, again, other, strict=True):
        assert a.inputs.tolist() == b.inputs.tolist()
        assert sorted(a.inputs) != sorted(c.inputs)


def test_the_classes_are_mixed_from_the_first_row_to_the_last():
    # Dealt out class by class, train would begin with the class whose quotas were full first.
    d = numbered(np.repeat([0, 1, 2], 400))
    ends = [part.targets[at] for seed in range(30) for part in stratified_split(d, 120, 300, seed)
            for at in (slice(0, 5), slice(-5, None))]  # fmt: skip
    uniform = sum(len(set(labels.tolist())) == 1 for labels in ends)
    assert uniform <= 8  # 180 ends, each of one class with probability 1/81: 2.2 expected


def test_a_class_of_one_row_is_promised_to_one_part_only():
    parts = stratified_split(numbered([0, 0, 0, 1, 2, 3, 4, 5], 6), validation=3, test=3)
    assert [len(part) for part in parts] == [2, 3, 3]


@pytest.mark.parametrize(
    ("validation", "test", "message"),
    [
        (5, 5, "validation 5 and test 5 of 10 rows leave nothing to train on"),
        (0.5, 0.5, "leave nothing to train on"),
        (0, 1, "validation must be a count from 1 or a share between 0 and 1 of 10 rows, got 0"),
        (1, 1.5, "test must be a count from 1 or a share between 0 and 1 of 10 rows, got 1.5"),
        (True, 1, "validation must be a count"),
        (0.01, 1, "validation must be a count"),
        (-1, 1, "validation must be a count"),
    ],
)
def test_a_split_says_what_is_wrong(validation, test, message):
    with pytest.raises(ValueError, match=message):
        split(numbered(np.arange(10) % 3), validation, test)


def test_a_split_of_equal_rows_is_refused():
    with pytest.raises(ValueError, match="no row is left for validation"):
        split(Dataset("d", np.zeros((10, 2)), np.arange(10)), 3, 3)


def test_values_can_not_be_stratified():
    with pytest.raises(ValueError, match="needs class numbers"):
        stratified_split(Dataset("d", np.arange(9), np.linspace(0, 1, 9)), 2, 2)


# -- Batches ----------------------------------------------------------------------------------------------------

lengths, sizes = st.integers(1, 40), st.integers(1, 12)


@given(lengths, sizes, st.integers(0, 2**63 - 1))
def test_every_epoch_is_a_permutation(length, size, seed):
    batches = Batches(np.arange(length), -np.arange(length), batch_size=size, seed=seed)
    for epoch in range(3):
        assert (batches.epoch, batches.position) == (epoch, 0)
        given_ = [next(batches) for _ in range(len(batches))]
        assert [len(x) for x, _ in given_[:-1]] == [size] * (len(batches) - 1)
        assert sorted(np.concatenate([x for x, _ in given_])) == list(range(length))
        assert all((x == -y).all() for x, y in given_)


@given(st.integers(1, 40), sizes, st.integers(0, 100))
def test_drop_last_gives_full_batches_only(length, size, seed):
    if length < size:
        with pytest.raises(ValueError, match="fill no batch"):
            Batches(np.arange(length), batch_size=size, seed=seed, drop_last=True)
        return
    batches = Batches(np.arange(length), batch_size=size, seed=seed, drop_last=True)
    assert len(batches) == length // size
    for _ in range(2):
        rows = np.concatenate([next(batches)[0] for _ in range(len(batches))])
        assert len(rows) == length // size * size == len(set(rows.tolist()))
    assert (batches.epoch, batches.position) == (2, 0)


@given(st.integers(1, 25), st.integers(1, 9), st.integers(0, 1000), st.booleans(), st.booleans(), st.integers(0, 80))
def test_resuming_at_any_position_gives_exactly_the_remaining_batches(length, size, seed, drop, shuffle, before):
    if drop and length < size:
        size = length

    def fresh():
        return Batches(np.arange(length), batch_size=size, seed=seed, drop_last=drop, shuffle=shuffle)

    batches, resumed = fresh(), fresh()
    for _ in range(before):
        next(batches)
    assert batches.epoch * len(batches) + batches.position == before
    resumed.load_state_dict(json.loads(json.dumps(batches.state_dict())))
    for _ in range(2 * len(batches) + 1):
        assert (resumed.epoch, resumed.position) == (batches.epoch, batches.position)
        assert next(resumed)[0].tolist() == next(batches)[0].tolist()


def test_the_order_is_a_function_of_seed_and_epoch():
    def epochs(seed):
        batches = Batches(np.arange(30), batch_size=7, seed=seed)
        return [np.concatenate([next(batches)[0] for _ in range(len(batches))]).tolist() for _ in range(2)]

    assert epochs(1) == epochs(1) == [shuffled(30, 1, epoch, BATCHES).tolist() for epoch in range(2)]
    assert len({tuple(order) for seed in (1, 2) for order in epochs(seed)}) == 4


def test_without_shuffling_the_rows_come_in_order_and_start_again():
    batches = Batches(np.arange(5), batch_size=2, shuffle=False)
    assert [next(batches)[0].tolist() for _ in range(4)] == [[0, 1], [2, 3], [4], [0, 1]]
    assert (batches.epoch, batches.position) == (1, 1)
    assert iter(batches) is batches


@pytest.mark.parametrize("shuffle", [True, False])
def test_writing_into_a_batch_changes_nothing_else(shuffle):
    x = np.arange(6.0)
    batch, = next(Batches(x, batch_size=3, shuffle=shuffle))  # fmt: skip
    batch[:] = -1
    assert x.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_batch_keeps_dtype_and_shape_of_its_rows():
    x, y = next(Batches(np.zeros((5, 3, 2), dtype=np.float32), np.zeros(5, dtype=np.int64), batch_size=4))
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((4, 3, 2), np.float32, (4,), np.int64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 4}, "batch_size is 3, the state has 4"),
        ({"length": 11}, "length is 10, the state has 11"),
        ({"seed": 1}, "seed is 0, the state has 1"),
        ({"shuffle": False}, "shuffle is True, the state has False"),
        ({"drop_last": True}, "drop_last is False, the state has True"),
        ({"batch_size": 4, "length": 9}, "length is 10, the state has 9; batch_size is 3, the state has 4"),
        ({"position": 4}, "an epoch has 4 batches, got position 4"),
        ({"position": -1}, "position must be a whole number from 0, got -1"),
        ({"epoch": 1.5}, "epoch must be a whole number from 0, got 1.5"),
        ({"epoch": 2**64}, "epoch must be a whole number"),
        ({"position": None}, "position must be a whole number from 0, got None"),
    ],
)
def test_a_wrong_state_is_refused_and_changes_nothing(change, message):
    batches = Batches(np.arange(10), batch_size=3)
    next(batches)
    before = batches.state_dict()
    with pytest.raises(ValueError, match=message):
        batches.load_state_dict({**before, "epoch": 5, **change})
    assert batches.state_dict() == before


def test_an_incomplete_state_is_refused():
    batches = Batches(np.arange(10), batch_size=3)
    with pytest.raises(ValueError, match="missing seed, position"):
        batches.load_state_dict({k: v for k, v in batches.state_dict().items() if k not in ("seed", "position")})
    with pytest.raises(ValueError, match="expected a dict, got list"):
        batches.load_state_dict([1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arrays", "size", "message"),
    [
        ((), 2, "at least one array"),
        ((np.zeros(3), np.zeros(4)), 2, "one length, got [3, 4]"),
        ((np.zeros((0, 2)),), 2, "at least one row"),
        ((np.float64(1),), 2, "at least one array with rows"),
        ((np.zeros(3),), 0, "batch_size must be a whole number from 1, got 0"),
        ((np.zeros(3),), 2.0, "batch_size must be a whole number from 1, got 2.0"),
        ((np.zeros(3),), True, "batch_size must be a whole number from 1, got True"),
    ],
)
def test_batches_and_in_order_say_what_is_wrong(arrays, size, message):
    with pytest.raises(ValueError, match="Batches.*" + re.escape(message)):
        Batches(*arrays, batch_size=size)
    with pytest.raises(ValueError, match="in_order.*" + re.escape(message)):
        in_order(arrays, size)  # at the call, before anything is drawn


@given(lengths, sizes)
def test_in_order_gives_every_row_once(length, size):
    x = np.arange(length)
    batches = list(in_order((x, 2 * x), size))
    assert np.concatenate([a for a, _ in batches]).tolist() == x.tolist()
    assert all((2 * a == b).all() for a, b in batches)
    assert [len(a) for a, _ in batches[:-1]] == [size] * (len(batches) - 1)


def test_in_order_wants_a_sequence_of_arrays():
    with pytest.raises(ValueError, match=r"write in_order\(\(x,\), batch_size\)"):
        in_order(np.zeros((3, 2)), 2)


# -- what ships -------------------------------------------------------------------------------------------------


def test_the_files_are_those_of_the_list_and_of_the_readme():
    readme = (FILES / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in FILES.iterdir() if path.suffix in (".npz", ".gz")} == set(SHA256)
    for name, expected in SHA256.items():
        content = (FILES / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == expected
        assert f"| `{name}` | {len(content):,} | `{expected}` |" in readme
    assert sum((FILES / name).stat().st_size for name in SHA256) < 1_500_000


def test_only_files_that_ship_can_be_read():
    with pytest.raises(ValueError, match="expected one of digits.npz"):
        read_bundled("../digits.py")


def test_digits_are_3500_500_1000_with_equal_classes(digits):
    assert [class_counts(part) for part in digits] == [[350] * 10, [50] * 10, [100] * 10]
    for part in digits:
        assert part.inputs.dtype == np.float32 and part.targets.dtype == np.int64
        assert part.inputs.shape == (len(part), 784)
        assert part.inputs.min() == 0 and part.inputs.max() == 1
        assert part.class_names == tuple("0123456789")


def test_digits_are_these_pixels(digits):
    # Read off the CSV file of the wheel: the first row of each split, and all ink.
    assert [part.targets[0] for part in digits] == [2, 2, 1]
    as_bytes = [np.rint(part.inputs * 255).astype(np.int64) for part in digits]
    assert [int(pixels.sum()) for pixels in as_bytes] == [91_702_830, 13_226_761, 26_337_511]
    np.testing.assert_array_equal(digits.train.inputs, (as_bytes[0] / 255).astype(np.float32))


def test_a_zero_is_a_ring_and_a_one_a_stroke(digits):
    images = digits.train.inputs.reshape(-1, 28, 28)
    zero, one = (images[digits.train.targets == k].mean(axis=0) for k in (0, 1))
    assert zero[13:15, 13:15].mean() < 0.1 < 0.4 < zero[5:8, 13:17].mean()
    assert one[13:15, 13:15].mean() > 0.6 and one[:, :6].max() < 0.1


def test_digits_stand_upright_and_are_not_mirrored(digits):
    images = digits.train.inputs.reshape(-1, 28, 28)
    seven, four = (images[digits.train.targets == k].mean(axis=0) for k in (7, 4))
    assert seven[7:10].sum() > 1.3 * seven[19:22].sum()  # the bar of a seven is above
    assert four[18:22, 15:].sum() > 2 * four[18:22, :13].sum()  # the foot of a four is on the right


def test_no_digit_is_in_two_splits_or_twice(digits):
    parts = [rows_of(part.inputs) for part in digits]
    assert [len(part) for part in parts] == [3500, 500, 1000]
    assert len(set.union(*parts)) == 5000


def test_the_digits_file_maps_every_row_to_the_source():
    with np.load(FILES / "digits.npz", allow_pickle=False) as file:
        assert sorted(file["source_rows"]) == list(range(5000))
        np.testing.assert_array_equal(file["source_rows"] // 500, file["labels"])  # 500 a class, sorted, there
        assert file["images"].dtype == np.uint8 and file["images"].shape == (5000, 28, 28)


def test_digits_as_images_are_the_same_rows(digits):
    for flat, image in zip(digits, load_digits(flat=False), strict=True):
        assert image.inputs.shape == (len(flat), 1, 28, 28)
        np.testing.assert_array_equal(image.inputs.reshape(-1, 784), flat.inputs)
        np.testing.assert_array_equal(image.targets, flat.targets)


def flip_a_byte(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("load", [load_digits, load_shakespeare])
@pytest.mark.parametrize("damage", [flip_a_byte, lambda c: c[:-1], lambda c: c + b"\0", lambda c: b""])
def test_a_damaged_file_is_refused_by_name(tmp_path, load, damage):
    name = {load_digits: "digits.npz", load_shakespeare: "shakespeare-validation.txt.gz"}[load]
    for each in SHA256:
        shutil.copy(FILES / each, tmp_path)
    load(folder=tmp_path)
    (tmp_path / name).write_bytes(damage((FILES / name).read_bytes()))
    with pytest.raises(ValueError, match=f"{re.escape(name)} is damaged .*`git checkout -- scratch/data/files"):
        load(folder=tmp_path)


@pytest.mark.parametrize("load", [load_digits, load_shakespeare])
def test_a_missing_file_is_named(tmp_path, load):
    with pytest.raises(FileNotFoundError, match=r"\.(npz|gz) is missing; .* install .* again"):
        load(folder=tmp_path)


# -- Shakespeare ------------------------------------------------------------------------------------------------


def test_the_plays_have_the_stated_sizes_and_characters(plays):
    assert [len(text) for text in plays] == [865_114, 118_766, 110_828]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    assert sorted(set(plays.train)) == sorted("\n !&',-.:;?" + letters)
    assert len(set(plays.train)) == 63
    assert set(plays.validation) | set(plays.test) <= set(plays.train)


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("train", "To be, or not to be: that is the question:"),
        ("train", "O Romeo, Romeo! wherefore art thou Romeo?"),
        ("train", "Out, damned spot! out, I say!--One: two: why,"),
        ("train", "Once more unto the breach, dear friends, once more;"),
        ("train", "The quality of mercy is not strain'd,"),
        ("validation", "All the world's a stage,"),
        ("test", "If music be the food of love, play on;"),
    ],
)
def test_a_play_is_in_its_part_and_in_no_other(plays, part, line):
    assert [name for name in plays._fields if line in getattr(plays, name).split("\n")] == [part]


def test_speeches_are_a_speaker_and_lines(plays):
    for text in plays:
        assert text.endswith("\n") and not text.endswith("\n\n") and "\n\n\n" not in text
        for speech in text[:-1].split("\n\n"):
            speaker, *lines = speech.split("\n")
            assert re.fullmatch(r"[A-Z][A-Za-z' &]*:", speaker), speech
            assert lines and all(line == line.strip() != "" for line in lines)


def test_stage_directions_and_headings_are_gone(plays):
    for text in plays:
        assert not re.search(r"\bExeunt\b|^Enter [A-Z]{3}|^Exit\b|^ACT |^SCENE |^SONG", text, re.MULTILINE)
        assert not re.search(r"^[A-Z]{2,}: .", text, re.MULTILINE)  # a speaker and the speech on one line
    # A direction stood between these two lines of one speech.
    assert "They smack of honour both. Go get him surgeons.\nWho comes here?\n" in plays.train


def test_held_out_plays_have_speeches_of_their_own(plays):
    speeches = [{s for s in text.split("\n\n") if len(s) > 80} for text in plays]
    assert [len(s) for s in speeches] > [0, 0, 0]
    assert not speeches[0] & speeches[1] and not speeches[0] & speeches[2] and not speeches[1] & speeches[2]


def test_the_plays_are_those_that_the_build_script_takes():
    spec = importlib.util.spec_from_file_location("build", FILES / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)

    def name(title):
        return title.lower().replace(" ", "-")

    taken = {part: [play.split("/")[1] for play in plays] for part, plays in build.PLAYS.items()}
    assert taken == {part: [name(title) for title in titles] for part, titles in PLAYS.items()}
    markdown = (
        "# Play\n\n## ACT I\n\n### SCENE I. A wood.\n\n_Enter A, with\nothers_\n\n**A**  \nOne _\\[Aside]_ two  \n"
        "three, & c.\n\n_Exit B_\n\nfour\n\n**B: & C:**  \n_\\[Within]_  \nFive!\n"
        "DD: Six.\n\nSCENE II: A heath.\n\n**A**  \nSONG.\nSeven\n\n_Exeunt_\n"
    )
    assert build.plain_text(markdown) == "A:\nOne two\nthree, &c.\nfour\n\nB & C:\nFive!\n\nDD:\nSix.\n\nA:\nSeven\n"


# -- CharTokenizer ----------------------------------------------------------------------------------------------


@given(st.text(min_size=1), st.data())
def test_a_tokenizer_round_trips(text, more):
    tokenizer = CharTokenizer.fit(text)
    assert tokenizer.vocabulary == sorted(set(text)) and len(tokenizer) == len(set(text))
    numbers = tokenizer.encode(text)
    assert numbers.dtype == np.int64 and numbers.tolist() == [tokenizer.vocabulary.index(c) for c in text]
    assert tokenizer.decode(numbers) == tokenizer.decode(numbers.tolist()) == text
    again = CharTokenizer(**json.loads(json.dumps(tokenizer.state_dict())))
    other = more.draw(st.text(st.sampled_from(sorted(set(text)))))
    assert again.vocabulary == tokenizer.vocabulary and again.decode(again.encode(other)) == other


def test_a_tokenizer_keeps_the_order_of_its_vocabulary():
    tokenizer = CharTokenizer("zay")
    assert tokenizer.encode("ayz").tolist() == [1, 2, 0] and tokenizer.decode([1, 1, 0]) == "aaz"
    assert repr(tokenizer) == "CharTokenizer(3 characters)"


def test_the_plays_round_trip(plays):
    tokenizer = CharTokenizer.fit(plays.train)
    for text in plays:
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    ("text", "message"), [("abcab", "'c' at position 2"), ("aé", "'é'"), ("ba\U0001f600", "😀"), ("A", "'A'")]
)
def test_an_unknown_character_is_named(text, message):
    with pytest.raises(ValueError, match=f"{message}.*not in the vocabulary of 2"):
        CharTokenizer.fit("ab").encode(text)


@pytest.mark.parametrize("vocabulary", ["", ["a", "a"], ["ab"], ["a", ""], ["a", 1]])
def test_a_vocabulary_is_of_different_single_characters(vocabulary):
    with pytest.raises(ValueError, match="different single characters"):
        CharTokenizer(vocabulary)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [([0, 2], "from 0 to 1, got 0 to 2"), ([-1], "got -1"), ([0.0], "got float64"), ([[0, 1]], r"got int64 \(1, 2\)")],
)
def test_numbers_outside_the_vocabulary_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        CharTokenizer.fit("ab").decode(numbers)


def test_nothing_encodes_and_decodes_to_nothing():
    tokenizer = CharTokenizer.fit("ab")
    assert tokenizer.encode("").shape == (0,) and tokenizer.encode("").dtype == np.int64
    assert tokenizer.decode([]) == ""


# -- windows ----------------------------------------------------------------------------------------------------


@given(st.integers(1, 9), st.integers(0, 20), st.integers(1, 5), st.integers(0, 10**9), st.integers(0, 30))
def test_windows_are_stretches_of_the_text_and_resume_anywhere(length, extra, size, seed, before):
    tokens = 100 + np.arange(length + 1 + extra)
    windows, resumed = (TextWindows(tokens, length, size, seed) for _ in range(2))
    for _ in range(before):
        next(windows)
    resumed.load_state_dict(json.loads(json.dumps(windows.state_dict())))
    for step in range(before, before + 3):
        x, y = next(resumed)
        assert x.shape == y.shape == (size, length)
        assert (np.diff(x, axis=1) == 1).all() and (y == x + 1).all()
        assert x.min() >= 100 and y.max() <= tokens[-1]
        expected = next(windows)
        np.testing.assert_array_equal((x, y), expected)
        np.testing.assert_array_equal((x, y), TextWindows(tokens, length, size, seed).batch(step))
    assert resumed.step == windows.step == before + 3


def test_windows_start_at_every_place_equally_often():
    tokens = np.arange(10)
    starts = Counter(TextWindows(tokens, 4, 6000, seed=2).batch(0)[0][:, 0].tolist())
    assert set(starts) == set(range(6))  # 6 · 4 + its target is the last that fits
    assert all(abs(count - 1000) < 150 for count in starts.values())


def test_windows_differ_from_step_to_step_and_seed_to_seed():
    tokens = np.arange(1000)
    first = [TextWindows(tokens, 5, 8, seed).batch(step)[0][:, 0].tolist() for seed in (0, 1) for step in (0, 1)]
    assert len({tuple(starts) for starts in first}) == 4
    windows = TextWindows(tokens, 5, 8)
    assert iter(windows) is windows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": 21}, "tokens is 20, the state has 21"),
        ({"length": 4}, "length is 3, the state has 4"),
        ({"batch_size": 1}, "batch_size is 2, the state has 1"),
        ({"seed": 9}, "seed is 0, the state has 9"),
        ({"step": -1}, "step must be a whole number from 0, got -1"),
    ],
)
def test_windows_refuse_a_wrong_state(change, message):
    windows = TextWindows(np.arange(20), 3, 2)
    next(windows)
    with pytest.raises(ValueError, match=message):
        windows.load_state_dict({**windows.state_dict(), "step": 7, **change})
    assert windows.step == 1


@given(st.integers(1, 9), st.integers(0, 40), st.integers(1, 5))
def test_windows_in_order_have_every_target_once(length, extra, size):
    tokens = 7 + np.arange(length + 1 + extra)
    batches = list(windows_in_order(tokens, length, size))
    assert np.concatenate([y.ravel() for _, y in batches]).tolist() == tokens[1:].tolist()
    assert np.concatenate([x.ravel() for x, _ in batches]).tolist() == tokens[:-1].tolist()
    *full, (last, _) = batches
    assert all(x.shape[1] == length and len(x) <= size for x, _ in full)
    assert last.shape[1] == length or len(last) == 1


@pytest.mark.parametrize("make", [TextWindows, windows_in_order])
@pytest.mark.parametrize(
    ("tokens", "length", "size", "message"),
    [
        (np.arange(4), 4, 1, "a window of 4 and its target need 5 tokens, got 4"),
        (np.arange(9.0), 4, 1, "got float64"),
        (np.zeros((3, 3), dtype=int), 1, 1, r"got int64 \(3, 3\)"),
        (np.arange(9), 0, 1, "length must be a whole number from 1, got 0"),
        (np.arange(9), 4, 1.5, "batch_size must be a whole number from 1, got 1.5"),
    ],
)
def test_windows_say_what_is_wrong(make, tokens, length, size, message):
    with pytest.raises(ValueError, match=f"{make.__name__}.*{message}"):
        make(tokens, length, size)


# -- toys -------------------------------------------------------------------------------------------------------

CLASSES = {"xor": 2, "spirals": 3, "two_moons": 2, "circles": 2, "gaussian_ring": 8, "gaussian_grid": 25}


@pytest.mark.parametrize("name", TOYS)
def test_toys_are_balanced_float32_and_depend_on_the_seed_only(name):
    n = 7 * CLASSES[name] + 1
    toy = TOYS[name](n, 0.1, 5)
    counts = class_counts(toy)
    assert len(counts) == CLASSES[name] == len(toy.class_names) and max(counts) - min(counts) == 1
    assert toy.name == name and toy.inputs.shape == (n, 2)
    assert (toy.inputs.dtype, toy.targets.dtype) == (np.float32, np.int64)
    for same in (TOYS[name](n, 0.1, 5), TOYS[name](n, 0.1, np.random.default_rng(5))):
        np.testing.assert_array_equal(same.inputs, toy.inputs)
    assert (TOYS[name](n, 0.1, 6).inputs != toy.inputs).any(axis=1).all()


@pytest.mark.parametrize("name", TOYS)
def test_noise_is_the_standard_deviation_about_the_noise_free_shape(name):
    # The shape is drawn before the noise, so the same seed without noise gives the points' places on it.
    clean, noisy = (TOYS[name](5000, noise, 3).inputs.astype(np.float64) for noise in (0.0, 0.25))
    difference = noisy - clean
    np.testing.assert_allclose(difference.std(axis=0), 0.25, rtol=0.05)
    np.testing.assert_allclose(difference.mean(axis=0), 0, atol=0.02)
    assert abs(np.corrcoef(difference.T)[0, 1]) < 0.05


@pytest.mark.parametrize("name", TOYS)
def test_independent_rows_draw_their_class(name):
    """χ² of the classes' counts over 200 sets of 50 rows: K − 1 on average; dealt out evenly it is nearly 0."""
    K, values = CLASSES[name], []
    for seed in range(200):
        drawn = data.independent(name, 50, seed)
        counts = np.bincount(drawn.targets, minlength=K)
        values.append((((counts - 50 / K) ** 2) / (50 / K)).sum())
    assert np.mean(values) == pytest.approx(K - 1, abs=4 * math.sqrt(2 * (K - 1) / 200))
    assert len(drawn) == 50 and np.unique(drawn.inputs, axis=0).shape == (50, 2)
    np.testing.assert_array_equal(drawn.inputs, data.independent(name, 50, 199).inputs)
    centres = np.stack([TOYS[name](5000).inputs[k::K].mean(axis=0) for k in range(K)])
    found = np.stack([data.independent(name, 5000).inputs[data.independent(name, 5000).targets == k].mean(axis=0)
                      for k in range(K)])  # fmt: skip
    np.testing.assert_allclose(found, centres, atol=0.1)


def test_xor_stands_on_the_corners():
    toy = data.xor(8, 0.0)
    assert {tuple(p) for p in toy.inputs.tolist()} == {(1, 1), (1, -1), (-1, 1), (-1, -1)}
    np.testing.assert_array_equal(toy.targets, (toy.inputs[:, 0] * toy.inputs[:, 1] < 0).astype(int))


def test_two_moons_are_half_circles():
    toy = data.two_moons(300, 0.0)
    upper, lower = (toy.inputs[toy.targets == k] for k in (0, 1))
    np.testing.assert_allclose(np.hypot(*upper.T), 1, atol=1e-6)
    np.testing.assert_allclose(np.hypot(lower[:, 0] - 1, lower[:, 1] - 0.5), 1, atol=1e-6)
    assert upper[:, 1].min() >= 0 and lower[:, 1].max() <= 0.5
    for moon in (upper[:, 0], lower[:, 0] - 1):  # from one end to the other
        assert moon.min() < -0.995 and moon.max() > 0.995


def test_circles_have_their_radii():
    toy = data.circles(200, 0.0, factor=0.3)
    np.testing.assert_allclose(np.hypot(*toy.inputs.T), np.where(toy.targets == 0, 1, 0.3), atol=1e-6)
    for k in (0, 1):
        quadrants = np.sign(toy.inputs[toy.targets == k])
        assert len(np.unique(quadrants, axis=0)) == 4


@pytest.mark.parametrize(("arms", "turns"), [(2, 1.0), (3, 0.75), (5, 0.4)])
def test_spirals_wind_with_their_radius(arms, turns):
    toy = data.spirals(300, 0.0, 4, arms=arms, turns=turns)
    radius = np.hypot(*toy.inputs.T.astype(np.float64))
    angle = np.arctan2(toy.inputs[:, 1], toy.inputs[:, 0])
    off = (angle / (2 * math.pi) - turns * radius - toy.targets / arms) % 1
    np.testing.assert_allclose(np.minimum(off, 1 - off), 0, atol=1e-5)
    assert 0.1 <= radius.min() < 0.2 and 0.9 < radius.max() <= 1


def test_gaussians_stand_on_their_centres():
    ring = data.gaussian_ring(16, 0.0)
    np.testing.assert_allclose(np.hypot(*ring.inputs.T), 2, atol=1e-6)
    np.testing.assert_allclose(ring.inputs[:3], [[2, 0], [math.sqrt(2), math.sqrt(2)], [0, 2]], atol=1e-6)
    assert len(np.unique(ring.inputs.round(4), axis=0)) == 8
    np.testing.assert_allclose(data.gaussian_ring(6, 0.0, modes=3, radius=5.0).inputs[:3], data.ring_centres(3, 5.0))

    grid = data.gaussian_grid(50, 0.0)
    assert {tuple(p) for p in grid.inputs.tolist()} == {(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)}
    assert grid.inputs[:2].tolist() == [[-4, -4], [-2, -4]]
    np.testing.assert_array_equal(grid.inputs, data.grid_centres()[grid.targets])
    assert data.grid_centres(2, 1.0).tolist() == [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize("name", CURVES)
def test_curves_are_their_formula_plus_noise(name):
    clean, noisy = data.curve(name, 4000, 0.0, 2), data.curve(name, 4000, 0.3, 2)
    x = clean.inputs.astype(np.float64)
    np.testing.assert_array_equal(clean.inputs, noisy.inputs)
    np.testing.assert_allclose(clean.targets, CURVES[name](x), atol=1e-6)
    assert clean.inputs.shape == clean.targets.shape == (4000, 1)
    assert clean.inputs.dtype == clean.targets.dtype == np.float32 and clean.class_names is None
    assert np.abs(clean.targets).max() <= 1 and -1 <= x.min() < -0.99 < 0.99 < x.max() <= 1
    np.testing.assert_allclose((noisy.targets - clean.targets).std(), 0.3, rtol=0.05)


def test_curves_at_known_places():
    x = np.array([-1.0, -0.75, -0.25, 0.0, 0.25, 0.75])
    expected = {
        "line": [-0.25, -0.125, 0.125, 0.25, 0.375, 0.625],
        "parabola": [1, 0.125, -0.875, -1, -0.875, 0.125],
        "sine": [0, 1, -1, 0, 1, -1],
        "kink": [-1, -0.5, 0.5, 1, 0.5, -0.5],
        "steps": [-0.75, -0.75, -0.25, 0.25, 0.25, 0.75],
        "chirp": [math.sin(1.5 * math.pi * (v + 1) ** 2) for v in x],
    }
    assert set(expected) == set(CURVES)
    for name, values in expected.items():
        np.testing.assert_allclose(CURVES[name](x), values, atol=1e-12)
    for function in (data.sine, data.steps):
        same = data.curve(function.__name__, 30, 0.2, 8)
        np.testing.assert_array_equal(function(30, 0.2, 8).targets, same.targets)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: data.xor(3), "xor: n must be a whole number from 4, one point a group, got 3"),
        (lambda: data.gaussian_grid(24), "n must be a whole number from 25"),
        (lambda: data.circles(10.0), "n must be a whole number from 2"),
        (lambda: data.two_moons(10, -0.1), "noise is a standard deviation from 0, got -0.1"),
        (lambda: data.two_moons(10, math.nan), "noise is a standard deviation from 0, got nan"),
        (lambda: data.two_moons(10, 0.1, -1), "a seed is a whole number"),
        (lambda: data.circles(10, factor=1.0), "factor must lie between 0 and 1, got 1.0"),
        (lambda: data.spirals(10, arms=1), "arms must be a whole number from 2, got 1"),
        (lambda: data.gaussian_ring(10, modes=0), "modes must be a whole number from 1, got 0"),
        (lambda: data.grid_centres(0), "side must be a whole number from 1, got 0"),
        (lambda: data.curve("cubic"), "expected one of line, parabola, .*, got 'cubic'"),
        (lambda: data.sine(0), "n must be a whole number from 1"),
    ],
)
def test_toys_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# -- catalog ----------------------------------------------------------------------------------------------------


def test_the_catalog_lists_everything_and_what_ships_is_here(digits, plays):
    entries = {entry.name: entry for entry in CATALOG}
    generated = (*TOYS, "curves", "shapes", "strings", "dates")
    assert list(entries) == ["digits", "shakespeare", "sunspots", *SOURCES, *generated]
    assert all(entry.is_here for entry in CATALOG if entry.full is None)
    assert {file for entry in CATALOG for file in entry.files} == set(SHA256)
    assert all(getattr(entry, field) for entry in CATALOG for field in ("what", "size", "shape", "licence", "source"))
    for part in digits:
        assert f"{len(part):,}" in entries["digits"].size
    for text in plays:
        assert f"{len(text):,}" in entries["shakespeare"].size


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), ValueError("damaged")])
def test_the_catalog_says_what_is_not_here(monkeypatch, error):
    def fail(name):
        raise error

    monkeypatch.setattr("scratch.data.catalog.read_bundled", fail)
    missing = [entry.name for entry in CATALOG if not entry.full and not entry.is_here]
    assert missing == ["digits", "shakespeare", "sunspots"]


def test_every_public_name_exists():
    assert all(hasattr(data, name) for name in data.__all__)


def test_sunspots_are_a_number_a_year():
    years, values = data.load_sunspots()
    assert years.tolist() == list(range(1700, 2009)) and values.shape == (309,) and values.dtype == np.float64
    assert (values[[0, 257, 308]] == [5, 190.2, 2.9]).all() and values.min() == 0  # 1957 is the highest of all


def test_the_readme_states_the_sizes_of_the_plays(plays):
    readme = (FILES / "README.md").read_text(encoding="utf-8")
    for part, text in zip(plays._fields, plays, strict=True):
        assert f"| {part} | {' · '.join(PLAYS[part])} | {len(text):,} |" in readme
        assert gzip.decompress((FILES / f"shakespeare-{part}.txt.gz").read_bytes()) == text.encode("ascii")
    assert f"{sum(map(len, plays)):,} characters" in readme
