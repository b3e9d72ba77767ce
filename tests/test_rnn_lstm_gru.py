"""Recurrent networks: models, tasks, training with carried state, sampling, the inside, and lockstep with PyTorch."""

import json
import math
import re
from importlib import resources

import numpy as np
import pytest

from scratch import Tensor, gradcheck, viz
from scratch.activations import log_softmax
from scratch.data import Batches, CharTokenizer, Dataset, Pairs, SequenceTokenizer, TextStreams, load_strings, trimmed
from scratch.data.strings import random_strings
from scratch.layers.recurrent import GRU, LSTM, RNN
from scratch.models.rnn_lstm_gru import (
    BahdanauSeq2Seq,
    LanguageModel,
    LuongSeq2Seq,
    SequenceClassifier,
    Tagger,
    ablations,
    inside,
    pictures,
    sample,
    seq2seq,
    tasks,
)
from scratch.models.rnn_lstm_gru import train as recurrent
from scratch.models.rnn_lstm_gru.generate import distribution, generate
from scratch.models.rnn_lstm_gru.model import initialise, remember
from scratch.models.rnn_lstm_gru.objective import Carried, evaluate, pair_loss, sequence_loss, text_figure
from scratch.models.rnn_lstm_gru.seq2seq import greedy
from scratch.models.rnn_lstm_gru.tasks import IGNORED, Sequences, Text, pieces
from scratch.models.rnn_lstm_gru.train import PRESETS, Settings
from scratch.optim import Adam, clip_grad_norm_
from scratch.parallel import ShardedLoss
from scratch.random import generator, manual_seed, stream
from scratch.sampling import draw
from scratch.schedules import cosine
from scratch.tensor import no_grad
from scratch.training import Run, checkpoint
from scratch.training.folder import CHECKPOINT, LOG
from scratch.training.report import RESULTS
from scratch.training.settings import from_json, with_preset
from scratch.training.ship import shipped
from scratch.viz import sequences
from scratch.weights import load_metadata
from tests import lockstep

KINDS = ("rnn", "lstm", "gru")
SEQ2SEQ = {"additive": BahdanauSeq2Seq, "multiplicative": LuongSeq2Seq}
every_kind = pytest.mark.parametrize("kind", KINDS)
both_attentions = pytest.mark.parametrize("attention", SEQ2SEQ)


def restless(rng, model):
    """Every parameter away from its special value, so that nothing hides behind a zero."""
    for parameter in model.parameters():
        parameter.data[...] += 0.3 * rng.standard_normal(parameter.shape)
    return model


def rows(rng: np.random.Generator, *lengths: int, begin: int | None = None, vocab_size: int = 9) -> np.ndarray:
    """Random tokens from 3 up, so many in each row, padded; the first is `begin`, if that is given."""
    tokens = rng.integers(3, vocab_size, (len(lengths), max(lengths)))
    tokens[np.arange(max(lengths)) >= np.array(lengths)[:, None]] = 0
    if begin is not None:
        tokens[:, 0] = begin
    return tokens


# -- the models -------------------------------------------------------------------------------------------------------


@every_kind
def test_gradients_of_the_language_model(kind, rng):
    model = restless(rng, LanguageModel(5, kind, 3, 4, layers=2).to(np.float64))
    tokens = rng.integers(0, 5, (2, 3))
    gradcheck(lambda *_: model(tokens)[0], [], parameters=dict(model.named_parameters()), rtol=1e-5, atol=1e-6)


@every_kind
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("model_class", [SequenceClassifier, Tagger])
def test_gradients_of_classifier_and_tagger(model_class, kind, bidirectional, rng):
    model = restless(rng, model_class(2, 3, kind, 4, bidirectional=bidirectional).to(np.float64))
    x, lengths = rng.standard_normal((3, 5, 2)), [5, 2, 3]
    parameters = dict(model.named_parameters())
    gradcheck(lambda x: model(x, lengths), [x], parameters=parameters, rtol=1e-5, atol=1e-6)


@both_attentions
def test_gradients_of_encoder_and_decoder(attention, rng):
    model = restless(rng, SEQ2SEQ[attention](7, 3, 4).to(np.float64))
    source, target = rows(rng, 4, 2, vocab_size=7), rows(rng, 3, 3, begin=1, vocab_size=7)
    gradcheck(lambda *_: model(source, target), [], parameters=dict(model.named_parameters()), rtol=1e-5, atol=1e-6)


def test_shapes_and_how_many_parameters(rng):
    V, E, H = 65, 64, 256
    for kind, gates in (("rnn", 1), ("lstm", 4), ("gru", 3)):
        model = LanguageModel(V, kind, E, H)
        assert model.count_parameters() == V * E + gates * H * (E + H + 2) + V * (H + 1)
    logits, (h, c) = LanguageModel(9, "lstm", 4, 6, layers=3)(rng.integers(0, 9, (2, 5)))
    assert logits.shape == (2, 5, 9) and h.shape == c.shape == (3, 2, 6)
    x = rng.standard_normal((2, 5, 3))
    assert SequenceClassifier(3, 4, "gru", 6, bidirectional=True)(x).shape == (2, 4)
    assert Tagger(3, 4, "rnn", 6)(x).shape == (2, 5, 4)
    with pytest.raises(ValueError, match="kind expected one of rnn, lstm, gru, got 'LSTM'"):
        LanguageModel(9, "LSTM")


def test_first_weights_turn_and_remember():
    model = LanguageModel(9, "lstm", 4, 6)
    U, b = model.recurrence.weight_hh_l0.data, model.recurrence.bias_ih_l0.data + model.recurrence.bias_hh_l0.data
    for gate in range(4):
        part = U[6 * gate : 6 * gate + 6]
        np.testing.assert_allclose(part @ part.T, np.eye(6), atol=1e-5)
    assert b.tolist() == [0] * 6 + [1] * 6 + [0] * 12
    assert (LanguageModel(9, "gru", 4, 6).recurrence.bias_ih_l0.data == 0).all()


def test_gates_that_remember():
    """After u steps without a word from outside, a cell that was set to u keeps (1 − 1/(u + 1))^u of its content."""
    lstm, gru = LSTM(2, 500), GRU(2, 500)
    for layer in (lstm, gru):
        initialise(layer)
        remember(layer, 40)
        u = np.exp(layer.bias_ih_l0.data[500:1000])
        assert 1 <= u.min() < 2 and 38 < u.max() <= 39 and abs(u.mean() - 20) < 2
    np.testing.assert_array_equal(lstm.bias_ih_l0.data[:500], -lstm.bias_ih_l0.data[500:1000])
    assert not lstm.bias_ih_l0.data[1000:].any() and not gru.bias_ih_l0.data[:500].any()
    for layer, steps in ((RNN(2, 3), 40), (lstm, 2)):
        with pytest.raises(ValueError, match=f"an LSTM or a GRU and at least 3 steps, got {layer.kind} and {steps}"):
            remember(layer, steps)


