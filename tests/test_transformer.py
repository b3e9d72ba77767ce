"""The Transformer: its masks, its gradients, its searches, its training, and lockstep with PyTorch."""

import itertools
import json
import re
from importlib import resources

import numpy as np
import pytest

from scratch import Tensor, gradcheck
from scratch.activations import log_softmax
from scratch.data import Batches, Dataset, Pairs, SequenceTokenizer, load_strings, trimmed
from scratch.data.strings import random_strings
from scratch.layers import LayerNorm
from scratch.models.transformer import Transformer, ablations, beam_search, greedy, inside, pictures, sample
from scratch.models.transformer import train as transformer
from scratch.models.transformer.cache import CachedDecoder
from scratch.models.transformer.decoding import RecomputingDecoder, length_penalty
from scratch.models.transformer.train import PRESETS, Settings, evaluate, matches, summed_loss
from scratch.module import Module
from scratch.optim import Adam, clip_grad_norm_
from scratch.parallel import ShardedLoss
from scratch.random import generator, manual_seed, stream
from scratch.tensor import no_grad
from scratch.training import Run, checkpoint
from scratch.training.folder import CHECKPOINT, LOG
from scratch.training.report import RESULTS
from scratch.training.settings import from_json, with_preset
from scratch.training.ship import shipped
from scratch.weights import load_metadata
from tests import lockstep

TINY = {"vocab_size": 7, "d_model": 4, "nhead": 2, "num_encoder_layers": 1, "num_decoder_layers": 1,
        "dim_feedforward": 3, "dropout": 0.0, "max_length": 6}  # fmt: skip
SMALL = {"vocab_size": 9, "d_model": 12, "nhead": 3, "num_encoder_layers": 2, "num_decoder_layers": 2,
         "dim_feedforward": 20, "dropout": 0.0, "max_length": 12}  # fmt: skip


def restless(rng: np.random.Generator, model: Transformer) -> Transformer:
    """Every parameter away from its special value: biases from 0, norms from 1, so that nothing hides behind them."""
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


# -- the model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_first", [False, True])
def test_gradients_of_the_whole_model(norm_first, rng):
    model = restless(rng, Transformer(**TINY, norm_first=norm_first).to(np.float64))
    source, target = rows(rng, 3, 2, vocab_size=7), rows(rng, 2, 3, begin=1, vocab_size=7)
    gradcheck(lambda *_: model(source, target), [], parameters=dict(model.named_parameters()), rtol=1e-5, atol=1e-6)


def test_shapes_names_and_how_many_parameters(rng):
    model = Transformer()
    assert model(rows(rng, 5, 7, vocab_size=64), rows(rng, 4, 2, begin=1, vocab_size=64)).shape == (2, 4, 64)
    C, F = 128, 512
    attention, feed_forward, norm = 4 * C * C + 4 * C, 2 * C * F + F + C, 2 * C
    encoder, decoder = attention + feed_forward + 2 * norm, 2 * attention + feed_forward + 3 * norm
    assert model.count_parameters() == 64 * C + 2 * (encoder + decoder)
    assert Transformer(norm_first=True).count_parameters() == model.count_parameters() + 2 * norm
    names = list(model.state_dict())
    assert names[:2] == ["embedding.weight", "encoder.0.self_attn.in_proj_weight"]
    assert "decoder.1.multihead_attn.out_proj.bias" in names and not any("position" in name for name in names)


def test_the_papers_base_model_has_its_65_million_parameters():
    """Table 3: d_model 512, 6 layers, d_ff 2048, a vocabulary of 37,000: 65 million; counted, not built."""
    C, F, V = 512, 2048, 37000
    small = Transformer(10, 8, 2, 6, 6, 16, max_length=4)
    of_layers = small.count_parameters() - 10 * 8
    per_pair = 3 * (4 * 8 * 8 + 4 * 8) + 2 * (2 * 8 * 16 + 16 + 8) + 5 * 2 * 8
    assert of_layers == 6 * per_pair
    assert round((6 * (3 * (4 * C * C + 4 * C) + 2 * (2 * C * F + F + C) + 10 * C) + V * C) / 1e6) in (63, 64, 65)


def test_first_weights(rng):
    model = Transformer(200, 64, 4, max_length=8)
    E = model.embedding.weight.data
    assert abs(np.linalg.norm(E, axis=1).mean() - 1) < 0.02 and abs(E.std() * 8 - 1) < 0.02
    bound = np.sqrt(6 / (64 + 512))
    W = model.encoder[1].linear1.weight.data
    assert 0.98 * bound < np.abs(W).max() <= bound and abs(W.std() * np.sqrt(3) / bound - 1) < 0.02
    assert not np.array_equal(W, model.encoder[0].linear1.weight.data)
    assert (model.decoder[0].multihead_attn.in_proj_bias.data == 0).all()
    x = model.eval().embed(rng.integers(0, 200, (20, 8))).data
    assert 1.2 < x.var() < 1.8  # a row of variance 1, a wave of mean square ½


