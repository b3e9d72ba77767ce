"""Encoder and decoder with attention: one sequence read, another written, token by token.

    encoder    m_s = [h→_s; h←_s]          a GRU in both directions over E[source]          (B, S, M)
               s_0 = tanh(W [h→_S; h←_1])                                                   (B, H)

    attention  e_ts = score(q_t, m_s),   a_t = softmax_s(e_t),   c_t = Σ_s a_ts m_s         (B, T, S), (B, T, M)

               additive         v · tanh(W q + U m)      (Bahdanau, Cho and Bengio 2015)
               multiplicative   q · W m                  (Luong, Pham and Manning 2015, "general")

    decoder    Bahdanau         asks with s_{t−1}, then steps: s_t = GRU([E[y_t]; c_t], s_{t−1})
               Luong            steps, then asks with s_t: o_t = tanh(W [c_t; s_t]); so all steps go at once

Without attention all of the source would have to pass through s_0. y_t is the token written before; y_1 is "begin".
In training it is the right one (teacher forcing), or, with `forced`, sometimes the model's own (scheduled sampling,
Bengio et al. 2015), since that is what it will be given when nobody knows the answer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from scratch.activations import softmax, tanh
from scratch.combine import concatenate, stack, where
from scratch.layers import Embedding, Linear
from scratch.layers.recurrent import GRU, GRUCell
from scratch.models.rnn_lstm_gru.model import initialise
from scratch.module import Module
from scratch.sampling import check_scores
from scratch.tensor import Tensor, no_grad
from scratch.value import raw

PAD, BEGIN, END = 0, 1, 2


class Memory(NamedTuple):
    """What the decoder asks: values (B, S, M), the attention's keys of them, padding (B, S), True at no token."""

    values: Tensor
    keys: Tensor
    padding: np.ndarray


class AdditiveAttention(Module):
    """e_s = v · tanh(W q + U m_s + b): a small network says how well query and memory fit  (Bahdanau et al. 2015)

    Shapes: query (B, T, H), memory of S places → c (B, T, M), a (B, T, S); a is 0 at padding.
    """

    def __init__(self, query_size: int, memory_size: int, size: int):
        self.query = Linear(query_size, size, bias=False)
        self.key = Linear(memory_size, size)
        self.score = Linear(size, 1, bias=False)

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        q, k = self.query(query), memory.keys
        (B, T, A), S = q.shape, k.shape[1]
        e = self.score(tanh(q.reshape(B, T, 1, A) + k.reshape(B, 1, S, A)))
        return mixed(e.reshape(B, T, S), memory)


class MultiplicativeAttention(Module):
    """e_s = q · W m_s: one product of matrices for all queries and places  (Luong et al. 2015)

    Shapes: query (B, T, H), memory of S places → c (B, T, M), a (B, T, S); a is 0 at padding.
    """

    def __init__(self, query_size: int, memory_size: int):
        self.key = Linear(memory_size, query_size, bias=False)

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        return mixed(query @ memory.keys.swapaxes(1, 2), memory)


