"""What surrounds BERT: gaps, counting, the training loop, samples, ablations, and what is to be seen inside."""

import json
import math
import re
from importlib import resources

import numpy as np
import pytest

from scratch.activations import log_softmax
from scratch.data import CharTokenizer, TextWindows
from scratch.models.bert import BertForMaskedLM, ablations, inside, masking, pictures, sample
from scratch.models.bert import train as bert
from scratch.models.bert.counts import ORDER, Counts
from scratch.models.bert.train import PRESETS, Settings, build, counted, evaluate, report, summed_loss
from scratch.models.gpt.tasks import Text
from scratch.optim import AdamW, clip_grad_norm_
from scratch.parallel import ShardedLoss
from scratch.random import generator, manual_seed, stream
from scratch.training import Run, checkpoint
from scratch.training.folder import CHECKPOINT, LOG
from scratch.training.report import RESULTS
from scratch.training.settings import from_json, with_preset
from scratch.training.ship import shipped
from scratch.weights import load_metadata
from tests.test_bert import TINY, awake

SHIPPED = resources.files("scratch.models.bert") / "weights.safetensors"
SHORT: dict = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12,
               "max_position_embeddings": 8, "steps": 6, "batch_size": 5, "warmup": 2,
               "evaluate_every": 3, "clip": 0.5, "lr": 0.02, "final_lr": 0.002, "weight_decay": 0.3}  # fmt: skip
# 2 steps up, then half a cosine from lr at step 2 to final_lr at step 6
RATES = [0.01, 0.02, *(0.002 + 0.009 * (1 + math.cos(math.pi * k / 4)) for k in range(4))]


def some_text() -> Text:
    parts = (np.random.default_rng(seed).integers(0, 5, n) for seed, n in enumerate((300, 70, 90)))
    return Text(CharTokenizer("abcde"), *parts)


def start(folder, monkeypatch, settings: Settings, dtype=np.float32, task=some_text, make=build) -> Run:
    """A run on a small text, without pictures."""
    monkeypatch.setattr(bert, "load_task", lambda settings: task())
    monkeypatch.setattr(pictures, "draw_all", lambda *arguments: [])
    run = Run.create("bert", settings, folder=folder)
    try:
        bert.train(settings, run, lambda *a: make(*a).to(dtype))
    finally:
        run.close()
    return run


# -- gaps ---------------------------------------------------------------------------------------------------------


def test_of_100_tokens_15_are_chosen_and_of_these_80_masked_10_random_10_kept(rng):
    """Each share within four standard errors."""
    text = rng.integers(0, 20, (500, 64))
    x, places = masking.hide(text, 20, np.random.default_rng(1))
    n = places.sum()
    assert (x[~places] == text[~places]).all()

    def near(count, of, p):
        return abs(count - of * p) < 4 * math.sqrt(of * p * (1 - p))

    assert near(n, text.size, 0.15)
    assert near((x[places] == 20).sum(), n, 0.8)
    other = places & (x != 20) & (x != text)
    assert near(other.sum(), n, 0.1 * 19 / 20)  # one random token of 20 is the old one
    counts = np.bincount(x[other], minlength=20)
    assert ((counts - other.sum() / 20) ** 2 / (other.sum() / 20)).sum() < 43.8  # χ², 19 degrees, 99.9 %
    assert x.max() == 20 and x.min() >= 0


def test_no_text_is_without_a_gap():
    for seed in range(20):
        _, places = masking.hide(np.zeros((30, 3), int), 5, np.random.default_rng(seed))
        assert places.any(axis=1).all()
    for _, _, places in masking.examined(np.zeros(300, int), 3, 5):
        assert places.any(axis=1).all()


def test_all_models_are_examined_at_the_same_places_and_see_nothing_of_them(rng):
    text = rng.integers(0, 20, 1000)
    parts = list(masking.examined(text, 64, 20, batch_size=4))
    again = list(masking.examined(text, 64, 20, batch_size=100))
    x, y, places = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip((x, y, places), again[0], strict=True))
    assert (y.reshape(-1) == text[:960]).all() and x.shape == (15, 64)
    assert (x[places] == 20).all() and (x[~places] == y[~places]).all() and 0.1 < places.mean() < 0.2
    with pytest.raises(ValueError, match="the text has 63 tokens, fewer than a window of 64"):
        next(masking.examined(text[:63], 64, 20))