@pytest.mark.parametrize("norm_first", [False, True])
def test_padding_changes_nothing(norm_first, rng):
    """A pair alone, and beside longer ones: the same logits; whatever stands in the padding of the memory."""
    model = restless(rng, Transformer(**SMALL, norm_first=norm_first).to(np.float64))
    source, target = rows(rng, 3, 7, 5), rows(rng, 2, 4, 6, begin=1)
    together = model(source, target).data
    for row, (s, t) in enumerate(zip((3, 7, 5), (2, 4, 6), strict=True)):
        alone = model(source[row : row + 1, :s], target[row : row + 1, :t]).data[0]
        np.testing.assert_allclose(together[row, :t], alone, rtol=1e-10, atol=1e-12)
    memory, padding = model.encode(source)
    assert padding.tolist() == (source == 0).tolist()
    noise = Tensor(memory.data + 100 * padding[:, :, None])
    np.testing.assert_allclose(model.decode(target, noise, padding).data, together, rtol=1e-10, atol=1e-12)
    seen = model.decode(target, noise, np.zeros_like(padding)).data
    assert np.abs(seen - together)[[0, 2]].max() > 0.01  # or the test would not notice a missing mask


def test_no_gradient_comes_from_padding(rng):
    model = restless(rng, Transformer(**SMALL).to(np.float64))
    source, target = rows(rng, 3, 7), rows(rng, 6, 4, begin=1)
    gradients = []
    for wider in (0, 3):
        pad = ((0, 0), (0, wider))
        model.zero_grad()
        loss, count = summed_loss(model, np.pad(source, pad), np.pad(target, pad), 0.1)
        longer = [summed_loss.__globals__["trimmed"](x)[0].shape for x in (np.pad(source, pad), np.pad(target, pad))]
        assert longer == [source.shape, target.shape] and count == 8
        loss.backward()
        gradients.append([p.grad.copy() for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_array_equal(one, other)
    both = [p.grad.copy() for p in model.parameters()]
    model.zero_grad()
    for row, (s, t) in enumerate(((3, 6), (7, 4))):
        summed_loss(model, source[row : row + 1, :s], target[row : row + 1, :t], 0.1)[0].backward()
    for parameter, gradient in zip(model.parameters(), both, strict=True):
        np.testing.assert_allclose(parameter.grad, gradient, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("norm_first", [False, True])
def test_no_place_sees_a_later_token(norm_first, rng):
    model = restless(rng, Transformer(**SMALL, norm_first=norm_first).to(np.float64))
    source, target = rows(rng, 5, 4), rows(rng, 6, 6, begin=1)
    source[:, 1] = (source[:, 0] - 2) % 6 + 3  # another token than the first, so that to exchange them is a change
    before = model(source, target).data
    for t in range(1, 6):
        changed = target.copy()
        changed[:, t:] = (changed[:, t:] - 2) % 6 + 3
        after = model(source, changed).data
        np.testing.assert_allclose(after[:, :t], before[:, :t], rtol=1e-11, atol=1e-13)
        assert np.abs(after[:, t] - before[:, t]).min(axis=1).max() > 1e-6
    swapped = source.copy()
    swapped[:, [0, 1]] = swapped[:, [1, 0]]
    assert np.abs(model(swapped, target).data - before).max(axis=(1, 2)).min() > 1e-3  # order is seen


def test_a_source_of_nothing_but_padding_gives_numbers(rng):
    """Its memory cannot be asked: attention gives zeros, the residual goes on."""
    model = restless(rng, Transformer(**SMALL).to(np.float64))
    source, target = np.array([[0, 0, 0], [3, 4, 5]]), rows(rng, 3, 3, begin=1)
    assert np.isfinite(model(source, target).data).all()
    assert np.isfinite(beam_search(model, source, 2).scores).all()
    memory, padding = model.encode(source)
    both = [model.decode(target, x, padding).data for x in (memory, Tensor(memory.data + 100.0 * padding[..., None]))]
    np.testing.assert_allclose(*both, rtol=1e-5, atol=1e-5)
    summed_loss(model, source, target)[0].backward()
    assert all(np.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_what_is_refused(rng):
    model = Transformer(**SMALL)
    good = rows(rng, 3, 3)
    with pytest.raises(ValueError, match=r"expected tokens \(B, T\) with T from 1 to 12, got shape \(2, 13\)"):
        model(rows(rng, 13, 2), good)
    with pytest.raises(ValueError, match=r"T from 1 to 12, got shape \(2, 0\)"):
        model(good[:, :0], good)
    with pytest.raises(ValueError, match=r"got shape \(3,\)"):
        model(good[0], good)
    with pytest.raises(ValueError, match="batches of tgt .* and memory .* differ"):
        model(good, good[:1])
    for wrong in (good + (9 - good) * (good > 3), good - good.max() - 1):
        for source, target in ((wrong, good), (good, wrong)):
            with pytest.raises(ValueError, match="Embedding expected indices from 0 to 8, got (9|-)"):
                model(source, target)
    with pytest.raises(ValueError, match="got dtype float64"):
        model(good * 1.0, good)
    for options, message in [({"max_length": 13}, "max_length must be from 1 to 12, got 13"),
                             ({"max_length": 0}, "from 1 to 12, got 0")]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            greedy(model, good, **options)
        with pytest.raises(ValueError, match=message):
            beam_search(model, good, **options)
    with pytest.raises(ValueError, match="width >= 1 and alpha >= 0, got 0 and 0.6"):
        beam_search(model, good, width=0)
    with pytest.raises(ValueError, match="width >= 1 and alpha >= 0, got 2.5 and 0.6"):
        beam_search(model, good, width=2.5)
    with pytest.raises(ValueError, match="max_length must be from 1 to 12, got 2.5"):
        greedy(model, good, 2.5)
    with pytest.raises(ValueError, match="got 2 and nan"):
        beam_search(model, good, width=2, alpha=float("nan"))
    decoder = CachedDecoder(model, good)
    for _ in range(12):
        decoder.read(np.array([3, 4]))
    with pytest.raises(ValueError, match="T from 1 to 0, got shape .* after 12 places"):
        decoder.read(np.array([3, 4]))


@pytest.mark.parametrize(
    "wrong", [{"num_encoder_layers": 0}, {"num_decoder_layers": -1}, {"max_length": 0}, {"pad": 9}, {"pad": -1}]
)
def test_sizes_that_are_refused(wrong):
    with pytest.raises(ValueError, match="Transformer expected at least one layer a side, max_length of at least 1"):
        Transformer(**{**SMALL, **wrong})


def test_no_sources_have_no_answers(rng):
    model, none = Transformer(**SMALL), rows(rng, 3)[:0]
    assert len(greedy(model, none)) == 0 and beam_search(model, none, 2).tokens.shape[:2] == (0, 2)


# -- decoding ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned() -> Transformer:
    """One that has half learned to reverse strings of one to six letters: its answers differ, and so do their ends."""
    manual_seed(0)
    model = Transformer(**SMALL)
    data = load_strings("reverse", 400, 20, 20, lengths=(1, 6), symbols=6).train
    batches, optimizer = Batches(*data.arrays, batch_size=32), Adam(model.parameters(), lr=1e-2)
    for _ in range(80):
        loss, count = summed_loss(model, *next(batches))
        optimizer.zero_grad()
        (loss / float(count)).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("width", [1, 3])
def test_the_cache_gives_what_recomputing_gives(norm_first, width, rng):
    """Also after hypotheses have changed places, and to 1e-5 in float32."""
    source = rows(rng, 5, 2, 7)
    for dtype, tolerance in ((np.float64, 1e-11), (np.float32, 1e-5)):
        model = restless(rng, Transformer(**SMALL, norm_first=norm_first)).to(dtype).eval()
        cached, plain = CachedDecoder(model, source, width), RecomputingDecoder(model, source, width)
        order = np.random.default_rng(1)
        for step in range(12):
            token = order.integers(0, 9, 3 * width)
            ours, theirs = cached.read(token), plain.read(token)
            np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=f"place {step}")
            assert ours.dtype == dtype
            keep = (np.arange(3)[:, None] * width + order.integers(0, width, (3, width))).reshape(-1)
            cached.keep(keep)
            plain.keep(keep)


def test_a_beam_of_one_is_greedy(learned, rng):
    source = np.pad(rows(rng, 5, 2, 7, 3, 4, 6), ((0, 0), (0, 1)))
    source[np.arange(6), (source != 0).sum(axis=1)] = 2
    answers = greedy(learned, source, 8)
    ends = [int((row == 2).argmax()) for row in answers]
    assert learned.training and len(set(ends)) > 2 and len({tuple(row) for row in answers.tolist()}) == 6
    for alpha in (0.0, 0.6, 2.0):
        np.testing.assert_array_equal(beam_search(learned, source, 1, alpha, 8).tokens[:, 0], answers)
    np.testing.assert_array_equal(greedy(learned, source, 8, cache=False), answers)
    for row, end in zip(answers, ends, strict=True):
        assert end == 0 or (row[end + 1 :] == 0).all() and (row[:end] != 0).all()
    assert greedy(learned, source, 3).shape == (6, 3)


def test_answers_do_not_depend_on_the_other_rows(learned, rng):
    source = rows(rng, 5, 2, 7)
    together, beams = greedy(learned, source), beam_search(learned, source, 3)
    for row, n in enumerate((5, 2, 7)):
        alone = greedy(learned, source[row : row + 1, :n])[0]
        np.testing.assert_array_equal(together[row, : len(alone)], alone)
        assert (together[row, len(alone) :] == 0).all()
        one = beam_search(learned, source[row : row + 1, :n], 3)
        np.testing.assert_allclose(one.scores[0], beams.scores[row], rtol=1e-4)
    wide, plain = (beam_search(learned, source, 4, cache=cache) for cache in (True, False))
    np.testing.assert_array_equal(wide.tokens, plain.tokens)
    np.testing.assert_allclose(wide.scores, plain.scores, rtol=1e-5, atol=1e-5)


class Table(Module):
    """A language that is a table: log-probabilities of the next token by what was written, and nothing to read."""

    pad, max_length = 0, 4

    def __init__(self, table: dict[tuple[int, ...], dict[int, float]], vocab_size: int = 5):
        self.table, self.vocab_size = table, vocab_size

    def encode(self, source):
        return Tensor(np.zeros((len(source), 1, 1))), np.zeros((len(source), 1), bool)

    def decode(self, target, memory, padding):
        logits = np.full((*target.shape, self.vocab_size), -30.0)
        for b, t in np.ndindex(target.shape):
            for token, p in self.table.get(tuple(target[b, 1 : t + 1].tolist()), {2: 1.0}).items():
                logits[b, t, token] = np.log(p)
        return Tensor(logits)


GARDEN = {  # greedy takes 3 (0.6) and ends up with 0.6 · 0.4 = 0.24; the best is 4 4 end, 0.4 · 0.9 = 0.36
    (): {3: 0.6, 4: 0.4},
    (3,): {3: 0.4, 4: 0.3, 2: 0.3},
    (4,): {4: 0.9, 2: 0.1},
}


def test_a_beam_forgives_the_first_step():
    model, source = Table(GARDEN), np.zeros((2, 1), int)
    assert greedy(model, source, cache=False).tolist() == [[3, 3, 2]] * 2
    beams = beam_search(model, source, 2, alpha=0.0, cache=False)
    assert beams.tokens[:, 0].tolist() == [[4, 4, 2]] * 2
    np.testing.assert_allclose(beams.scores[0], np.log([0.36, 0.24]), rtol=1e-9)


def test_the_length_penalty_lets_long_answers_win():
    """P(3 end) = 0.5, P(4 4 4 end) = 0.45; with α = 1 the scores are divided by 7/6 and 9/6."""
    table = {(): {3: 0.5, 4: 0.5}, (4,): {4: 0.95, 2: 0.05}, (4, 4): {4: 0.95, 2: 0.05}}
    model, source = Table(table), np.zeros((1, 1), int)
    for alpha, best, score in ((0.0, [3, 2, 0, 0], np.log(0.5)),
                               (1.0, [4, 4, 4, 2], np.log(0.5 * 0.95**2) / (9 / 6))):  # fmt: skip
        beams = beam_search(model, source, 4, alpha, cache=False)
        assert beams.tokens[0, 0].tolist() == best
        np.testing.assert_allclose(beams.scores[0, 0], score, rtol=1e-9)
    assert length_penalty(1, 0.6) == 1 and length_penalty(7, 1.0) == 2 and length_penalty(25, 0.5) == 5**0.5


@pytest.mark.parametrize("alpha", [0.0, 1.3])
@pytest.mark.parametrize("norm_first", [False, True])
def test_a_beam_as_wide_as_there_are_answers_finds_the_best_of_all(alpha, norm_first, rng):
    """Every sequence of at most three of five tokens, scored one by one without any search."""
    model = restless(rng, Transformer(**{**TINY, "vocab_size": 5}, norm_first=norm_first).to(np.float64))
    source = np.array([[3, 4, 2], [4, 2, 0]])
    answers = [a + (2,) for n in range(3) for a in itertools.product((0, 1, 3, 4), repeat=n)]
    answers += list(itertools.product((0, 1, 3, 4), repeat=3))  # cut off at three tokens
    scores = np.empty((2, len(answers)))
    for i, answer in enumerate(answers):
        given = np.array([(1, *answer[:-1])] * 2)
        with no_grad():
            log_p = log_softmax(model(source, given), dim=-1).data
        scores[:, i] = log_p[:, np.arange(len(answer)), answer].sum(axis=1) / ((5 + len(answer)) / 6) ** alpha
    beams = beam_search(model, source, width=len(answers), alpha=alpha, max_length=3)
    np.testing.assert_allclose(beams.scores, -np.sort(-scores, axis=1), rtol=1e-9)
    for row in range(2):
        best = answers[scores[row].argmax()]
        assert beams.tokens[row, 0, : len(best)].tolist() == list(best)
    assert len({tuple(tokens) for tokens in beams.tokens[0].tolist()}) >= len(answers) - 20  # padding looks like an end
    narrow = beam_search(model, source, width=3, alpha=alpha, max_length=3)
    assert (narrow.scores[:, 0] <= beams.scores[:, 0] + 1e-12).all()


# -- training ---------------------------------------------------------------------------------------------------


def some_pairs(train: int = 70) -> Pairs:
    """Strings of one to five of four letters, reversed."""
    tokenizer = SequenceTokenizer("abcd")
    texts = random_strings(train + 45, (1, 5), 4)
    data = Dataset("reverse", tokenizer.encode(texts), tokenizer.encode([t[::-1] for t in texts], begin=True))
    cut = np.split(np.arange(len(data)), [train, train + 20])
    return Pairs("reverse", tokenizer, *(data.take(part) for part in cut))


SHORT = {"d_model": 8, "nhead": 2, "dim_feedforward": 12, "steps": 6, "evaluate_every": 3, "warmup": 3, "clip": 0.5,
         "batch_size": 16, "rate": 0.5}  # fmt: skip


def start(folder, monkeypatch, settings: Settings, dtype, make=transformer.build) -> Run:
    """A run on a few pairs, without pictures."""
    monkeypatch.setattr(transformer, "load_pairs", lambda settings: some_pairs())
    monkeypatch.setattr(pictures, "draw_all", lambda *arguments: [])
    run = Run.create("transformer", settings, folder=folder)
    try:
        transformer.train(settings, run, lambda *a: make(*a).to(dtype))
    finally:
        run.close()
    return run


@pytest.mark.parametrize(("shards", "dropout", "cooldown"), [(2, 0.0, 3), (1, 0.2, 0)])
def test_the_training_loop_is_the_loop_that_it_says(shards, dropout, cooldown, tmp_path, monkeypatch):
    """Against smoothed targets, the sum over tokens, Adam and the paper's schedule written out here."""
    pairs = some_pairs()
    manual_seed(0)
    model = Transformer(7, 8, 2, 2, 2, 12, dropout, max_length=7, norm_first=True).to(np.float64)
    optimizer = Adam(model.parameters(), betas=(0.9, 0.98), eps=1e-9)
    batches = Batches(*pairs.train.arrays, batch_size=16, seed=0)
    norms = []
    for n in range(1, 7):
        source, target = trimmed(*next(batches))
        with stream(0, n - 1):
            log_p = log_softmax(model(source, target[:, :-1]), dim=-1)
        asked = target[:, 1:]
        q = 0.9 * np.eye(7)[asked] + 0.1 / 7
        loss = -(log_p * (q * (asked != 0)[:, :, None])).sum() / float((asked != 0).sum())
        optimizer.zero_grad()
        loss.backward()
        norms.append(clip_grad_norm_(model.parameters(), 0.5))
        left = {5: 2 / 3, 6: 1 / 3}.get(n, 1) if cooldown else 1
        optimizer.lr = 0.5 * 8**-0.5 * min(n**-0.5, n * 3**-1.5) * left
        optimizer.step()
    assert max(norms) > 0.5  # or clipping would not be seen

    settings = Settings(**SHORT, norm_first=True, dropout=dropout, shards=shards, cooldown=cooldown)
    run = start(tmp_path / "run", monkeypatch, settings, np.float64)
    _, arrays = checkpoint.load(run.folder / CHECKPOINT)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(arrays[f"model.{name}"], value, rtol=1e-8, atol=1e-9, err_msg=name)
    figures = json.loads((run.folder / RESULTS).read_text())["figures"]
    best = Transformer(7, 8, 2, 2, 2, 12, max_length=7, norm_first=True)
    best.load_state_dict({k.removeprefix("best."): a for k, a in arrays.items() if k.startswith("best.")})
    test = evaluate(best, pairs.test)
    assert figures["test loss"] == pytest.approx(test["loss"], rel=1e-5)
    assert figures["test exact match"] == test["exact_match"]


@pytest.mark.parametrize("step", [0, 4])
def test_a_run_that_broke_off_and_resumed_ends_with_the_same_bits(step, tmp_path, monkeypatch):
    """Two shards with dropout in 32 bits; it breaks off after the update of `step`."""
    settings = Settings(**SHORT, save_every=2)
    start(tmp_path / "whole", monkeypatch, settings, np.float32)
    log = Run.log

    def breaking(self, number, loss, **figures):
        log(self, number, loss, **figures)
        if number == step:
            raise OSError("the plug was pulled")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="plug"):
        patch.setattr(Run, "log", breaking)
        start(tmp_path / "run", monkeypatch, settings, np.float32)
    generator().random()
    run = Run.resume(tmp_path / "run")
    transformer.train(from_json(Settings, run.document["settings"]), run)
    run.close()
    (facts, arrays), (others, expected) = (checkpoint.load(tmp_path / name / CHECKPOINT) for name in ("run", "whole"))
    assert {**facts, "seconds": 0} == {**others, "seconds": 0} and arrays.keys() == expected.keys()
    for name, value in expected.items():
        assert arrays[name].tobytes() == value.tobytes(), name
    assert (tmp_path / "run" / LOG).read_bytes() == (tmp_path / "whole" / LOG).read_bytes()


def test_evaluation_counts_tokens_and_whole_answers(rng):
    pairs, model = some_pairs(), restless(rng, Transformer(7, 8, 2, 1, 1, 12, 0.5, max_length=7))
    figures, few = evaluate(model, pairs.test), evaluate(model, pairs.test, batch_size=7)
    assert model.training and figures == pytest.approx(few, rel=1e-5)
    model.eval()
    right, total, tokens = 0, 0.0, 0
    for source, target in zip(*pairs.test.arrays, strict=True):
        (s,), (t,) = trimmed(source[None]), trimmed(target[None])
        log_p = log_softmax(model(s, t[:, :-1]), dim=-1).data[0]
        total -= log_p[np.arange(t.shape[1] - 1), t[0, 1:]].sum()
        tokens += t.shape[1] - 1
        right += pairs.tokenizer.decode(greedy(model, s, 6)) == pairs.tokenizer.decode(t)
    assert figures == pytest.approx({"loss": total / tokens, "exact_match": right / len(pairs.test)}, rel=1e-5)


def test_an_answer_matches_to_the_last_token():
    target = np.array([[1, 3, 4, 2, 0], [1, 3, 2, 0, 0], [1, 3, 4, 5, 2], [1, 2, 0, 0, 0]])
    answers = np.array([[3, 4, 2], [3, 4, 2], [3, 4, 5], [2, 0, 0]])
    assert matches(answers, target).tolist() == [True, False, False, True]
    assert matches(target[:, 1:], target).all()


def test_a_small_model_learns_to_copy():
    """Strings of three letters, one layer on each side: 100 steps bring most of the answers."""
    tokenizer = SequenceTokenizer("abcd")
    texts = ["".join(t) for t in itertools.product("abcd", repeat=3)]
    arrays = tokenizer.encode(texts), tokenizer.encode(texts, begin=True)
    model = Transformer(7, 32, 4, 1, 1, 64, 0.0, max_length=5)
    optimizer = Adam(model.parameters(), lr=3e-3, betas=(0.9, 0.98))
    for _ in range(100):
        loss, count = summed_loss(model, *arrays)
        optimizer.zero_grad()
        (loss / float(count)).backward()
        optimizer.step()
    assert evaluate(model, Dataset("copy", *arrays))["exact_match"] > 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"warmup": 0}, "warmup must be at least 1, got 0"),
        ({"rate": float("nan")}, "rate must be at least 0, got nan"),
        ({"rate": float("inf")}, "rate must be a number of at least 0, got inf"),
        ({"dropout": 1.5}, "dropout must be from 0 to 1, got 1.5"),
        ({"label_smoothing": -0.1}, "label_smoothing must be from 0 to 1, got -0.1"),
        ({"nhead": 3}, "d_model must be a multiple of nhead, got 64 and 3"),
    ],
)
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        Settings(**changes)