@every_kind
def test_a_text_in_pieces_gives_the_same_scores(kind, rng):
    model = restless(rng, LanguageModel(9, kind, 4, 6, layers=2).to(np.float64))
    tokens = rng.integers(0, 9, (2, 7))
    whole, _ = model(tokens)
    first, state = model(tokens[:, :3])
    second, _ = model(tokens[:, 3:], state)
    np.testing.assert_allclose(np.concatenate([first.data, second.data], axis=1), whole.data, rtol=1e-12)
    assert np.abs(model(tokens[:, 3:])[0].data - second.data).max() > 1e-3  # or the state would not matter


@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_changes_no_answer(bidirectional, rng):
    x, lengths = rng.standard_normal((3, 6, 2)), [6, 1, 4]
    for kind in KINDS:
        reader = restless(rng, SequenceClassifier(2, 3, kind, 5, bidirectional=bidirectional).to(np.float64))
        tagger = restless(rng, Tagger(2, 3, kind, 5, bidirectional=bidirectional).to(np.float64))
        answers, tags = reader(x, lengths).data, tagger(x, lengths).data
        for row, n in enumerate(lengths):
            alone = x[row : row + 1, :n]
            np.testing.assert_allclose(answers[row], reader(alone).data[0], rtol=1e-10)
            np.testing.assert_allclose(tags[row, :n], tagger(alone).data[0], rtol=1e-10)


@both_attentions
def test_padding_of_a_source_changes_nothing(attention, rng):
    model = restless(rng, SEQ2SEQ[attention](9, 4, 6).to(np.float64))
    source, target = rows(rng, 3, 7, 5), rows(rng, 2, 4, 6, begin=1)
    together = model(source, target).data
    for row, (s, t) in enumerate(zip((3, 7, 5), (2, 4, 6), strict=True)):
        alone = model(source[row : row + 1, :s], target[row : row + 1, :t]).data[0]
        np.testing.assert_allclose(together[row, :t], alone, rtol=1e-9, atol=1e-12)
    weights = model.decode(target, *model.encode(source)[::-1])[2].data
    assert weights.shape == (3, 6, 7) and (weights[source[:, None].repeat(6, axis=1) == 0] == 0).all()
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-12)


@both_attentions
def test_no_place_sees_a_later_token(attention, rng):
    model = restless(rng, SEQ2SEQ[attention](9, 4, 6).to(np.float64))
    source, target = rows(rng, 5), rows(rng, 6, begin=1)
    before = model(source, target).data
    for t in range(1, 6):
        changed = target.copy()
        changed[:, t:] = (changed[:, t:] - 2) % 6 + 3
        after = model(source, changed).data
        np.testing.assert_allclose(after[:, :t], before[:, :t], rtol=1e-11, atol=1e-13)
        assert np.abs(after[:, t] - before[:, t]).max() > 1e-6


@both_attentions
def test_reading_its_own_tokens(attention, rng):
    """With every token forced the logits are those of teacher forcing; with none, those of what it writes itself."""
    model = restless(rng, SEQ2SEQ[attention](9, 4, 6).to(np.float64))
    source, target = rows(rng, 5, 3, 4), rows(rng, 6, 6, 6, begin=1)
    plain = model(source, target).data
    np.testing.assert_allclose(model(source, target, np.ones((3, 6), bool)).data, plain, rtol=1e-10, atol=1e-12)
    free = model(source, target, np.zeros((3, 6), bool)).data
    written = np.concatenate([target[:, :1], free.argmax(axis=-1)[:, :-1]], axis=1)
    np.testing.assert_allclose(free, model(source, written).data, rtol=1e-9, atol=1e-12)
    tokens, _ = greedy(model, source, 6)
    for row, answer in enumerate(tokens):
        end = int((answer == 2).argmax()) if (answer == 2).any() else 5
        np.testing.assert_array_equal(answer[: end + 1], free[row].argmax(axis=-1)[: end + 1])
        assert (answer[end + 1 :] == 0).all()
    some = rng.random((3, 6)) < 0.5
    mixed = model(source, target, some).data
    read = np.where(some, target, np.concatenate([target[:, :1], mixed.argmax(axis=-1)[:, :-1]], axis=1))
    np.testing.assert_allclose(mixed, model(source, read).data, rtol=1e-9, atol=1e-12)


@both_attentions
def test_attention_is_what_its_equation_says(attention, rng):
    model = restless(rng, SEQ2SEQ[attention](9, 4, 6).to(np.float64))
    source, query = rows(rng, 4), rng.standard_normal((1, 3, 6))
    memory, _ = model.encode(source)
    c, a = model.attention(Tensor(query), memory)
    w = {name: p.data for name, p in model.attention.named_parameters()}
    for t in range(3):
        m = memory.values.data[0]
        if attention == "additive":
            inner = [w["query.weight"] @ query[0, t] + w["key.weight"] @ m[s] + w["key.bias"] for s in range(4)]
            e = np.array([w["score.weight"][0] @ np.tanh(each) for each in inner])
        else:
            e = np.array([query[0, t] @ (w["key.weight"] @ m[s]) for s in range(4)])
        p = np.exp(e) / np.exp(e).sum()
        np.testing.assert_allclose(a.data[0, t], p, rtol=1e-9)
        np.testing.assert_allclose(c.data[0, t], p @ m, rtol=1e-9)