# -- counting -----------------------------------------------------------------------------------------------------


def test_counts_are_the_formula():
    """By dictionaries, for a text short enough."""
    text = np.array([0, 1, 2, 0, 1, 3, 0, 1, 2, 2, 0])
    counts = Counts(text, 4, 2)
    counts.strengths = [0.5, 2.0]
    asked, n = np.array([3, 0, 1, 2, 2]), len(text)
    for i in (1, 2, 3):
        c, left, right = asked[i], asked[i - 1], asked[i + 1]
        p = (text == c).mean()
        before = [j for j in range(n) if text[j - 1] == left]
        p = (sum(text[j] == c for j in before) + 0.5 * p) / (len(before) + 0.5)
        both = [j for j in before if text[(j + 1) % n] == right]
        p = (sum(text[j] == c for j in both) + 2 * p) / (len(both) + 2)
        assert counts.p(asked, np.array([i]))[0] == pytest.approx(p)
    assert ORDER[:2] == (-1, 1)


def test_probabilities_of_all_characters_sum_to_one(rng):
    text = rng.integers(0, 5, 200)
    counts, asked = Counts(text, 5, 4), rng.integers(0, 5, 9)
    total = 0.0
    for c in range(5):
        asked[4] = c
        total += counts.p(asked, np.array([4]))[0]
    assert total == pytest.approx(1)


def test_strengths_are_chosen_where_the_loss_is_lowest(rng):
    text, held_out = rng.integers(0, 3, 400), rng.integers(0, 3, 200)
    places = np.arange(2, 198)
    chosen = Counts(text, 3, 1).choose(held_out, places, (0.1, 1.0, 10.0, 100.0))
    losses = []
    for a in (0.1, 1.0, 10.0, 100.0):
        other = Counts(text, 3, 1)
        other.strengths = [a]
        losses.append(other.loss(held_out, places))
    assert chosen.loss(held_out, places) == min(losses)
    with pytest.raises(ValueError, match="0 to 4 neighbours, got 5"):
        Counts(text, 3, 5)


def test_counting_is_asked_for_what_the_model_is_asked_for():
    task = some_text()
    places = bert.hidden_places(task.test, 8, 5)
    expected = [8 * i + j for i, row in enumerate(np.concatenate([p for _, _, p in masking.examined(task.test, 8, 5)]))
                for j in np.flatnonzero(row)]  # fmt: skip
    assert places.tolist() == expected
    counts = Counts(task.train, 5, 2).choose(task.validation, bert.hidden_places(task.validation, 8, 5))
    assert counted(task, task.test, 8, 2) == pytest.approx(counts.loss(task.test, places))


# -- the loop -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shards", "dropout"), [(2, 0.0), (1, 0.2)])
def test_the_training_loop_is_the_loop_that_it_says(shards, dropout, tmp_path, monkeypatch):
    """Gaps by seed and step, the mean over the places asked for, clipping, decay of matrices alone."""
    task, settings = some_text(), Settings(**SHORT, dropout=dropout, shards=shards)
    manual_seed(0)
    model = build(settings, 5).to(np.float64)
    groups = [{"params": [p for p in model.parameters() if (p.ndim == 1) == thin], "weight_decay": 0.0 if thin else 0.3}
              for thin in (False, True)]  # fmt: skip
    optimizer = AdamW(groups, betas=(0.9, 0.99))
    batches, losses, norms = TextWindows(task.train, 8, 5, 0), [], []
    for n in range(6):
        y, _ = next(batches)
        with stream(0, n):
            x, places = masking.hide(y, 5, generator())
            log_p = log_softmax(model(x), dim=-1)
        loss = -(log_p * (np.eye(6)[y] * places[..., None])).sum() / float(places.sum())
        optimizer.zero_grad()
        loss.backward()
        norms.append(clip_grad_norm_(model.parameters(), 0.5))
        optimizer.lr = RATES[n]
        optimizer.step()
        losses.append(loss.item())
    assert max(norms) > 0.5  # or clipping would not be seen

    run = start(tmp_path / "run", monkeypatch, settings, np.float64)
    _, arrays = checkpoint.load(run.folder / CHECKPOINT)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(arrays[f"model.{name}"], value, rtol=1e-7, atol=1e-9, err_msg=name)
    figures = json.loads((run.folder / RESULTS).read_text())["figures"]
    assert figures["loss at step 0"] == pytest.approx(losses[0], rel=1e-9)
    best = build(settings, 5).to(np.float64)
    best.load_state_dict({k.removeprefix("best."): a for k, a in arrays.items() if k.startswith("best.")})
    best.eval()
    surprises, right = [], []
    for x, y, places in masking.examined(task.test, 8, 5):
        log_p = log_softmax(best(x), dim=-1).data[places]
        surprises += (-log_p[np.arange(len(log_p)), y[places]]).tolist()
        right += (log_p.argmax(axis=1) == y[places]).tolist()
    assert figures["test loss"] == pytest.approx(np.mean(surprises), rel=1e-6)
    assert figures["test accuracy"] == pytest.approx(np.mean(right))
    assert figures["counts, two neighbours"] == pytest.approx(counted(task, task.test, 8, 2))