def test_every_preset_builds_its_model(rng):
    for preset in PRESETS:
        settings = with_preset(Settings, PRESETS, preset)
        model = transformer.build(settings, 20, 9)
        assert model(rows(rng, 3, 4), rows(rng, 2, 2, begin=1)).shape == (2, 2, 20) and model.max_length == 9
        assert isinstance(model.encoder_norm, LayerNorm) == settings.norm_first
        assert len(model.encoder) == len(model.decoder) == settings.layers


# -- beside PyTorch ---------------------------------------------------------------------------------------------


def train_beside_pytorch(model, loss_of, norm_first=False, smoothing=0.1):
    """20 steps of Adam on reversed strings, here with `loss_of(source, target)`, in PyTorch with its own functions."""
    import torch

    from tests.twins.transformer import Transformer as Twin

    twin = Twin(**SMALL, norm_first=norm_first)
    data = load_strings("reverse", 400, 20, 20, lengths=(2, 8), symbols=6).train

    def twin_loss(source, target):
        logits = twin(source, target[:, :-1])
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=0, label_smoothing=smoothing
        )

    lockstep.check(
        model,
        twin,
        Adam(model.parameters(), lr=3e-3, betas=(0.9, 0.98), eps=1e-9),
        torch.optim.Adam(twin.parameters(), lr=3e-3, betas=(0.9, 0.98), eps=1e-9),
        Batches(*data.arrays, batch_size=8, seed=0),
        loss_of,
        twin_loss,
    )


