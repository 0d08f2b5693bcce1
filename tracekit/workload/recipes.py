"""What a synthetic pipeline is made of: its parts, their configs and its call defaults, as plain data.

Nothing here imports torch, so that the command line can name the built-in pipelines at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

FORMAT_VERSION = 1
"""Raised when the same recipe is written differently, so that cached folders are made again."""

Config = Mapping[str, Any]
_NOTHING: Config = MappingProxyType({})


@dataclass(frozen=True)
class Part:
    """One component of a pipeline: its class (``library.Class``) and the config that it is built from."""

    class_name: str
    config: Config = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A synthetic pipeline.

    `parts` maps component to part, None for a component that the pipeline class knows and this pipeline lacks.
    `dtype` is torch's name of the dtype in which all weights are stored. `call` holds the defaults of the pipeline's
    call, `embeddings` the shapes of ready prompt embeddings by argument name, `settings` what the pipeline's
    constructor takes beside components.
    """

    summary: str
    pipeline: str
    parts: Mapping[str, Part | None]
    dtype: str
    call: Config
    embeddings: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    settings: Config = field(default_factory=dict)

    def fingerprint(self) -> str:
        """A short hash of all that decides the saved folder's content."""
        text = json.dumps([FORMAT_VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def clip_tokenizer() -> Part:
    """CLIP's tokenizer; every pipeline here pads to its 77 tokens."""
    return Part("transformers.CLIPTokenizer", {"model_max_length": 77})


def t5_tokenizer(max_length: int = 512) -> Part:
    """T5's tokenizer, under the name that model indexes use."""
    return Part("transformers.T5TokenizerFast", {"model_max_length": max_length})


def clip_text(
    width: int,
    layers: int,
    heads: int,
    *,
    vocab_size: int = 514,
    projection: bool = False,
    activation: str = "quick_gelu",
    projection_dim: int | None = None,
) -> Part:
    """A CLIP text encoder, with or without its projection head; its MLP is four times as wide as itself.

    End of text has the id 2 in the config though not in the tokenizer, as OpenAI's and Stability's have it: it makes
    transformers pool at the highest id.
    """
    config = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": vocab_size,
        "hidden_act": activation,
        "projection_dim": projection_dim or width,
        "max_position_embeddings": 77,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }
    return Part("transformers.CLIPTextModelWithProjection" if projection else "transformers.CLIPTextModel", config)


def t5_encoder(
    width: int,
    layers: int,
    heads: int,
    mlp_width: int,
    *,
    head_width: int = 64,
    vocab_size: int = 256,
    class_name: str = "transformers.T5EncoderModel",
) -> Part:
    """A T5 (v1.1) text encoder; `class_name` makes it a UMT5."""
    config = {
        "d_model": width,
        "d_kv": head_width,
        "d_ff": mlp_width,
        "num_layers": layers,
        "num_heads": heads,
        "vocab_size": vocab_size,
        "feed_forward_proj": "gated-gelu",
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "dropout_rate": 0.1,
        "layer_norm_epsilon": 1e-6,
    }
    return Part(class_name, config)


def image_vae(channels: tuple[int, ...], *, layers: int = 1, groups: int = 8, **config: Any) -> Part:
    """An image autoencoder with one block a width in `channels`; the last block does not scale.

    The number of blocks decides the latents' size: three in place of four make their sides twice as long.
    """
    blocks = len(channels)
    return Part(
        "diffusers.AutoencoderKL",
        {
            "in_channels": 3,
            "out_channels": 3,
            "block_out_channels": channels,
            "down_block_types": ("DownEncoderBlock2D",) * blocks,
            "up_block_types": ("UpDecoderBlock2D",) * blocks,
            "layers_per_block": layers,
            "norm_num_groups": groups,
            **config,
        },
    )