def test_a_run_that_broke_off_and_resumed_ends_with_the_same_bits(tmp_path, monkeypatch):
    settings = Settings(**SHORT, dropout=0.1, save_every=2)
    start(tmp_path / "whole", monkeypatch, settings)
    log = Run.log

    def breaking(self, number, loss, **figures):
        log(self, number, loss, **figures)
        if number == 4:
            raise OSError("the plug was pulled")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="plug"):
        patch.setattr(Run, "log", breaking)
        start(tmp_path / "run", monkeypatch, settings)
    generator().random()
    run = Run.resume(tmp_path / "run")
    bert.train(from_json(Settings, run.document["settings"]), run)
    run.close()
    (facts, arrays), (others, expected) = (checkpoint.load(tmp_path / name / CHECKPOINT) for name in ("run", "whole"))
    assert {**facts, "seconds": 0} == {**others, "seconds": 0} and arrays.keys() == expected.keys()
    for name, value in expected.items():
        assert arrays[name].tobytes() == value.tobytes(), name
    assert (tmp_path / "run" / LOG).read_bytes() == (tmp_path / "whole" / LOG).read_bytes()


def test_a_set_without_a_test_part_reports_its_validation_loss():
    text, model = some_text(), build(Settings(**SHORT), 5)
    figures = report(model, Text(text.tokenizer, text.train, text.validation, text.test[:0]))
    assert figures["validation loss"] == evaluate(model, text, text.validation)["loss"]
    assert "test loss" not in figures and model.training


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 10}, "hidden_size must be a multiple of num_attention_heads, got 10 and 4"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"lr": math.inf}, "lr must be a number of at least final_lr, got inf"),
        ({"dropout": 1.5}, "dropout must be from 0 to 1, got 1.5"),
        ({"beta2": 1.0}, "beta2 must be from 0 to below 1, got 1.0"),
    ],
)
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Settings(**changes)


def test_every_preset_builds_its_model():
    for name in PRESETS:
        settings = with_preset(Settings, PRESETS, name)
        model = build(settings, 20)
        assert len(model.bert.encoder["layer"]) == settings.num_hidden_layers
        assert model(np.full((1, 3), 20)).shape == (1, 3, 21)


# -- inside -------------------------------------------------------------------------------------------------------


def test_each_place_is_hidden_in_turn(rng):
    model, tokens = awake(rng, BertForMaskedLM(**TINY)), rng.integers(0, 10, 6)
    p = inside.one_by_one(model, tokens, 10)
    assert p.shape == (6, 11) and model.training
    for t in range(6):
        x = tokens.copy()
        x[t] = 10
        expected = np.exp(log_softmax(model(x[None]), dim=-1).data[0, t])
        np.testing.assert_allclose(p[t], expected, rtol=1e-4, atol=1e-6)


def test_maps_are_the_weights_that_the_model_uses(rng):
    model, tokens = awake(rng, BertForMaskedLM(**TINY)).to(np.float64), rng.integers(0, 11, 7)
    maps = inside.attention_maps(model, tokens)
    assert maps.shape == (2, 2, 7, 7)
    np.testing.assert_allclose(maps.sum(axis=-1), 1, rtol=1e-12)
    x = model.bert.embeddings(tokens[None], np.zeros((1, 7), int), np.arange(7))
    attention = model.bert.encoder["layer"][0].attention["self"]
    v = attention.value(x).data[0]
    mixed = np.concatenate([maps[0, h] @ v[:, 6 * h : 6 * h + 6] for h in range(2)], axis=1)
    np.testing.assert_allclose(attention(x, None).data[0], mixed, rtol=1e-9)
    with pytest.raises(ValueError, match=r"one text, \(T,\)"):
        inside.attention_maps(model, tokens[None])