def smoothed(model, source, target):
    return summed_loss(model, source, target, 0.1)


@pytest.mark.torch
@pytest.mark.parametrize(("norm_first", "shards"), [(False, 1), (False, 2), (True, 1)])
def test_twenty_steps_in_lockstep_with_pytorch(norm_first, shards):
    model = Transformer(**SMALL, norm_first=norm_first)
    train_beside_pytorch(model, ShardedLoss(model, smoothed, shards), norm_first)


@pytest.mark.torch
def test_lockstep_notices_smoothing_that_is_a_little_wrong():
    model = Transformer(**SMALL)
    with pytest.raises(AssertionError):
        train_beside_pytorch(model, ShardedLoss(model, smoothed), smoothing=0.1 + 1e-6)


# -- inside -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_first", [False, True])
def test_maps_are_the_weights_that_the_model_uses(norm_first, rng):
    """Rows sum to 1, none looks ahead, and values mixed by them give the layer's output again."""
    model = restless(rng, Transformer(**{**SMALL, "dropout": 0.3}, norm_first=norm_first).to(np.float64))
    source, target = rows(rng, 5), rows(rng, 4, begin=1)
    maps = inside.attention_maps(model, source, target)
    assert (maps.encoder.shape, maps.decoder.shape, maps.cross.shape) == ((2, 3, 5, 5), (2, 3, 4, 4), (2, 3, 4, 5))
    for part in (maps.encoder, maps.decoder, maps.cross):
        np.testing.assert_allclose(part.sum(axis=-1), 1, rtol=1e-12)
    assert (np.triu(maps.decoder, 1) == 0).all() and model.training
    np.testing.assert_allclose(inside.alignment(model, source, target, 0), maps.cross[0].mean(axis=0))

    for layer in range(2):
        q, k = inside.queries_and_keys(model, source, target, layer)
        e = np.tril(np.exp(q @ k.swapaxes(-1, -2) / 2))
        np.testing.assert_allclose(maps.decoder[layer], e / e.sum(axis=-1, keepdims=True), rtol=1e-9, atol=1e-15)
    assert model.training
    for wrong in (2, -3):
        for look in (inside.alignment, inside.queries_and_keys):
            with pytest.raises(ValueError, match=f"the decoder has 2 layers, got layer {wrong}"):
                look(model, source, target, wrong)

    model.eval()
    x, attn = model.embed(source), model.encoder[0].self_attn
    x = model.encoder[0].norm1(x) if norm_first else x
    q, k, v = np.split(x.data[0] @ attn.in_proj_weight.data.T + attn.in_proj_bias.data, 3, axis=1)
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        e = np.exp(q[:, part] @ k[:, part].T / 2)
        np.testing.assert_allclose(maps.encoder[0, head], e / e.sum(axis=1, keepdims=True), rtol=1e-9)


