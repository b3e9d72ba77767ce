"""BERT: a Transformer's encoder alone, which learns a text by filling its gaps."""

from scratch.models.bert.model import Bert, BertForMaskedLM

__all__ = ["Bert", "BertForMaskedLM"]