def test_pictures_show_what_the_functions_return(tmp_path, monkeypatch, rng):
    drawn = {}
    monkeypatch.setattr(pictures.viz, "save", lambda figure, path: drawn.setdefault(path.stem, figure) and path)
    log = [{"step": 0, "loss": 2.0}, {"step": 1, "loss": 1.5},
           {"step": 2, "validation_loss": 1.4, "validation_accuracy": 0.5}]  # fmt: skip
    task = Text(CharTokenizer(sorted(set(pictures.LINE + pictures.PHRASE))), *(np.zeros(9, int),) * 3)
    V = len(task.tokenizer)
    model = awake(rng, BertForMaskedLM(**{**TINY, "vocab_size": V + 1, "max_position_embeddings": 32}))
    assert [f.name for f in pictures.draw_all(tmp_path, log, model, task)] == ["curves.png", "gaps.png", "heads.png"]
    tokens = task.tokenizer.encode(pictures.LINE)
    p = np.sort(-inside.one_by_one(model, tokens, V)[:, :V], axis=1)[:, :5].T
    np.testing.assert_allclose(np.asarray(drawn["gaps"].axes[0].images[0].get_array()), -p, rtol=1e-5)


# -- samples ------------------------------------------------------------------------------------------------------


def test_a_sample_fills_gaps(tmp_path, monkeypatch, capsys):
    run = start(tmp_path / "run", monkeypatch, Settings(**SHORT))
    monkeypatch.setattr(sample, "load_task", lambda settings: Text(CharTokenizer("abc e"), *(np.zeros(9, int),) * 3))
    model, task = sample.load_run(run.folder)
    assert not model.training
    capsys.readouterr()
    sample.main(["--run", str(run.folder), "--text", "ab_c_", "--guesses", "2", "--pictures", str(tmp_path / "p")])
    lines = capsys.readouterr().out.splitlines()
    p = inside.fill(model, [[0, 1, 5, 2, 5]], [[False, False, True, False, True]])[:, :5]
    best = [task.tokenizer.decode([c]) for c in p.argmax(axis=1)]
    assert lines[0] == f"ab_c_ → ab{best[0]}c{best[1]}"
    assert lines[1].startswith(f"  place 3   {best[0]!r} {100 * p[0].max():.0f} %") and len(lines) == 5
    assert sorted(f.name for f in (tmp_path / "p").iterdir()) == ["gaps.png", "heads.png"]
    for words, message in [(["--text", "abc"], "at least one gap, _, and at most 8 characters; got 'abc'"),
                           (["--text", "_________"], "at most 8 characters"),
                           (["--text", "ax_"], "the character 'x' at position 1"),
                           (["--text", "_", "--guesses", "6"], "--guesses expected 1 to 5, got 6"),
                           (["--weights", "w"], "give --run or --weights, not both")]:  # fmt: skip
        with pytest.raises(ValueError, match=re.escape(message)):
            sample.main(["--run", str(run.folder), *words])


@pytest.mark.skipif(not SHIPPED.is_file(), reason="the weights are not there yet")
def test_the_shipped_weights_give_the_loss_on_their_card():
    """In 16 bits; the card was written from the run in 32."""
    card = load_metadata(SHIPPED)
    assert shipped(SHIPPED, "bert", Settings)[0] == Settings()
    assert "scratch train bert --preset default --seed 0" in card["made by"]
    model, task = sample.load_weights(SHIPPED)
    loss = evaluate(model, task, task.test)["loss"]
    assert abs(float(re.search(r"test loss ([\d.]+)", card["figures"])[1]) - loss) < 2e-3
    assert loss < float(re.search(r"counts, two neighbours ([\d.]+)", card["figures"])[1])


# -- ablations ----------------------------------------------------------------------------------------------------