def test_the_lens_ends_with_the_models_answer(rng):
    model = restless(rng, Transformer(**SMALL, norm_first=True).to(np.float64))
    source, target = rows(rng, 5), rows(rng, 4, begin=1)
    lens, p = inside.logit_lens(model, source, target), inside.next_token(model, source, target)
    assert lens.shape == (3, 4, 9)
    np.testing.assert_allclose(lens[-1], p, rtol=1e-12)
    np.testing.assert_allclose(p, np.exp(log_softmax(model.eval()(source, target), dim=-1).data[0]), rtol=1e-9)
    first = model.scores(model.decoder_norm(model.embed(target)))
    np.testing.assert_allclose(lens[0], np.exp(log_softmax(first, dim=-1).data[0]), rtol=1e-9)
    with pytest.raises(ValueError, match=r"one sequence, \(1, T\), got shape \(2, 3\)"):
        inside.next_token(model, rows(rng, 3, 3), target)


def test_a_sample_shows_the_answer_and_where_it_looked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sample, "load_pairs", lambda settings: some_pairs())
    run = start(tmp_path / "run", monkeypatch, Settings(**SHORT), np.float32)
    capsys.readouterr()
    sample.main(["--run", str(run.folder), "abca", "d", "--width", "2"])
    told = capsys.readouterr().out
    assert "abca → " in told and "    abca\n" in told and "end" in told and "WRONG" not in told
    sample.main(["--run", str(run.folder), "--count", "3"])
    assert " of 3 right" in capsys.readouterr().out
    for words, message in [(["abx"], "the character 'x' in 'abx' is not known; known are abcd"),
                           ([""], "at least one character, got an empty one"),
                           (["--count", "0"], "--count expected 1 to 25, got 0"),
                           (["a" * 7], "with T from 1 to 7")]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            sample.main(["--run", str(run.folder), *words])