def test_what_is_refused(rng):
    model, x = LanguageModel(9, "lstm", 4, 6, layers=2), np.zeros((3, 5, 2))
    wrong = (np.zeros((2, 4, 6)), np.zeros((2, 4, 6)))
    seq2seq, source, target = LuongSeq2Seq(9, 4, 6), rows(rng, 3), rows(rng, 2)
    cases = [
        (lambda: SequenceClassifier(2, 3)(x, [5, 0, 1]), "lengths from 1 to 5 steps, got 0 to 5"),
        (lambda: Tagger(2, 3)(x, [5, 6, 1]), "lengths from 1 to 5 steps, got 1 to 6"),
        (lambda: model(rng.integers(0, 9, (3, 4)), wrong), r"h_0 of shape \(2, 3, 6\), 2 = 2 layers × 1 directions"),
        (lambda: model(np.zeros((2, 0), int)), r"tokens \(B, T\) of at least one character, got shape \(2, 0\)"),
        (lambda: model(np.zeros(4, int)), r"got shape \(4,\)"),
        (lambda: model(np.full((1, 2), 9)), "indices from 0 to 8, got 9"),
        (lambda: BahdanauSeq2Seq(9, 4, 5), "hidden to be an even number from 2, got 5"),
        (lambda: seq2seq(np.zeros((1, 3), int), rows(rng, 2, begin=1)), "lengths from 1 to 3 steps, got 0"),
        (lambda: seq2seq(source, target[:, :0]), r"target \(B, T\) with T ≥ 1, got shape \(1, 0\)"),
        (lambda: seq2seq(source, target, np.ones((1, 3), bool)), r"forced \(1, 2\), got \(1, 3\)"),
        (lambda: generate(model, np.zeros((1, 0), int), 3), "at least one character"),
        (lambda: generate(model, source, -1), "count must be at least 0, got -1"),
        (lambda: generate(model, source, 2, temperature=-0.1), "temperature must be a number of at least 0, got -0.1"),
        (lambda: list(pieces(np.zeros(9, int), 4, 9)), "a text of at least 10 characters, got 9"),
        (lambda: tasks.adding(1), "length of at least 2, got 1"),
        (lambda: tasks.series(200), "length of 1 to 199 years, got 200"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


# -- sampling ---------------------------------------------------------------------------------------------------------


@every_kind
def test_a_sampled_text_is_what_reading_it_anew_gives(kind, rng):
    """The carried state against the whole text at every step, greedily; and the same draws from the same generator."""
    model = restless(rng, LanguageModel(9, kind, 4, 6, layers=2).to(np.float64))
    text = rng.integers(0, 9, (2, 3))
    for token in generate(model, text, 5, temperature=0)[:, 3:].T:
        with no_grad():
            assert (model(text)[0].data[:, -1].argmax(axis=1) == token).all()
        text = np.concatenate([text, token[:, None]], axis=1)
    one, other = (generate(model, text, 7, rng=np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert one.shape == (2, 15) and model.training


def test_temperature():
    logits = np.array([[0.0, 1.0, 3.0], [2.0, 2.0, -1.0]])
    np.testing.assert_allclose(distribution(logits), np.exp(log_softmax(Tensor(logits), dim=1).data), rtol=1e-12)
    assert distribution(logits, 0).tolist() == [[0, 0, 1], [1, 0, 0]]
    sharp, flat = distribution(logits, 0.5)[0], distribution(logits, 5.0)[0]
    assert sharp[2] > distribution(logits)[0, 2] > flat[2]
    np.testing.assert_allclose(np.log(sharp[2] / sharp[1]), 4.0, rtol=1e-12)
    drawn = draw(np.tile(distribution(logits)[:1], (20_000, 1)), np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(drawn) / 20_000, distribution(logits)[0], atol=0.01)


# -- tasks ------------------------------------------------------------------------------------------------------------


def test_the_adding_problem():
    task = tasks.adding(10, (500, 20, 30))
    x, lengths, y = task.train
    assert x.shape == (500, 10, 2) and (lengths == 10).all()
    assert [len(part[0]) for part in (task.validation, task.test)] == [20, 30]
    assert (x[:, :5, 1].sum(axis=1) == 1).all() and (x[:, 5:, 1].sum(axis=1) == 1).all()
    np.testing.assert_allclose(y[:, 0], (x[:, :, 0] * x[:, :, 1]).sum(axis=1), rtol=1e-6)
    assert abs(((y - 1) ** 2).mean() - 1 / 6) < 0.02 and task.guess[1] == 1 / 6


def test_copying_and_counting():
    x, _, y = tasks.copy(4, (50, 5, 5)).train
    assert x.shape == (50, 14, 10) and (x.sum(axis=2) == 1).all()
    signs = x.argmax(axis=2)
    assert (signs[:, 5:9] == 8).all() and (signs[:, 9] == 9).all() and (signs[:, 10:] == 8).all()
    assert (y[:, :9] == IGNORED).all() and (y[:, 9:] == signs[:, :5]).all()
    task = tasks.parity(6, (50, 5, 5))
    x, lengths, y = task.train
    for row in range(50):
        n = lengths[row]
        assert y[row, :n].tolist() == [int(x[row, : t + 1].sum()) % 2 for t in range(n)] and (y[row, n:] == -100).all()
    assert x.shape == (50, 6, 1) and 1 <= lengths.min() and lengths.max() == 6
    assert task.test[0].shape == (5, 60, 1) and (task.test[2] >= 0).all()


def test_rows_and_years():
    task = tasks.rows()
    assert [len(part[2]) for part in (task.train, task.validation, task.test)] == [3500, 500, 1000]
    assert task.train[0].shape == (3500, 28, 28)
    task = tasks.series(24)
    (x, _, _), (later, _, next_year), (last, lengths, asked) = task.train, task.validation, task.test
    assert (len(x), len(later), len(last)) == (1901 - 1724, 40, 68) and (lengths == 24).all()
    np.testing.assert_allclose(x[0, :3, 0], [0.05, 0.11, 0.16], rtol=1e-6)
    np.testing.assert_allclose(later[1:, -1, 0], next_year[:-1, 0])
    naive = 100 * np.sqrt(((last[:, -1] - asked) ** 2).mean())
    assert task.baselines["RMSE as last year"] == pytest.approx(naive, rel=1e-6)
    assert task.baselines["RMSE linear"] < naive


def test_pieces_of_a_text():
    tokens = np.arange(50)
    x, y = (np.concatenate(part, axis=1) for part in zip(*pieces(tokens, 4, 3), strict=True))
    assert x.shape == (3, 16) and (y == x + 1).all() and x[1, 0] == 16
    streams = TextStreams(tokens, 4, 3)
    assert streams.pieces == 4
    for step in range(9):
        a, b = next(streams)
        np.testing.assert_array_equal(a, x[:, 4 * (step % 4) : 4 * (step % 4) + 4])
        np.testing.assert_array_equal(b, a + 1)
        assert streams.begins(step) == (step in (0, 4, 8))
    other = TextStreams(tokens, 4, 3)
    other.load_state_dict(streams.state_dict())
    np.testing.assert_array_equal(next(other)[0], next(streams)[0])
    with pytest.raises(ValueError, match="3 streams of 17 need 52 tokens, got 50"):
        TextStreams(tokens, 17, 3)
    with pytest.raises(ValueError, match="length"):
        TextStreams(tokens, 5, 3).load_state_dict(streams.state_dict())


# -- training ---------------------------------------------------------------------------------------------------------


def some_text() -> Text:
    text = "".join("abcd\n"[i] for i in np.random.default_rng(1).integers(0, 5, 700))
    tokenizer = CharTokenizer("abcd\n")
    return Text(tokenizer, *(tokenizer.encode(part) for part in (text[:500], text[500:600], text[600:])))


def some_pairs(train: int = 70) -> Pairs:
    """Strings of one to five of four letters, reversed."""
    tokenizer = SequenceTokenizer("abcd")
    texts = random_strings(train + 45, (1, 5), 4)
    data = Dataset("reverse", tokenizer.encode(texts), tokenizer.encode([t[::-1] for t in texts], begin=True))
    cut = np.split(np.arange(len(data)), [train, train + 20])
    return Pairs("reverse", tokenizer, *(data.take(part) for part in cut))


SMALL = {
    "text": lambda: some_text(),
    "tags": lambda: tasks.parity(5, (70, 20, 20)),
    "numbers": lambda: tasks.adding(6, (70, 20, 20)),
    "pairs": lambda: some_pairs(),
}
SHORT = {"embedding": 3, "hidden": 6, "steps": 6, "evaluate_every": 3, "warmup": 2, "clip": 0.5, "batch_size": 5,
         "length": 30, "lr": 0.02}  # fmt: skip


def start(folder, monkeypatch, settings: Settings, task, dtype=np.float64) -> Run:
    """A run on a small task, without pictures."""
    monkeypatch.setattr(recurrent, "load_task", lambda settings: task)
    monkeypatch.setattr(pictures, "draw_all", lambda *arguments: [])
    run = Run.create("rnn_lstm_gru", settings, folder=folder)
    try:
        recurrent.train(settings, run, lambda *a: recurrent.build(*a).to(dtype))
    finally:
        run.close()
    return run


@every_kind
@pytest.mark.parametrize("shards", [1, 2])
def test_truncated_backpropagation_is_the_loop_that_it_says(kind, shards, tmp_path, monkeypatch):
    """Three pieces of 30 in five streams, so the fourth step starts anew; against the equations, written out here."""
    text = some_text()
    manual_seed(0)
    model = recurrent.build(Settings(**SHORT, kind=kind), text).to(np.float64)
    optimizer, schedule = Adam(model.parameters()), cosine(0.02, 6, warmup=2, final=1e-4)
    norms, state = [], None
    for step in range(6):
        place = 99 * np.arange(5)[:, None] + 30 * (step % 3) + np.arange(30)
        state = None if step % 3 == 0 else state
        logits, state = model(text.train[place], state)
        state = tuple(Tensor(s.data) for s in state) if kind == "lstm" else Tensor(state.data)
        log_p = log_softmax(logits, dim=-1)
        loss = -(log_p * Tensor(np.eye(5)[text.train[place + 1]])).sum() / 150.0
        optimizer.zero_grad()
        loss.backward()
        norms.append(clip_grad_norm_(model.parameters(), 0.5))
        optimizer.lr = schedule(step)
        optimizer.step()
    run = start(tmp_path / "run", monkeypatch, Settings(**SHORT, kind=kind, shards=shards), text)
    _, arrays = checkpoint.load(run.folder / CHECKPOINT)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(arrays[f"model.{name}"], value, rtol=1e-7, atol=1e-9, err_msg=name)
    figures = json.loads((run.folder / RESULTS).read_text())["figures"]
    best = recurrent.build(Settings(**SHORT, kind=kind), text).to(np.float64)
    best.load_state_dict({k.removeprefix("best."): a for k, a in arrays.items() if k.startswith("best.")})
    assert figures["test loss"] == pytest.approx(evaluate(best, text, text.test)["loss"], rel=1e-9)


@pytest.mark.parametrize(("small", "changes"), [
    ("text", {}), ("text", {"kind": "gru", "layers": 2, "dropout": 0.2}), ("tags", {"bidirectional": True}),
    ("numbers", {"kind": "rnn", "dropout": 0.3}), ("pairs", {"own": 0.8}),
    ("pairs", {"attention": "additive", "own": 0.5}),
])  # fmt: skip
def test_a_run_that_broke_off_and_resumed_ends_with_the_same_bits(small, changes, tmp_path, monkeypatch):
    """In 32 bits and two shards; it breaks off after the update of step 4, in the middle of the streams."""
    settings, task = Settings(**SHORT, **changes, save_every=2), SMALL[small]()
    start(tmp_path / "whole", monkeypatch, settings, task, np.float32)
    log = Run.log

    def breaking(self, number, loss, **figures):
        log(self, number, loss, **figures)
        if number == 4:
            raise OSError("the plug was pulled")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="plug"):
        patch.setattr(Run, "log", breaking)
        start(tmp_path / "run", monkeypatch, settings, task, np.float32)
    generator().random()
    run = Run.resume(tmp_path / "run")
    recurrent.train(from_json(Settings, run.document["settings"]), run)
    run.close()
    (facts, arrays), (others, expected) = (checkpoint.load(tmp_path / name / CHECKPOINT) for name in ("run", "whole"))
    assert {**facts, "seconds": 0} == {**others, "seconds": 0} and arrays.keys() == expected.keys()
    for name, value in expected.items():
        assert arrays[name].tobytes() == value.tobytes(), name
    assert (tmp_path / "run" / LOG).read_bytes() == (tmp_path / "whole" / LOG).read_bytes()


@pytest.mark.parametrize("small", SMALL)
def test_shards_give_the_gradient_of_the_whole(small, rng):
    task = SMALL[small]()
    model = restless(rng, recurrent.build(Settings(**SHORT), task).to(np.float64))
    batch = next(recurrent.load_batches(Settings(**SHORT), task))
    batch = recurrent.varied(Settings(**SHORT), task, 0, batch)
    found = []
    for shards in (1, 2, 3):
        carried = Carried(model, 5) if small == "text" else None
        model.zero_grad()
        loss = ShardedLoss(model, recurrent.loss_function(task, carried), shards)(*batch)
        loss.backward()
        states = [] if carried is None else [state.data.copy() for state in carried.states]
        found.append([np.array(loss.item()), *states, *(p.grad.copy() for p in model.parameters())])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_a_carried_state_keeps_each_stream_apart(rng):
    model = LanguageModel(5, "lstm", 3, 4).to(np.float64)
    carried = Carried(model, 4)
    h = rng.standard_normal((1, 2, 4))
    carried.write(np.array([3, 1]), (Tensor(h), Tensor(2 * h)))
    np.testing.assert_array_equal(carried.read(np.array([1, 3]))[1].data, 2 * h[:, ::-1])
    assert (carried.read(np.array([0, 2]))[0].data == 0).all() and carried.states[0].dtype == np.float64
    carried.forget()
    assert not any(state.data.any() for state in carried.states)


def test_how_often_the_decoder_reads_itself():
    """0 at the first step, `own` at the last, a straight line between them."""
    settings, pairs = Settings(**{**SHORT, "steps": 101}, own=0.6), some_pairs(2000)
    batch = pairs.train.arrays
    for step, share in ((0, 0.0), (50, 0.3), (100, 0.6)):
        with stream(0, step):
            forced = recurrent.varied(settings, pairs, step, batch)[2]
        assert forced.shape == (2000, batch[1].shape[1] - 1) and abs((~forced).mean() - share) < 0.02
    assert len(recurrent.varied(Settings(), pairs, 9, batch)) == 2


def test_figures_of_each_kind_of_task(rng):
    text = some_text()
    model = restless(rng, LanguageModel(5, "gru", 3, 6).to(np.float64))
    with no_grad():
        parts = [np.concatenate(part, axis=1) for part in zip(*pieces(text.validation, 100), strict=True)]
        log_p = log_softmax(model(parts[0])[0], dim=-1).data
    expected = -np.take_along_axis(log_p, parts[1][..., None], axis=-1).mean()
    assert evaluate(model, text, text.validation)["loss"] == pytest.approx(expected, rel=1e-9)
    assert text_figure(model, text.train, 3) == pytest.approx(text_figure(model, text.train, 100))

    task = SMALL["tags"]()
    tagger = restless(rng, recurrent.build(Settings(**SHORT), task).to(np.float64))
    figures = evaluate(tagger, task, task.validation)
    x, lengths, y = task.validation
    right = [(tagger(x[i : i + 1, :n]).data[0].argmax(axis=1) == y[i, :n]) for i, n in enumerate(lengths)]
    assert figures["accuracy"] == pytest.approx(np.concatenate(right).mean())
    assert figures["exact_match"] == pytest.approx(np.mean([each.all() for each in right]))

    task = SMALL["numbers"]()
    model = restless(rng, recurrent.build(Settings(**SHORT), task).to(np.float64))
    error = ((model(task.test[0]).data - task.test[2]) ** 2).mean()
    assert recurrent.report(model, task) == {"test MSE": pytest.approx(error)} and model.training

    pairs = some_pairs()
    model = restless(rng, LuongSeq2Seq(7, 3, 6, 6).to(np.float64))
    figures, right = evaluate(model, pairs, pairs.test), 0
    for source, target in zip(*pairs.test.arrays, strict=True):
        answer, _ = greedy(model, trimmed(source[None])[0], 6)
        right += pairs.tokenizer.decode(answer) == pairs.tokenizer.decode(target[None])
    assert figures["exact_match"] == right / len(pairs.test)


def test_a_small_lstm_learns_to_add():
    """Two of six numbers: 300 steps bring the error far below that of always saying 1."""
    manual_seed(0)
    task = tasks.adding(6, (4000, 100, 100))
    model = SequenceClassifier(2, 1, "lstm", 24)
    optimizer, batches = Adam(model.parameters(), lr=1e-2), Batches(*task.train, batch_size=50)
    for _ in range(300):
        loss, count = sequence_loss(model, *next(batches))
        optimizer.zero_grad()
        (loss / float(count)).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert evaluate(model, task, task.test)["loss"] < 0.01


@pytest.mark.parametrize(("changes", "message"), [
    ({"steps": 0}, "steps must be at least 1, got 0"),
    ({"length": 0}, "length must be at least 1, got 0"),
    ({"own": 1.5}, "own must be from 0 to 1, got 1.5"),
    ({"remember": 50, "kind": "rnn"}, "remember must be 0, or from 3 with an LSTM or a GRU, got 50 and rnn"),
    ({"dropout": -0.5}, "dropout must be from 0 to 1, got -0.5"),
    ({"lr": float("inf")}, "lr must be a number of at least final_lr, got inf"),
    ({"lr": float("nan")}, "lr must be at least 0, got nan"),
])  # fmt: skip
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        Settings(**changes)


def test_every_preset_builds_its_model():
    for preset in PRESETS:
        settings = with_preset(Settings, PRESETS, preset)
        if "shakespeare" in settings.data:
            model = recurrent.build(settings, some_text())
            assert isinstance(model, LanguageModel) and model.recurrence.hidden_size == settings.hidden
        elif settings.data == "dates":
            assert isinstance(recurrent.build(settings, some_pairs()), SEQ2SEQ[settings.attention])
        else:
            sizes = {} if settings.data in ("rows", "series") else {"sizes": (8, 4, 4)}
            task = tasks.SEQUENCES[settings.data](settings.length, **sizes)
            assert isinstance(task, Sequences) and str(task)
            x, lengths, y = (part[:4] for part in task.train)
            loss, count = sequence_loss(recurrent.build(settings, task), x, lengths, y)
            assert math.isfinite(loss.item()) and count >= 4


# -- beside PyTorch ---------------------------------------------------------------------------------------------------


@pytest.mark.torch
@every_kind
@pytest.mark.parametrize("shards", [1, 2])
def test_the_language_model_in_lockstep_with_pytorch(kind, shards):
    """20 pieces of a text in streams, states carried and cut from the tape on both sides."""
    import torch

    from tests.twins.rnn_lstm_gru import LanguageModel as Twin

    model, twin, carried = LanguageModel(5, kind, 4, 8, 2), Twin(5, kind, 4, 8, 2), [None]
    model.to(np.float64)
    mine = Carried(model, 4)

    def twin_loss(x, y):
        logits, state = twin(x, carried[0])
        carried[0] = tuple(s.detach() for s in state) if kind == "lstm" else state.detach()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())

    sharded = ShardedLoss(model, recurrent.loss_function(some_text(), mine), shards)
    lockstep.check(
        model, twin, Adam(model.parameters(), lr=1e-2), torch.optim.Adam(twin.parameters(), lr=1e-2),
        TextStreams(some_text().train, 6, 4), lambda x, y: sharded(np.arange(4), x, y), twin_loss,
    )  # fmt: skip


@pytest.mark.torch
@every_kind
@pytest.mark.parametrize("both", [False, True])
def test_classifier_and_tagger_in_lockstep_with_pytorch(kind, both):
    import torch

    from tests.twins import rnn_lstm_gru as twins

    for ours, name, task in ((SequenceClassifier, "SequenceClassifier", tasks.adding(6, (200, 5, 5))),
                             (Tagger, "Tagger", tasks.parity(6, (200, 5, 5)))):  # fmt: skip
        model = ours(task.train[0].shape[2], task.outputs, kind, 8, bidirectional=both)
        twin = getattr(twins, name)(task.train[0].shape[2], task.outputs, kind, 8, both=both)
        x, lengths, y = task.train
        lengths = np.random.default_rng(2).integers(1, 7, len(x)) if task.numbers else lengths
        y = y.astype(np.float64) if task.numbers else y

        def twin_loss(x, lengths, y, twin=twin, task=task):
            answers = twin(x, lengths)
            if task.numbers:
                return torch.nn.functional.mse_loss(answers, y)
            return torch.nn.functional.cross_entropy(answers.flatten(0, 1), y.flatten())

        lockstep.check(
            model, twin, Adam(model.parameters(), lr=1e-2), torch.optim.Adam(twin.parameters(), lr=1e-2),
            Batches(x.astype(np.float64), lengths, y, batch_size=20), ShardedLoss(model, sequence_loss), twin_loss,
        )  # fmt: skip


@pytest.mark.torch
@both_attentions
@pytest.mark.parametrize("own", [False, True])
def test_encoder_and_decoder_in_lockstep_with_pytorch(attention, own):
    """With teacher forcing, and with half of the tokens the decoder's own."""
    beside_pytorch(SEQ2SEQ[attention](9, 5, 12), attention, own)


def beside_pytorch(model, attention, own=False):
    import torch

    from tests.twins import rnn_lstm_gru as twins

    twin = getattr(twins, SEQ2SEQ[attention].__name__)(9, 5, 12)
    data = load_strings("reverse", 400, 20, 20, lengths=(2, 6), symbols=6).train
    forced = np.random.default_rng(3).random((len(data), data.targets.shape[1] - 1)) < 0.5
    arrays = (*data.arrays, forced) if own else data.arrays

    def twin_loss(source, target, forced=None):
        source, target = (t[:, : int((t != 0).any(0).sum())] for t in (source, target))
        given, asked = target[:, :-1], target[:, 1:]
        logits = twin(source, given, forced if forced is None else forced[:, : given.shape[1]])
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), asked.flatten(), ignore_index=0)

    lockstep.check(
        model, twin, Adam(model.parameters(), lr=5e-3), torch.optim.Adam(twin.parameters(), lr=5e-3),
        Batches(*arrays, batch_size=10), ShardedLoss(model, pair_loss), twin_loss,
    )  # fmt: skip


