"""The synthetic Flux pipelines, from seconds on a CPU to the full shapes of FLUX.1-dev."""

from __future__ import annotations

from typing import Any

from tracekit.workload.recipes import Part, Recipe, clip_text, clip_tokenizer, image_vae, t5_encoder, t5_tokenizer

_SCHEDULER = Part(
    "diffusers.FlowMatchEulerDiscreteScheduler",
    {
        "base_image_seq_len": 256,
        "base_shift": 0.5,
        "max_image_seq_len": 4096,
        "max_shift": 1.15,
        "num_train_timesteps": 1000,
        "shift": 3.0,
        "use_dynamic_shifting": True,
    },
)
_VAE_LATENTS: dict[str, Any] = {
    "latent_channels": 16,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


def _transformer(double: int, single: int, heads: int, *, text_width: int, pooled_width: int) -> Part:
    """Flux's denoiser: `double` + `single` blocks of `heads` heads, 128 wide each as in FLUX.1-dev."""
    return Part(
        "diffusers.FluxTransformer2DModel",
        {
            "patch_size": 1,
            "in_channels": 64,
            "num_layers": double,
            "num_single_layers": single,
            "attention_head_dim": 128,
            "num_attention_heads": heads,
            "joint_attention_dim": text_width,
            "pooled_projection_dim": pooled_width,
            "guidance_embeds": True,
            "axes_dims_rope": (16, 56, 56),
        },
    )


# FLUX.1-dev's transformer: 11.9 B parameters.
_DEV_TRANSFORMER = _transformer(19, 38, 24, text_width=4096, pooled_width=768)

TINY = Recipe(
    summary="Flux, 6 blocks, about 100 MB in float32: seconds on a CPU",
    pipeline="diffusers.FluxPipeline",
    parts={
        "scheduler": _SCHEDULER,
        "tokenizer": clip_tokenizer(),
        "tokenizer_2": t5_tokenizer(),
        "text_encoder": clip_text(64, 2, 2),
        "text_encoder_2": t5_encoder(128, 2, 2, 256),
        "transformer": _transformer(2, 4, 3, text_width=128, pooled_width=64),
        "vae": image_vae((16, 16, 32, 32), **_VAE_LATENTS),
    },
    # CPUs without bf16 instructions are several times slower in bfloat16.
    dtype="float32",
    call={"height": 128, "width": 128, "num_inference_steps": 4, "max_sequence_length": 64},
)
SMALL = Recipe(
    summary="Flux, 12 blocks, about 1 GB in bfloat16",
    pipeline="diffusers.FluxPipeline",
    parts={
        "scheduler": _SCHEDULER,
        "tokenizer": clip_tokenizer(),
        "tokenizer_2": t5_tokenizer(),
        "text_encoder": clip_text(512, 6, 8, vocab_size=49408),
        "text_encoder_2": t5_encoder(1024, 8, 16, 2816, vocab_size=32128),
        "transformer": _transformer(4, 8, 8, text_width=1024, pooled_width=512),
        "vae": image_vae((64, 128, 256, 256), layers=2, groups=32, **_VAE_LATENTS),
    },
    dtype="bfloat16",
    call={"height": 256, "width": 256, "num_inference_steps": 4, "max_sequence_length": 128},
)
DEV = Recipe(
    summary="FLUX.1-dev's full shapes, T5-XXL included, about 34 GB in bfloat16",
    pipeline="diffusers.FluxPipeline",
    parts={
        "scheduler": _SCHEDULER,
        "tokenizer": clip_tokenizer(),
        "tokenizer_2": t5_tokenizer(),
        "text_encoder": clip_text(768, 12, 12, vocab_size=49408),
        "text_encoder_2": t5_encoder(4096, 24, 64, 10240, vocab_size=32128),
        "transformer": _DEV_TRANSFORMER,
        "vae": image_vae((128, 256, 512, 512), layers=2, groups=32, sample_size=1024, **_VAE_LATENTS),
    },
    dtype="bfloat16",
    call={"height": 512, "width": 512, "num_inference_steps": 4, "max_sequence_length": 512},
)
DEV_DENOISER = Recipe(
    summary="FLUX.1-dev's transformer with ready prompt embeddings, 24 GB in bfloat16",
    pipeline="diffusers.FluxPipeline",
    parts={
        "scheduler": _SCHEDULER,
        "tokenizer": None,
        "tokenizer_2": None,
        "text_encoder": None,
        "text_encoder_2": None,
        "transformer": _DEV_TRANSFORMER,
        "vae": None,
    },
    dtype="bfloat16",
    # No VAE: the latents are the output.
    call={"height": 512, "width": 512, "num_inference_steps": 4, "output_type": "latent"},
    embeddings={"prompt_embeds": (1, 512, 4096), "pooled_prompt_embeds": (1, 768)},
)