SHIPPED = resources.files("scratch.models.transformer") / "weights.safetensors"


@pytest.mark.skipif(not SHIPPED.is_file(), reason="the weights are not there yet")
def test_the_shipped_weights_give_the_figures_on_their_card():
    """In 16 bits; the card was written from the run in 32."""
    card = load_metadata(SHIPPED)
    model, pairs = sample.load_weights(SHIPPED)
    assert shipped(SHIPPED, "transformer", Settings)[0] == Settings()
    assert "scratch train transformer --preset default --seed 0" in card["made by"]
    test = evaluate(model, pairs.test)
    for name, value, margin in (("exact match", 100 * test["exact_match"], 0.11), ("loss", test["loss"], 1e-3)):
        assert abs(float(re.search(rf"test {name} ([\d.]+)", card["figures"])[1]) - value) < margin, name
    assert test["exact_match"] >= 0.995


# -- ablations --------------------------------------------------------------------------------------------------


def test_each_ablation_takes_away_what_it_says(rng):
    settings, source, target = Settings(**SHORT), rows(rng, 5, 5), rows(rng, 4, 4, begin=1)
    made = {}
    for name in ("as it is", "no scaling", "no mask", "no positions", "no residual"):
        manual_seed(0)
        made[name] = ablations.ABLATIONS[name][1](settings, 9, 12).to(np.float64)
    plain = made["as it is"](source, target).data
    for name, model in made.items():
        assert (name == "as it is") == np.array_equal(model(source, target).data, plain), name
        gradients = []
        for shards in (1, 2):  # replicas must be what the model is
            model.zero_grad()
            ShardedLoss(model, summed_loss, shards)(source, target).backward()
            gradients.append([p.grad for p in model.parameters()])
        for one, other in zip(*gradients, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12, err_msg=name)
    changed = np.concatenate([target[:, :-1], (target[:, -1:] - 2) % 6 + 3], axis=1)
    assert np.abs(made["no mask"](source, changed).data - made["no mask"](source, target).data)[:, 0].max() > 1e-6
    turned = made["no positions"](source[:, ::-1], target).data
    np.testing.assert_allclose(turned, made["no positions"](source, target).data, rtol=1e-10)
    queries = made["as it is"]
    for module in queries.modules():  # √hd times W_q: what it means not to divide by √hd
        if hasattr(module, "in_proj_weight"):
            module.in_proj_weight.data[:8] *= 2
    np.testing.assert_allclose(queries(source, target).data, made["no scaling"](source, target).data, rtol=1e-10)


