"""The tiny synthetic Wan pipelines: video, two forwards a step, and (Wan 2.2) two denoisers."""

from __future__ import annotations

from typing import Any

from tracekit.workload.recipes import Part, Recipe, t5_encoder, t5_tokenizer

_TEXT_WIDTH = 64
_PARTS: dict[str, Part | None] = {
    "scheduler": Part(
        "diffusers.UniPCMultistepScheduler",
        {
            "num_train_timesteps": 1000,
            "prediction_type": "flow_prediction",
            "use_flow_sigmas": True,
            "flow_shift": 3.0,
        },
    ),
    "tokenizer": t5_tokenizer(),
    "text_encoder": t5_encoder(_TEXT_WIDTH, 2, 2, 128, head_width=32, class_name="transformers.UMT5EncoderModel"),
    "vae": Part(
        "diffusers.AutoencoderKLWan",
        {
            "base_dim": 4,
            "z_dim": 16,
            "dim_mult": [1, 1, 1, 1],
            "num_res_blocks": 1,
            "temperal_downsample": [False, True, True],
        },
    ),
}
_TRANSFORMER = Part(
    "diffusers.WanTransformer3DModel",
    {
        "patch_size": (1, 2, 2),
        "in_channels": 16,
        "out_channels": 16,
        "num_attention_heads": 4,
        "attention_head_dim": 32,
        "num_layers": 3,
        "ffn_dim": 256,
        "text_dim": _TEXT_WIDTH,
        "freq_dim": 64,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 64,
    },
)
# Five frames are two latent frames. True CFG (guidance above 1) makes two forwards a step.
_CALL: dict[str, Any] = {
    "height": 64,
    "width": 64,
    "num_frames": 5,
    "num_inference_steps": 4,
    "guidance_scale": 5.0,
    "max_sequence_length": 64,
}

WAN_TINY = Recipe(
    summary="Wan text-to-video, 6 MB in float32: seconds on a CPU",
    pipeline="diffusers.WanPipeline",
    parts={**_PARTS, "transformer": _TRANSFORMER, "transformer_2": None},
    dtype="float32",
    call=_CALL,
)
WAN22_TINY = Recipe(
    summary="Wan 2.2 text-to-video with two denoisers, 10 MB in float32: seconds on a CPU",
    pipeline="diffusers.WanPipeline",
    parts={**_PARTS, "transformer": _TRANSFORMER, "transformer_2": _TRANSFORMER},
    dtype="float32",
    call=_CALL,
    # The share of the noise above which the first denoiser works.
    settings={"boundary_ratio": 0.875},
)
