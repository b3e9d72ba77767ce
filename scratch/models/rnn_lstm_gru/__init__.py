"""RNN, LSTM and GRU as language model, classifier and tagger; an encoder and a decoder with attention."""

from scratch.models.rnn_lstm_gru.model import LanguageModel, SequenceClassifier, Tagger
from scratch.models.rnn_lstm_gru.seq2seq import BahdanauSeq2Seq, LuongSeq2Seq

__all__ = ["BahdanauSeq2Seq", "LanguageModel", "LuongSeq2Seq", "SequenceClassifier", "Tagger"]