def test_ablations_are_not_written_by_the_cache(rng):
    """It repeats the layers as they are; without it every ablation's answers are its own."""
    source = rows(rng, 5, 2)
    for name in ("no scaling", "no mask", "no positions", "no residual"):
        model = ablations.ABLATIONS[name][1](Settings(**SHORT), 9, 12)
        with pytest.raises(ValueError, match="CachedDecoder repeats .*: use cache=False"):
            greedy(model, source)
        first = greedy(model, source, 1, cache=False)[:, 0]
        with no_grad():
            np.testing.assert_array_equal(first, model.eval()(source, np.ones((2, 1), int)).data[:, 0].argmax(axis=1))


def test_measured_ablations_name_their_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(ablations, "load_pairs", lambda settings: some_pairs())
    monkeypatch.setattr(transformer, "load_pairs", lambda settings: some_pairs())
    monkeypatch.setattr(pictures, "draw_all", lambda *arguments: [])
    for group in (ablations.ABLATIONS, ablations.SIX):
        assert all(ablations.BASE["steps"] >= {**ablations.BASE, **changes}["steps"] for changes, _ in group.values())
        changes, make = list(group.values())[1]
        figures = ablations.measure("one", {**changes, **SHORT, "steps": 99}, make, 0, 2, tmp_path)
        assert set(ablations.COLUMNS) - set(figures) == {"loss at step 100"} and 0 < figures["largest weight"] <= 1
    settings = Settings(**ablations.BASE | ablations.AT_ONCE)
    rates = [transformer.learning_rate(each)(step) for each, step in ((settings, 0), (Settings(), 399))]
    assert rates[0] == pytest.approx(rates[1])


def test_heads_without_scaling_are_surer(monkeypatch):
    settings, pairs = Settings(data="reverse"), load_strings("reverse", 60, 20, 20)
    monkeypatch.setattr(ablations, "load_pairs", lambda settings: pairs)
    weights = {}
    for name in ("as it is", "no scaling", "no residual"):
        manual_seed(0)
        weights[name] = ablations.largest_weight(ablations.ABLATIONS[name][1](settings, 13, 18), settings)
    assert weights["no residual"] < weights["as it is"] < weights["no scaling"]