def test_each_ablation_takes_away_what_it_says(rng):
    x, y = rng.integers(0, 6, (3, 8)), rng.integers(0, 5, (3, 8))
    places, made = rng.random((3, 8)) < 0.5, {}
    for name, (_, make) in ablations.ABLATIONS.items():
        manual_seed(0)
        made[name] = make(Settings(**SHORT), 5).to(np.float64)
        for p in made[name].parameters():
            p.data *= 10 if p.ndim == 2 else 1
        gradients = []
        for shards in (1, 2):
            made[name].zero_grad()
            ShardedLoss(made[name], summed_loss, shards)(x, y, places).backward()
            gradients.append([p.grad for p in made[name].parameters()])
        for one, other in zip(*gradients, strict=True):
            assert (one is None) == (other is None), name
            if one is not None:
                np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12, err_msg=name)
    plain = made["as it is"](x).data
    for name, (shares, _) in ablations.ABLATIONS.items():
        assert np.array_equal(made[name](x).data, plain) == (name == "as it is" or shares != ablations.BERT), name
    last, first = x.copy(), x.copy()
    last[:, -1], first[:, 0] = (x[:, -1] + 1) % 5, (x[:, 0] + 1) % 5
    moved = {name: np.abs(m(last).data - m(x).data) for name, m in made.items()}
    assert moved["looks back only"][:, :-1].max() < 1e-12 and moved["as it is"][:, 0].max() > 1e-9
    assert moved["no attention"][:, :-1].max() == 0
    assert np.abs(made["no attention"](first).data - made["no attention"](x).data)[:, 1:].max() == 0
    constant = np.full((1, 8), 2)
    assert np.ptp(made["no positions"](constant).data, axis=1).max() < 1e-12 < np.ptp(made["as it is"](constant).data)
    h = 6.0 * made["pre-norm"].bert.embeddings(x, np.zeros_like(x), np.arange(8))
    for name, normed in (("as it is", True), ("pre-norm", False)):
        spread = made[name].bert.encoder["layer"][0](h, None).data.std(axis=-1)
        assert np.allclose(spread, 1, atol=0.1) == normed, name


def test_every_ablation_is_a_run_of_its_own_and_hides_what_it_says(tmp_path, monkeypatch, capsys, rng):
    monkeypatch.setattr(ablations, "BASE", SHORT)
    monkeypatch.setattr(bert, "load_task", lambda settings: some_text())
    monkeypatch.setattr(pictures, "draw_all", lambda *arguments: [])
    monkeypatch.setattr("sys.argv", ["ablations", "--parent", str(tmp_path), "--steps", "2"])
    ablations.main()
    assert bert.hide is masking.hide
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0][2:] for row in table[1:]] == list(ablations.ABLATIONS)
    assert all("nan" not in row for row in table)
    text = rng.integers(0, 5, (200, 64))
    with ablations.hiding((0.4, 0.0, 0.5)):
        x, places = bert.hide(text, 5, np.random.default_rng(0))
    assert 0.38 < places.mean() < 0.42 and (x < 5).all() and 0.3 < (x != text)[places].mean() < 0.5


# -- values that single changed expressions would move -----------------------------------------------------------------


def test_a_text_without_a_gap_gets_one_at_any_position_and_shares_may_differ(rng):
    _, places = masking.hide(np.zeros((4000, 4), int), 5, rng, chosen=0.0)
    assert (places.sum(axis=1) == 1).all()
    assert abs(places.mean(axis=0) - 0.25).max() < 5 * math.sqrt(0.25 * 0.75 / 4000)
    text = rng.integers(0, 20, (500, 64))
    x, places = masking.hide(text, 20, rng, chosen=0.5, masked=0.5, random=0.4)
    n = places.sum()
    for count, share in (((x[places] == 20).sum(), 0.5), ((places & (x != 20) & (x != text)).sum(), 0.4 * 19 / 20)):
        assert abs(count - n * share) < 5 * math.sqrt(n * share * (1 - share))


def test_a_window_without_a_gap_gets_one_at_its_first_token_and_the_others_none():
    text = np.arange(300)
    *_, places = next(masking.examined(text, 3, 500, seed=4, batch_size=100))
    drawn = np.random.default_rng(4).random((100, 3)) < 0.15
    bare = ~drawn.any(axis=1)
    assert 20 < bare.sum() < 90
    np.testing.assert_array_equal(places[~bare], drawn[~bare])
    np.testing.assert_array_equal(places[bare], np.tile([True, False, False], (bare.sum(), 1)))