FAULTS = [  # in the encoder and decoder: (which, what to replace, by what)
    ("additive", "np.where(forced[:, t], target[:, t], own)", "target[:, t]"),
    ("additive", "state = self.decoder(concatenate([y_t, c], axis=1), state)",
     "state = self.decoder(concatenate([y_t, c], axis=1), memory.values[:, 0])"),
    ("additive", "concatenate([state, c, y_t], axis=1)", "concatenate([c, state, y_t], axis=1)"),
    ("additive", "tanh(q.reshape(B, T, 1, A)", "(q.reshape(B, T, 1, A)"),
    ("multiplicative", "where(memory.padding[:, None], -np.inf, scores)", "scores"),
    ("multiplicative", "lengths=(~padding).sum(axis=1)", "lengths=None"),
    ("multiplicative", "concatenate([h[0], h[1]], axis=1)", "concatenate([h[1], h[0]], axis=1)"),
    ("multiplicative", "tanh(self.bridge", "(self.bridge"),
    ("multiplicative", "self.attention(s, memory)", "self.attention(s * 0, memory)"),
]  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize(("attention", "before", "after"), FAULTS)
def test_a_planted_fault_is_seen(attention, before, after):
    from pathlib import Path
    from types import ModuleType

    source = Path(seq2seq.__file__).read_text(encoding="utf-8")
    assert source.count(before) == 1, before
    faulty = ModuleType("faulty")
    exec(compile(source.replace(before, after), "faulty", "exec"), faulty.__dict__)
    with pytest.raises(AssertionError):
        beside_pytorch(getattr(faulty, SEQ2SEQ[attention].__name__)(9, 5, 12), attention, own="forced" in before)


