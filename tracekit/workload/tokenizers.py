"""Tokenizers of the real classes, built here from bytes and letters: no vocabulary is downloaded."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BOS, _EOS = "<|startoftext|>", "<|endoftext|>"
_T5_SPACE = "▁"


def build_tokenizer(tokenizer_class: Any, model_max_length: int) -> PreTrainedTokenizerBase:
    """A tokenizer of the given class (CLIP's or T5's) with a small vocabulary that any text can be written in."""
    from transformers import CLIPTokenizer, T5TokenizerFast

    if issubclass(tokenizer_class, CLIPTokenizer):
        return CLIPTokenizer(vocab=_clip_vocabulary(), merges=[], model_max_length=model_max_length)
    if issubclass(tokenizer_class, T5TokenizerFast):
        return T5TokenizerFast(vocab=_t5_vocabulary(), extra_ids=100, model_max_length=model_max_length)
    raise TypeError(f"no vocabulary for {tokenizer_class.__name__}")


def _clip_vocabulary() -> dict[str, int]:
    """CLIP's own vocabulary without its merges: each byte, each byte at a word's end, and the two marks last.

    End of text must have the highest id, since CLIP pools there.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    return {
        token: number for number, token in enumerate([*alphabet, *(f"{char}</w>" for char in alphabet), _BOS, _EOS])
    }


def _t5_vocabulary() -> list[tuple[str, float]]:
    """T5's first pieces, then single characters, each equally likely."""
    characters = string.digits + string.ascii_letters + string.punctuation
    specials = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), (_T5_SPACE, -2.0)]
    return specials + [(character, -3.0) for character in characters]
