"""A setting holds inside its block, or while a decorated function or generator runs, and nowhere else."""

import threading
from contextvars import ContextVar, copy_context

import numpy as np
import pytest

from scratch import Tensor
from scratch.initializers import undrawn, uniform
from scratch.layers.convolution.fast import _exact_zeros, exact_zeros
from scratch.module import Module, observe
from scratch.random import current_stream, generator, stream
from scratch.scope import Scope
from scratch.tensor import is_grad_enabled, no_grad

VARIABLE: ContextVar[int] = ContextVar("variable", default=0)


def test_a_decorated_generator_has_the_setting_while_its_body_runs():
    w = Tensor(np.ones(2, np.float32), requires_grad=True)

    @no_grad()
    def outputs():
        yield (w * 2).requires_grad, is_grad_enabled()
        yield (w * 2).requires_grad, is_grad_enabled()

    for item in outputs():
        assert item == (False, False)
        assert is_grad_enabled() and (w * 2).requires_grad


def test_a_decorated_generator_keeps_the_setting_of_its_caller_between_items():
    @no_grad()
    def twice():
        yield is_grad_enabled()
        yield is_grad_enabled()

    items = twice()
    with no_grad():
        assert next(items) is False
        assert not is_grad_enabled()
    assert next(items) is False
    assert is_grad_enabled()


def test_a_decorated_generator_is_sent_to_thrown_into_returned_from_and_closed():
    seen = []

    @Scope(VARIABLE, lambda: 1)
    def body():
        try:
            seen.append((yield VARIABLE.get()))
            try:
                yield VARIABLE.get()
            except KeyError:
                seen.append(("thrown", VARIABLE.get()))
            yield 3
            return "end"  # noqa: B901
        finally:
            seen.append(("closed", VARIABLE.get()))

    items = body()
    assert next(items) == 1 and items.send("sent") == 1 and items.throw(KeyError()) == 3
    with pytest.raises(StopIteration) as stop:
        next(items)
    assert stop.value.value == "end"
    assert seen == ["sent", ("thrown", 1), ("closed", 1)] and VARIABLE.get() == 0

    items = body()
    next(items)
    items.close()
    assert seen[-1] == ("closed", 1) and VARIABLE.get() == 0
    items = body()
    next(items)
    with pytest.raises(LookupError, match="mine"):
        items.throw(LookupError("mine"))
    assert seen[-1] == ("closed", 1) and VARIABLE.get() == 0


def test_a_decorated_function_may_call_itself_and_run_in_several_threads():
    meet, results = threading.Barrier(2, timeout=10), []

    @no_grad()
    def evaluate(depth):
        if depth == 0:
            meet.wait()
            return [is_grad_enabled()]
        return [is_grad_enabled(), *evaluate(depth - 1)]

    threads = [threading.Thread(target=lambda: results.append(evaluate(2))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[False] * 3] * 2 and is_grad_enabled()


SCOPES = {
    "no_grad": (no_grad, is_grad_enabled),
    "observe": (lambda: observe(lambda *_: None), lambda: None),
    "stream": (lambda: stream(1, 2), current_stream),
    "undrawn": (undrawn, lambda: uniform((1,), 1, 2)[0] == 0),
    "exact_zeros": (exact_zeros, _exact_zeros.get),
}


@pytest.mark.parametrize("name", SCOPES)
@pytest.mark.parametrize("inside", [False, True])
def test_a_block_may_be_closed_in_another_thread_whose_own_setting_stays(name, inside):
    scope, read = SCOPES[name]
    errors, before_and_after = [], []

    def holds():
        with scope():
            yield

    def close():
        try:
            if inside:
                with scope():
                    before_and_after.append(read())
                    items.close()
                    before_and_after.append(read())
            else:
                before_and_after.append(read())
                items.close()
                before_and_after.append(read())
        except ValueError as error:
            errors.append(error)

    def run():
        next(items)
        thread = threading.Thread(target=close)
        thread.start()
        thread.join()

    items = holds()
    copy_context().run(run)  # what the generator set in this thread stays there, in a context of the test's own
    assert errors == [] and before_and_after[0] == before_and_after[1]


def test_a_decorated_function_draws_anew_each_time_and_a_generator_goes_on_in_its_stream():
    @stream(5, 7)
    def draw():
        return generator().random()

    @stream(5, 7)
    def draws():
        yield generator().random()
        yield generator().random()

    with stream(5, 7):
        expected = [generator().random(), generator().random()]
    assert [draw(), draw()] == [expected[0]] * 2
    assert list(draws()) == expected and current_stream() is None


def test_an_observer_sees_what_a_decorated_generator_calls_only():
    class Double(Module):
        def forward(self, x):
            return 2 * x

    seen, double = [], Double()

    @observe(lambda module, inputs, output: seen.append(output))
    def outputs():
        yield double(1)
        yield double(2)

    assert [(y, double(10)) for y in outputs()] == [(2, 20), (4, 20)]
    assert seen == [2, 4]
