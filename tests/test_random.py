"""Randomness: the same seed gives the same numbers, and a stream's numbers depend on their address alone."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest

from scratch.random import (
    Stream,
    current_stream,
    default_generator,
    generator,
    get_state,
    manual_seed,
    set_state,
    stream,
)

# -- the default generator -----------------------------------------------------------------------------------------


def test_manual_seed_restarts_the_one_default_generator():
    assert manual_seed(3) is default_generator() is generator()
    first = generator().standard_normal(5)
    following = generator().standard_normal(5)
    manual_seed(3)
    np.testing.assert_array_equal(generator().standard_normal(5), first)
    np.testing.assert_array_equal(generator().standard_normal(5), following)
    assert not np.array_equal(first, following)
    assert not np.array_equal(manual_seed(4).standard_normal(5), first)


def test_manual_seed_also_forgets_the_half_number_that_32_bit_draws_keep():
    manual_seed(1)
    first = generator().integers(0, 2**32, 3, dtype=np.uint32)
    manual_seed(1)
    np.testing.assert_array_equal(generator().integers(0, 2**32, 3, dtype=np.uint32), first)


def test_first_values_are_known():
    """A change of these numbers changes every run: weights, noise and all published results."""
    expected = [0.1257302210933933, -0.1321048632913019, 0.6404226504432821, 0.10490011715303971]
    np.testing.assert_allclose(manual_seed(0).standard_normal(4), expected, rtol=1e-14)
    assert manual_seed(12345).integers(0, 2**32, 4).tolist() == [3003105693, 976400781, 3387213022, 1360466709]


def test_the_largest_seed_and_numpy_integers_are_seeds():
    manual_seed(2**63 - 1)
    first = manual_seed(5).random(3)
    np.testing.assert_array_equal(manual_seed(np.int64(5)).random(3), first)


BAD = [-1, 2**63, 1.0, "1", None, True, np.float64(1), np.array([1])]


@pytest.mark.parametrize("seed", BAD, ids=repr)
def test_bad_seeds(seed):
    with pytest.raises(ValueError, match=r"a seed is a whole number from 0 to 2\*\*63 - 1, got"):
        manual_seed(seed)
    with pytest.raises(ValueError, match="a seed is a whole number"), stream(seed, 0):
        pass


def test_state_goes_through_json():
    manual_seed(9)
    generator().integers(0, 2**32, 3, dtype=np.uint32)  # an odd number of halves: the state holds one more
    saved = json.loads(json.dumps(get_state()))
    following = generator().integers(0, 2**32, 5, dtype=np.uint32), generator().standard_normal(7)
    manual_seed(1)
    set_state(saved)
    np.testing.assert_array_equal(generator().integers(0, 2**32, 5, dtype=np.uint32), following[0])
    np.testing.assert_array_equal(generator().standard_normal(7), following[1])


def test_a_saved_state_does_not_move_with_the_generator():
    saved = get_state()
    kept = json.dumps(saved)
    generator().standard_normal(3)
    assert json.dumps(saved) == kept != json.dumps(get_state())


GOOD = {
    "bit_generator": "PCG64",
    "state": {"state": 35399562948360463058890781895381311971, "inc": 87136372517582989555478159403783844777},
    "has_uint32": 0,
    "uinteger": 0,
}


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        3,
        {"bit_generator": "PCG64"},
        {**GOOD, "bit_generator": "MT19937"},
        {**GOOD, "state": None},
        {**GOOD, "state": {"state": "a", "inc": 1}},
        {**GOOD, "state": {"state": -1, "inc": 1}},
        {**GOOD, "state": {"state": 2**200, "inc": 1}},
        {**GOOD, "state": {"state": 12, "inc": 1}, "has_uint32": "x"},  # its first half must not be taken
    ],
    ids=str,
)
def test_other_states_are_refused_and_change_nothing(state):
    before = get_state()
    with pytest.raises(ValueError, match="not a saved state of the PCG64 generator"):
        set_state(state)
    assert get_state() == before


# -- streams -------------------------------------------------------------------------------------------------------


def draws(seed, step, shard=0, calls=1, n=4):
    with stream(seed, step, shard):
        return [generator().integers(0, 2**64, n, dtype=np.uint64).tolist() for _ in range(calls)]


def test_first_values_of_a_stream_are_known():
    assert draws(7, 11, 2, n=3) == [[8799410791257767098, 13781570860903489359, 5418460361933726631]]
    with stream(7, 11, 2):
        generator()
        second = generator().random(2)
    np.testing.assert_allclose(second, [0.661144808394835, 0.9895926363990749], rtol=1e-14)


def test_the_address_alone_decides():
    first = draws(1, 2, 3, calls=3)
    manual_seed(99)  # nothing of this matters
    draws(1, 2, 4, calls=2)
    assert draws(1, 2, 3, calls=3) == first
    with stream(1, 2, 3):  # nor how much an earlier call drew
        generator().standard_normal(1000)
        assert generator().integers(0, 2**64, 4, dtype=np.uint64).tolist() == first[1]
    assert Stream(1, 2, 3, calls=2).next_generator().integers(0, 2**64, 4, dtype=np.uint64).tolist() == first[2]


def test_no_number_comes_twice_whatever_part_of_the_address_changes():
    addresses = list(product((0, 1, 2**62), (0, 1, 2**40), (0, 1, 5)))
    numbers = [number for address in addresses for call in draws(*address, calls=3, n=500) for number in call]
    assert len(set(numbers)) == len(numbers) == 27 * 3 * 500


def test_the_same_numbers_on_any_thread_in_any_order():
    shards, calls = 6, 4
    expected = {shard: draws(5, 6, shard, calls) for shard in range(shards)}
    barrier = threading.Barrier(shards)

    def work(shard):
        came = []
        with stream(5, 6, shard):
            for _ in range(calls):
                barrier.wait(10)  # all shards draw their k-th numbers at the same time
                came.append(generator().integers(0, 2**64, 4, dtype=np.uint64).tolist())
        return came

    with ThreadPoolExecutor(shards) as pool:
        futures = {shard: pool.submit(work, shard) for shard in reversed(range(shards))}
        assert {shard: future.result() for shard, future in futures.items()} == expected


def test_streams_nest_and_end():
    alone = draws(1, 1, calls=2)
    assert current_stream() is None
    with stream(1, 1) as outer:
        assert current_stream() is outer
        first = generator().integers(0, 2**64, 4, dtype=np.uint64).tolist()
        with stream(2, 2) as inner:
            assert current_stream() is inner and draws(3, 3) == draws(3, 3)
            generator()
        assert (outer.calls, inner.calls) == (1, 1)
        assert [first, generator().integers(0, 2**64, 4, dtype=np.uint64).tolist()] == alone
    assert current_stream() is None and generator() is default_generator()
    with pytest.raises(RuntimeError), stream(1, 1):
        raise RuntimeError
    assert current_stream() is None


def test_a_stream_leaves_the_default_generator_and_other_threads_alone():
    before, seen = get_state(), {}
    with stream(1, 1):
        generator().standard_normal(10)
        thread = threading.Thread(target=lambda: seen.update(other=current_stream()))
        thread.start()
        thread.join()
    assert get_state() == before and seen == {"other": None}


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_steps_and_shards_are_whole_numbers(bad):
    with pytest.raises(ValueError, match=r"a step is a whole number from 0 to 2\*\*63 - 1, got"), stream(0, bad):
        pass
    with pytest.raises(ValueError, match="a shard is a whole number"), stream(0, 0, bad):
        pass


def test_a_stream_is_uniform_across_its_calls():
    """What dropout does: one number from each of many calls must look like one good sequence."""
    firsts = np.array([draws(0, step, n=1, calls=8) for step in range(500)], dtype=np.float64).ravel() / 2.0**64
    counts, _ = np.histogram(firsts, bins=10, range=(0, 1))
    assert ((counts - 400) ** 2 / 400).sum() < 27.9  # χ² of 9 degrees of freedom: one in a thousand
    assert abs(np.corrcoef(firsts[:-1], firsts[1:])[0, 1]) < 0.05