def mixed(scores: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
    """a = softmax(scores) over the places that hold a token, c = a m.  Shapes: (B, T, S) → (B, T, M), (B, T, S)"""
    a = softmax(where(memory.padding[:, None], -np.inf, scores), dim=-1)
    return a @ memory.values, a


class _Seq2Seq(Module):
    """What both have in common: the encoder, and how tokens are read.

    Args: vocab_size: tokens V of both sequences, 0 padding, 1 begin, 2 end. embedding: features of a token. hidden: H
            of the decoder, even; each direction of the encoder has half of it, so that M = H.
        max_length: the longest answer, its end among it.
    Shapes: source (B, S), target (B, T), whole numbers; forced (B, T), truth values → logits (B, T, V), those of the
    token that follows target[:, t]. Where `forced` is False the decoder reads its own likeliest token instead of
    target[:, t]; without it, all of target. Raises ValueError for other shapes, tokens outside 0 … V − 1, and a source
    without any token, or with padding before one: the encoder reads each row up to its length.
    """

    def __init__(self, vocab_size: int, embedding: int, hidden: int, max_length: int):
        if hidden < 2 or hidden % 2:
            raise ValueError(f"{type(self).__name__} expected hidden to be an even number from 2, got {hidden}")
        self.max_length = max_length
        self.embedding = Embedding(vocab_size, embedding)
        self.encoder = GRU(embedding, hidden // 2, batch_first=True, bidirectional=True)
        self.bridge = Linear(hidden, hidden)
        initialise(self.encoder)

    attention: Any

    def forward(self, source: Any, target: Any, forced: Any = None) -> Tensor:
        memory, state = self.encode(source)
        target = self._tokens(target, "target")
        if forced is None:
            return self.decode(target, state, memory)[0]
        if np.shape(forced) != target.shape:
            raise ValueError(f"{type(self).__name__} expected forced {target.shape}, got {np.shape(forced)}")
        own, logits = target[:, 0], []
        for t in range(target.shape[1]):
            token = np.where(forced[:, t], target[:, t], own)
            scores, state, _ = self.decode(token[:, None], state, memory)
            own = scores.data[:, 0].argmax(axis=-1)
            logits.append(scores)
        return concatenate(logits, axis=1)

    def encode(self, source: Any) -> tuple[Memory, Tensor]:
        """What is to be asked, and the decoder's first state (B, H).  Shapes: (B, S)"""
        source = self._tokens(source, "source")
        padding = source == PAD
        late = padding[:, :-1] & ~padding[:, 1:]
        if late.any():
            row = int(late.any(axis=1).argmax())
            raise ValueError(f"{type(self).__name__} expected padding behind the tokens, row {row} of source has it "
                             f"before one: {source[row]}")  # fmt: skip
        values, h = self.encoder(self.embedding(source), lengths=(~padding).sum(axis=1))
        state = tanh(self.bridge(concatenate([h[0], h[1]], axis=1)))
        return Memory(values, self.attention.key(values), padding), state

    def decode(self, target: np.ndarray, state: Tensor, memory: Memory) -> tuple[Tensor, Tensor, Tensor]:
        """logits (B, T, V), the state behind the last token (B, H), a (B, T, S)"""
        raise NotImplementedError

    def _tokens(self, tokens: Any, name: str) -> np.ndarray:
        tokens = np.asarray(raw(tokens))
        if tokens.ndim != 2 or 0 in tokens.shape:
            raise ValueError(f"{type(self).__name__} expected {name} (B, T) with T ≥ 1, got shape {tokens.shape}")
        return tokens


class BahdanauSeq2Seq(_Seq2Seq):
    """Look, then step: c_t by additive attention with s_{t−1}, s_t = GRU([E[y_t]; c_t], s_{t−1}),

        logits_t = V tanh(W [s_t; c_t; E[y_t]])     (the paper has maxout for tanh)

    Args, shapes and errors: `_Seq2Seq`.
    """

    def __init__(self, vocab_size: int = 64, embedding: int = 64, hidden: int = 128, max_length: int = 64):
        super().__init__(vocab_size, embedding, hidden, max_length)
        self.attention = AdditiveAttention(hidden, hidden, hidden // 2)
        self.decoder = GRUCell(embedding + hidden, hidden)
        self.mix = Linear(2 * hidden + embedding, hidden)
        self.output = Linear(hidden, vocab_size)
        initialise(self.decoder)

    def decode(self, target: np.ndarray, state: Tensor, memory: Memory) -> tuple[Tensor, Tensor, Tensor]:
        y, seen, weights = self.embedding(target), [], []
        for t in range(target.shape[1]):
            c, a = self.attention(state.reshape(len(state), 1, -1), memory)
            y_t, c = y[:, t], c[:, 0]
            state = self.decoder(concatenate([y_t, c], axis=1), state)
            seen.append(concatenate([state, c, y_t], axis=1))
            weights.append(a[:, 0])
        return self.output(tanh(self.mix(stack(seen, axis=1)))), state, stack(weights, axis=1)


class LuongSeq2Seq(_Seq2Seq):
    """Step, then look: s_t = GRU(E[y_t], s_{t−1}), c_t by multiplicative attention with s_t,

        o_t = tanh(W [c_t; s_t]),   logits_t = V o_t     (without the paper's input feeding, o_t into step t + 1)

    Args, shapes and errors: `_Seq2Seq`.
    """

    def __init__(self, vocab_size: int = 64, embedding: int = 64, hidden: int = 128, max_length: int = 64):
        super().__init__(vocab_size, embedding, hidden, max_length)
        self.attention = MultiplicativeAttention(hidden, hidden)
        self.decoder = GRU(embedding, hidden, batch_first=True)
        self.mix = Linear(2 * hidden, hidden)
        self.output = Linear(hidden, vocab_size)
        initialise(self.decoder)

    def decode(self, target: np.ndarray, state: Tensor, memory: Memory) -> tuple[Tensor, Tensor, Tensor]:
        s, last = self.decoder(self.embedding(target), state.reshape(1, *state.shape))
        c, a = self.attention(s, memory)
        return self.output(tanh(self.mix(concatenate([c, s], axis=-1)))), last[0], a


def greedy(model: _Seq2Seq, source: Any, max_length: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(tokens (B, T), a (B, T, S)): the likeliest token each time, to the end or to `max_length`, padded behind it."""
    training = model.training
    model.eval()
    try:
        with no_grad():
            memory, state = model.encode(source)
            B = len(memory.padding)
            token, running, answer, looks = np.full(B, BEGIN), np.ones(B, bool), [], []
            for step in range(model.max_length if max_length is None else max_length):
                logits, state, a = model.decode(token[:, None], state, memory)
                check_scores(logits.data[:, 0], step, running)
                token = np.where(running, logits.data[:, 0].argmax(axis=1), PAD)
                answer.append(token)
                looks.append(a.data[:, 0])
                running &= token != END
                if not running.any():
                    break
    finally:
        model.train(training)
    return np.stack(answer, axis=1), np.stack(looks, axis=1)