@pytest.mark.torch
@pytest.mark.parametrize("fault", ["the state is not carried", "the streams change places"])
def test_lockstep_notices_a_wrong_state(fault, monkeypatch, rng):
    if fault == "the state is not carried":
        monkeypatch.setattr(Carried, "write", lambda *arguments: None)
    else:
        write = Carried.write
        monkeypatch.setattr(Carried, "write", lambda self, rows, after: write(self, rows[::-1], after))
    with pytest.raises(AssertionError):
        test_the_language_model_in_lockstep_with_pytorch("gru", 1)


# -- inside -----------------------------------------------------------------------------------------------------------


@every_kind
def test_gates_and_states_are_those_of_the_layer(kind, rng):
    model = restless(rng, LanguageModel(9, kind, 4, 6, layers=2).to(np.float64))
    tokens = rng.integers(0, 9, 7)
    with no_grad():
        h, state = model.features(tokens[None])
    found = inside.gates(model, tokens, layer=1)
    assert list(found) == {"rnn": ["h"], "lstm": ["i", "f", "g", "o", "c", "h"], "gru": ["r", "z", "n", "h"]}[kind]
    np.testing.assert_allclose(found["h"], h.data[0], rtol=1e-10)
    if kind == "lstm":
        np.testing.assert_allclose(found["c"][-1], state[1].data[1, 0], rtol=1e-10)
        np.testing.assert_allclose(found["o"] * np.tanh(found["c"]), found["h"], rtol=1e-10)
        before = np.concatenate([np.zeros((1, 6)), found["c"][:-1]])
        np.testing.assert_allclose(found["f"] * before + found["i"] * found["g"], found["c"], rtol=1e-9, atol=1e-12)
    for wrong, layer, message in ((tokens[:0], 0, r"tokens of one text, \(T,\), got shape \(0,\)"),
                                  (tokens, 2, "layer from 0 to 1, got 2")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            inside.gates(model, wrong, layer)


def test_what_cells_are_compared_with(rng):
    text = "To be\nHAMLET:\n(or (not))."
    assert inside.line_position(text)[:8].tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
    assert inside.word_position(text)[:6].tolist() == [0, 1, 0, 0, 1, 0]
    assert inside.in_name(text).tolist() == [0] * 6 + [1] * 8 + [0] * 11
    assert inside.bracket_depth(text)[14:].tolist() == [0, 1, 1, 1, 1, 2, 2, 2, 2, 1, 0]
    feature = rng.standard_normal(50)
    values = np.stack([feature, -2 * feature + 1, rng.standard_normal(50), np.ones(50)], axis=1)
    r = inside.correlations(values, feature)
    np.testing.assert_allclose(r[:2], [1, -1], rtol=1e-12)
    assert r[3] == 0 and r[2] == pytest.approx(np.corrcoef(values[:, 2], feature)[0, 1])
    with pytest.raises(ValueError, match="a feature .* that varies"):
        inside.correlations(values, np.ones(50))


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
def test_gradient_norms_are_those_of_finite_differences(kind, rng):
    layer, T = kind(2, 5).to(np.float64), 4
    x = rng.standard_normal((T, 3, 2))
    found = inside.gradient_by_distance(layer, x)
    assert found.shape == (T,) and found[0] == pytest.approx(1)
    u = np.random.default_rng(0).standard_normal((3, 5))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    states = 2 if layer.kind == "lstm" else 1
    for k in (1, T - 1):
        with no_grad():
            h = layer(Tensor(x[: T - k]))[1]
        before = [s.data for s in (h if states == 2 else (h,))]
        norms = np.zeros(3)
        for s in range(states):
            for i in range(5):
                ends = []
                for sign in (1, -1):
                    moved = [b.copy() for b in before]
                    moved[s][..., i] += sign * 1e-6
                    with no_grad():
                        y, _ = layer(Tensor(x[T - k :]), tuple(moved) if states == 2 else moved[0])
                    ends.append((y.data[-1] * u).sum(axis=1))
                norms += ((ends[0] - ends[1]) / 2e-6) ** 2
        assert found[k] == pytest.approx(np.sqrt(norms).mean(), rel=1e-6)


def test_gradients_of_a_plain_network_vanish_and_of_a_forgetless_lstm_stay():
    """By hand: U = ½ I at h = 0 halves the gradient at each step; with f = 1 an LSTM's cell keeps it."""
    plain, lstm = RNN(1, 3).to(np.float64), LSTM(1, 3).to(np.float64)
    for layer in (plain, lstm):
        for parameter in layer.parameters():
            parameter.data[...] = 0
    plain.weight_hh_l0.data[...] = 0.5 * np.eye(3)
    np.testing.assert_allclose(inside.gradient_by_distance(plain, np.zeros((6, 2, 1))), 0.5 ** np.arange(6), rtol=1e-12)
    lstm.bias_ih_l0.data[3:6] = 50  # f = 1, o = ½
    norms = inside.gradient_by_distance(lstm, np.zeros((6, 2, 1)))
    np.testing.assert_allclose(norms[1:], 0.5, rtol=1e-12)
    with pytest.raises(ValueError, match="one layer in one direction, time first"):
        inside.gradient_by_distance(GRU(1, 3, batch_first=True), np.zeros((2, 2, 1)))


@both_attentions
def test_alignment_and_trajectory(attention, rng):
    model = restless(rng, SEQ2SEQ[attention](9, 4, 6, 5).to(np.float64))
    source = rows(rng, 4)
    tokens, weights = inside.alignment(model, source)
    assert weights.shape == (len(tokens), 4)
    given = np.concatenate([[[1]], tokens[None, :-1]], axis=1)
    np.testing.assert_allclose(weights, model.decode(given, *model.encode(source)[::-1])[2].data[0], rtol=1e-9)
    with pytest.raises(ValueError, match=r"one sequence, \(1, S\), got shape \(2, 3\)"):
        inside.alignment(model, rows(rng, 3, 3))
    line = np.linspace(0, 1, 9)[:, None] * np.array([3.0, -4.0, 0.0]) + 0.001 * rng.standard_normal((9, 3))
    seen, share = inside.trajectory(line)
    assert seen.shape == (9, 2) and share[0] > 0.999 and seen[0, 0] > 0
    np.testing.assert_allclose(np.ptp(seen[:, 0]), 5, rtol=0.01)
    with pytest.raises(ValueError, match="at least 2 of them"):
        inside.trajectory(line[:1])


# -- pictures, samples, ablations -----------------------------------------------------------------------------------


def test_pictures_are_drawn_and_the_model_left_as_it_was(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(pictures.viz, "save", lambda figure, path: drawn.setdefault(path.name, figure) and path)
    log = [{"step": 0, "loss": 2.0}, {"step": 1, "loss": 1.5}, {"step": 2, "validation_loss": 1.4}]
    years = tasks.series(24)
    for task, expected in ((some_text(), ["curves", "cells", "trajectory"]), (some_pairs(), ["curves", "alignment"]),
                           (SMALL["tags"](), ["curves"]), (years, ["curves", "forecast"])):  # fmt: skip
        model = recurrent.build(Settings(**SHORT), task)
        files = pictures.draw_all(tmp_path, log, model, task)
        assert [file.stem for file in files] == expected and model.training
    shown = drawn["forecast.png"].axes[0].lines
    np.testing.assert_allclose(shown[0].get_ydata(), 100 * years.test[2][:, 0], rtol=1e-6)
    np.testing.assert_allclose(shown[2].get_ydata()[1:], shown[0].get_ydata()[:-1], rtol=1e-6)
    assert shown[0].get_xdata()[[0, -1]].tolist() == [1941, 2008]


def test_the_cell_that_counts_is_found():
    """A cell that is made to hold the place in the line: forget everything at a line's end, else add a step."""
    tokenizer = CharTokenizer("\nab")
    model = LanguageModel(3, "lstm", 3, 5).to(np.float64)
    for parameter in model.parameters():
        parameter.data[...] = 0
    model.embedding.weight.data[...] = np.eye(3)
    W, b = model.recurrence.weight_ih_l0.data, model.recurrence.bias_ih_l0.data
    b[2], b[7], b[12] = 30, 30, 0.1  # i = 1, f = 1, g = 0.1 for cell 2
    W[7, 0] = W[2, 0] = -60  # a line's end: f = 0, i = 0
    text = "abba\nab\naaaaaab\nb\n" * 3
    cell, r, values = pictures.counting_cells(model, tokenizer, text)["place in the line"]
    assert cell == 2
    before = np.concatenate([[0.0], values[:-1]])  # the cell holds the place behind the character
    np.testing.assert_allclose(before, np.tanh(0.1) * inside.line_position(text), atol=1e-9)
    assert abs(r) > 0.3


def test_gradients_before_training_have_the_order_of_the_page():
    norms = pictures.gradients(length=40, hidden=16)
    last = {name: each[30] for name, each in norms.items()}
    assert last["RNN, U from U(−1/√H, 1/√H)"] < last["GRU"] < last["LSTM"] < last["LSTM, forget bias 3"]
    assert last["RNN"] > last["GRU"] and all(each[0] == pytest.approx(1, rel=1e-5) for each in norms.values())


def test_gradients_of_trained_models_are_drawn_and_the_models_left_as_they_were():
    x = tasks.adding(8, (5, 2, 2)).train[0]
    model = SequenceClassifier(2, 1, "gru", 4)
    before = model(x).data
    (line,) = pictures.draw_trained_gradients({"GRU": model}, x).axes[0].lines
    layer = GRU(2, 4)
    layer.load_state_dict(model.recurrence.state_dict())
    np.testing.assert_allclose(line.get_ydata(), inside.gradient_by_distance(layer, x.swapaxes(0, 1)), rtol=1e-5)
    np.testing.assert_array_equal(model(x).data, before)
    assert model.recurrence.batch_first


def test_samples_of_each_kind_of_task(tmp_path, monkeypatch, capsys):
    cases = {
        "text": (["abc"], "abc"), "pairs": (["abca", "d"], "abca → "), "tags": (["--count", "2"], "right is"),
        "numbers": ([], "right is"),
    }  # fmt: skip
    for small, (words, told) in cases.items():
        task = SMALL[small]()
        monkeypatch.setattr(sample, "load_task", lambda settings, task=task: task)
        run = start(tmp_path / small, monkeypatch, Settings(**SHORT), task, np.float32)
        capsys.readouterr()
        sample.main(["--run", str(run.folder), *words])
        assert told in capsys.readouterr().out
    monkeypatch.setattr(sample, "load_task", lambda settings: some_text())
    sample.main(["--run", str(tmp_path / "text"), "ab", "--count", "7", "--temperature", "0"])
    assert len(capsys.readouterr().out.rstrip("\n")) <= 9
    for folder, words, message in [
        ("text", ["x"], "the character 'x' at position 0 is not in the vocabulary"),
        ("text", [""], "at least one character, got an empty one"),
        ("text", ["a", "--temperature", "-1"], "temperature must be a number of at least 0"),
        ("text", ["--count", "0"], "--count at least 1, got 0 and 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            sample.main(["--run", str(tmp_path / folder), *words])
    monkeypatch.setattr(sample, "load_task", lambda settings: some_pairs())
    with pytest.raises(ValueError, match="the character 'x' in 'abx' is not known"):
        sample.main(["--run", str(tmp_path / "pairs"), "abx"])
    with pytest.raises(ValueError, match="at least one character, got an empty one"):
        sample.main(["--run", str(tmp_path / "pairs"), ""])


SHIPPED = resources.files("scratch.models.rnn_lstm_gru") / "weights.safetensors"


@pytest.mark.skipif(not SHIPPED.is_file(), reason="the weights are not there yet")
def test_the_shipped_weights_give_the_loss_on_their_card_and_have_the_cell_of_the_page(capsys):
    """In 16 bits; the card was written from the run in 32."""
    card = load_metadata(SHIPPED)
    model, task = sample.load_weights(SHIPPED)
    assert shipped(SHIPPED, "rnn_lstm_gru", Settings)[0] == Settings()
    assert "scratch train rnn_lstm_gru --preset default --seed 0" in card["made by"]
    loss = evaluate(model, task, task.test)["loss"]
    assert abs(float(re.search(r"test loss ([\d.]+)", card["figures"])[1]) - loss) < 2e-3

    text = task.tokenizer.decode(task.validation[:2000])
    cell, r, _ = pictures.counting_cells(model, task.tokenizer, text)["place in the line"]
    assert cell == 215 and -0.87 < r < -0.82
    f, ends = inside.gates(model, task.validation[:2000])["f"][:, cell], np.array(list(text)) == "\n"
    assert np.median(f[ends]) < 0.05 and np.median(f[~ends]) > 0.99

    sample.main(["--count", "60"])  # at once, from what ships
    written = capsys.readouterr().out
    assert written.startswith("ROMEO:\n") and len(written) == 7 + 60 + 1


def test_each_ablation_takes_away_what_it_says():
    task, settings = tasks.adding(6, (20, 5, 5)), Settings(**{**SHORT, "remember": 5})
    x, lengths, y = (part.astype(np.float64) if part.dtype.kind == "f" else part for part in task.train)
    made = {}
    for name, (changes, make) in ablations.ABLATIONS.items():
        if "clip" not in changes and "lr" not in changes:
            manual_seed(0)
            kind = {key: value for key, value in changes.items() if key in ("kind", "remember")}
            made[name] = make(Settings(**{**SHORT, "remember": 5, **kind}), task).to(np.float64)
            gradients = []
            for shards in (1, 2):  # replicas must be what the model is
                made[name].zero_grad()
                ShardedLoss(made[name], sequence_loss, shards)(x, lengths, y).backward()
                gradients.append([p.grad for p in made[name].parameters()])
            for one, other in zip(*gradients, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-12, err_msg=name)
    H = settings.hidden
    for name, value in (("forget bias 0", 0), ("forget bias 1", 1), ("forget bias 3", 3)):
        bias = made[name].recurrence.bias_ih_l0.data
        assert (bias[H : 2 * H] == value).all() and not bias[:H].any()
    assert np.abs(made["first weights as in PyTorch"].recurrence.weight_hh_l0.data).max() <= H**-0.5
    ungated, lstm = made["no gates"].recurrence, LSTM(2, H, batch_first=True).to(np.float64)
    for parameter in lstm.parameters():
        parameter.data[...] = 0
    lstm.bias_ih_l0.data[...] = np.repeat([40, 40, 0, 40], H)  # i = f = o = 1
    part = slice(2 * H, 3 * H)
    lstm.weight_ih_l0.data[part], lstm.weight_hh_l0.data[part] = ungated.weight_ih.data, ungated.weight_hh.data
    np.testing.assert_allclose(ungated(x)[0].data, lstm(x)[0].data, rtol=1e-9)


def test_pictures_of_sequences_refuse_what_does_not_fit():
    for call, message in [
        (lambda: sequences.traces("ab", {"f": np.zeros(3)}), "one value for each of 1 to 120 characters, got 2"),
        (lambda: sequences.traces("", {}), "got 0"),
        (lambda: sequences.lines(np.arange(3), {"a": np.zeros(2)}), r"shape of x, \(3,\)"),
        (lambda: sequences.path(np.zeros((2, 2)), "a"), r"T labels, got \(2, 2\) and 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    page = sequences.traces("a b\n", {"f": np.arange(4), "c": -np.arange(4)}, title="two")
    assert [t.get_text() for t in page.axes[1].get_xticklabels()] == ["a", "·", "b", "¶"]
    assert page.axes[0].lines[1].get_ydata().tolist() == [0, 1, 2, 3]
    assert (viz.traces, viz.lines, viz.path) == (sequences.traces, sequences.lines, sequences.path)


# -- values that single changed expressions would move -----------------------------------------------------------------


def test_a_stream_refuses_at_the_call_and_reads_no_token_more_than_it_needs(rng, monkeypatch):
    from scratch.models.rnn_lstm_gru import generate as generating

    model, prompt, lengths = LanguageModel(9, "gru", 4, 6), rng.integers(0, 9, (2, 3)), []
    with pytest.raises(ValueError, match="at least 0, got -1"):
        generating.stream(model, prompt, 2, temperature=-1)
    read = generating.read

    def noted(model, tokens, *state):
        lengths.append(np.shape(tokens)[1])
        return read(model, tokens, *state)

    monkeypatch.setattr(generating, "read", noted)
    for count, expected in ((0, [3]), (1, [3]), (3, [3, 1, 1])):
        lengths.clear()
        assert generating.generate(model, prompt, count).shape == (2, 3 + count)
        assert lengths == expected


def test_a_loss_of_sequences_stops_at_their_ends_and_figures_add_up_over_batches(rng):
    from scratch.models.rnn_lstm_gru.objective import sequence_figures

    model = restless(rng, SequenceClassifier(1, 3, "gru", 6).to(np.float64))
    x, lengths, y = rng.standard_normal((5, 4, 1)), np.array([2, 4, 3, 2, 3]), rng.integers(0, 3, 5)
    answers = [model(x[i : i + 1, :n]).data for i, n in enumerate(lengths)]
    log_p = log_softmax(Tensor(np.concatenate(answers)), dim=1).data
    costs = -log_p[np.arange(5), y]
    loss, count = sequence_loss(model, x, lengths, y)
    assert count == 5
    np.testing.assert_allclose(loss.item(), costs.sum(), rtol=1e-10)
    for size in (2, 100):
        figures = sequence_figures(model, (x, lengths, y), size)
        np.testing.assert_allclose(figures["loss"], costs.mean(), rtol=1e-10)
        assert figures["accuracy"] == (log_p.argmax(axis=1) == y).mean()


@both_attentions
def test_figures_of_pairs_add_up_over_batches(attention, rng):
    from scratch.models.rnn_lstm_gru.objective import pair_figures

    model = restless(rng, SEQ2SEQ[attention](9, 4, 6, max_length=4).to(np.float64))
    source = rows(rng, 4, 3, 2, 4, 1)
    answers, _ = greedy(model, source)
    answers = np.pad(answers, ((0, 0), (0, 4 - answers.shape[1])))
    answers[1, 0] = 3 if answers[1, 0] != 3 else 4  # all right but this one
    target = np.concatenate([np.ones((5, 1), int), answers], axis=1)
    part = Dataset("five pairs", source, target)
    losses = [pair_loss(model, source[i : i + 1], target[i : i + 1]) for i in range(5)]
    expected = sum(loss.item() for loss, _ in losses) / sum(count for _, count in losses)
    for size in (2, 100):
        figures = pair_figures(model, part, size)
        np.testing.assert_allclose(figures["loss"], expected, rtol=1e-9)
        assert figures["exact_match"] == 0.8


@both_attentions
def test_both_directions_make_the_first_state_and_a_hole_in_a_source_is_named_by_its_row(attention, rng):
    model, source = restless(rng, SEQ2SEQ[attention](9, 4, 6, max_length=4).to(np.float64)), rows(rng, 3, 2)
    memory, state = model.encode(source)
    for b, n in enumerate((3, 2)):
        ends = np.concatenate([memory.values.data[b, n - 1, :3], memory.values.data[b, 0, 3:]])
        expected = np.tanh(model.bridge.weight.data @ ends + model.bridge.bias.data)
        np.testing.assert_allclose(state.data[b], expected, rtol=1e-10)
    with pytest.raises(ValueError, match=r"row 1 .*\[3 0 4 0\]"):
        model.encode(np.array([[3, 4, 5, 6], [3, 0, 4, 0]]))
    if attention == "additive":
        assert model.attention.score.bias is None and model.attention.key.weight.shape == (3, 6)
    else:
        assert model.attention.key.bias is None