def test_pictures_are_drawn_and_the_model_left_as_it_was(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(pictures.viz, "save", lambda figure, path: drawn.setdefault(path, figure) and path)
    pairs, model = some_pairs(), Transformer(7, 8, 2, 2, 2, 12, max_length=7)
    log = [{"step": 0, "loss": 2.0}, {"step": 1, "loss": 1.5}, {"step": 2, "validation_loss": 1.4,
                                                               "validation_exact_match": 0.25}]  # fmt: skip
    files = pictures.draw_all(tmp_path, log, model, pairs)
    assert [file.stem for file in files] == ["curves", "alignment", "heads", "attention"] and model.training
    heads = drawn[tmp_path / "heads.png"].axes
    source, target = trimmed(*(part[:1] for part in pairs.test.arrays))
    maps = inside.attention_maps(model, source, target[:, :-1]).cross.reshape(4, *source.shape[1:], -1)
    assert [each.get_title(loc="left") for each in heads] == [f"layer {i}, head {j}" for i in (1, 2) for j in (1, 2)]
    shown = np.asarray(heads[3].images[0].get_array())
    np.testing.assert_allclose(shown.ravel(), maps[3].ravel(), rtol=1e-6)
    assert [label.get_text() for label in heads[0].get_yticklabels()] == pairs.tokenizer.symbols(target[0, 1:])
    steps = drawn[tmp_path / "attention.png"].axes
    first = inside.attention_maps(model, source, target[:, :-1]).decoder[0, -1, :6, :6]
    np.testing.assert_allclose(np.asarray(steps[3].images[0].get_array()), first, rtol=1e-5)


def test_steps_of_attention_show_their_numbers():
    """2·1 + 0·1 = 2, over √2 is 1.41; a query that sees two keys with scores 0 and 1.41 weighs them 0.20 and 0.80."""
    from scratch import viz

    queries, keys = np.array([[2.0, 0.0], [1.0, 1.0]]), np.array([[1.0, -1.0], [1.0, 1.0]])
    page = viz.attention_steps(queries, keys, "ab", "cd", allowed=np.tri(2, dtype=bool), title="here")
    told = [[text.get_text() for text in axes.texts] for axes in page.axes]
    assert told == [["2.0", "2.0", "0.0", "2.0"], ["1.4", "1.4", "0.0", "1.4"], ["1.4", "−∞", "0.0", "1.4"],
                    ["1.00", ".00", ".20", ".80"]]  # fmt: skip
    assert [axes.get_title(loc="left")[:7] for axes in page.axes] == ["1  scor", "2  scal", "3  mask", "4  soft"]
    assert viz.attention_steps(-queries, keys, "ab", "cd").axes[0].texts[0].get_text() == "−2.0"
    for given, message in [((queries, keys[:, :1], "ab", "cd"), "queries .T, hd. and keys"),
                           ((queries, keys, "a", "cd"), "expected 2 row and 2 column labels, at most 10, got 1 and 2"),
                           ((np.ones((11, 2)), keys, "abcdefghijk", "cd"), "at most 10")]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            viz.attention_steps(*given)
    with pytest.raises(ValueError, match="a mask .* with a key for every query"):
        viz.attention_steps(queries, keys, "ab", "cd", allowed=np.array([[True, True], [False, False]]))


def test_attention_maps_refuse_what_they_cannot_show():
    from scratch import viz

    weights = np.full((2, 3, 4), 0.25)
    assert len(viz.attention_maps(weights, "abc", "abcd").axes) >= 2
    with pytest.raises(ValueError, match="expected 3 row and 4 column labels, got 2 and 4"):
        viz.attention_maps(weights, "ab", "abcd")
    with pytest.raises(ValueError, match=r"\(nh, T, S\) from 0 to 1, got shape \(2, 3, 4\)"):
        viz.attention_maps(weights * 8, "abc", "abcd")


# -- values that single changed expressions would move -----------------------------------------------------------------


def test_hypotheses_of_probability_zero_are_neither_checked_nor_waited_for():
    """Of the first tokens only 3 is possible, then only the end: the beam's other two are impossible, and NaN."""

    class OneWay(Table):
        def decode(self, target, memory, padding):
            logits = np.full((*target.shape, 4), -np.inf)
            logits[:, 0, 3] = 0
            for b in range(len(target)):
                if target.shape[1] > 1:
                    possible = target[b, 1] == 3
                    logits[b, 1:] = [-np.inf, -np.inf, 0, -np.inf] if possible else np.nan
            return Tensor(logits)

    with np.errstate(all="ignore"):
        beams = beam_search(OneWay({}), np.zeros((1, 1), int), 3, cache=False)
    assert beams.tokens.shape == (1, 3, 2) and beams.tokens[0, 0].tolist() == [3, 2]
    assert beams.scores[0].tolist() == [0, -np.inf, -np.inf]


@pytest.mark.parametrize("cache", [True, False])
def test_searches_leave_out_dropout_and_the_mode_as_it_was(cache, rng):
    model = restless(rng, Transformer(9, 8, 2, 1, 1, 12, dropout=0.5, max_length=6))
    source = rows(rng, 4, 2)
    expected = greedy(model.eval(), source, cache=cache), beam_search(model, source, 2, cache=cache)
    assert not model.training
    model.train()
    np.testing.assert_array_equal(greedy(model, source, cache=cache), expected[0])
    np.testing.assert_array_equal(beam_search(model, source, 2, cache=cache).scores, expected[1].scores)
    assert model.training
