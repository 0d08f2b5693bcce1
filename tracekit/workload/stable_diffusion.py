"""The synthetic Stable Diffusion pipelines: SDXL, tiny and in full size, and a tiny SD3."""

from __future__ import annotations

from tracekit.workload.recipes import Part, Recipe, clip_text, clip_tokenizer, image_vae, t5_encoder, t5_tokenizer

_XL_SCHEDULER = Part(
    "diffusers.EulerDiscreteScheduler",
    {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "use_karras_sigmas": False,
    },
)


def _xl_unet(
    channels: tuple[int, ...],
    heads: tuple[int, ...],
    layers: tuple[int, ...],
    *,
    text_width: int,
    pooled_width: int,
    time_width: int,
    sample_size: int,
) -> Part:
    """SDXL's UNet: convolutions at the first width, transformers of `layers` layers at the others."""
    attending = len(channels) - 1
    return Part(
        "diffusers.UNet2DConditionModel",
        {
            "sample_size": sample_size,
            "in_channels": 4,
            "out_channels": 4,
            "block_out_channels": channels,
            "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * attending,
            "up_block_types": ("CrossAttnUpBlock2D",) * attending + ("UpBlock2D",),
            "layers_per_block": 2,
            "attention_head_dim": heads,
            "transformer_layers_per_block": layers,
            "cross_attention_dim": text_width,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": time_width,
            # Six sizes and offsets beside the pooled prompt.
            "projection_class_embeddings_input_dim": pooled_width + 6 * time_width,
        },
    )


XL_TINY = Recipe(
    summary="SDXL (UNet), 10 MB in float32: seconds on a CPU",
    pipeline="diffusers.StableDiffusionXLPipeline",
    parts={
        "scheduler": _XL_SCHEDULER,
        "tokenizer": clip_tokenizer(),
        "tokenizer_2": clip_tokenizer(),
        "text_encoder": clip_text(32, 2, 2),
        "text_encoder_2": clip_text(32, 2, 2, projection=True, activation="gelu"),
        "unet": _xl_unet(
            (32, 64, 64), (2, 4, 4), (1, 1, 2), text_width=64, pooled_width=32, time_width=8, sample_size=16
        ),
        "vae": image_vae((16, 16, 32, 32), latent_channels=4, scaling_factor=0.13025),
    },
    dtype="float32",
    call={"height": 128, "width": 128, "num_inference_steps": 4},
)
_XL_UNET = _xl_unet(
    (320, 640, 1280),
    (5, 10, 20),
    (1, 2, 10),
    text_width=2048,
    pooled_width=1280,
    time_width=256,
    sample_size=128,
)
XL = Recipe(
    summary="SDXL's full shapes (UNet), about 7 GB in float16",
    pipeline="diffusers.StableDiffusionXLPipeline",
    parts={
        "scheduler": _XL_SCHEDULER,
        "tokenizer": clip_tokenizer(),
        "tokenizer_2": clip_tokenizer(),
        "text_encoder": clip_text(768, 12, 12, vocab_size=49408),
        "text_encoder_2": clip_text(1280, 32, 20, vocab_size=49408, projection=True, activation="gelu"),
        "unet": _XL_UNET,
        "vae": image_vae(
            (128, 256, 512, 512),
            layers=2,
            groups=32,
            latent_channels=4,
            scaling_factor=0.13025,
            sample_size=1024,
            force_upcast=True,
        ),
    },
    dtype="float16",
    call={"height": 1024, "width": 1024, "num_inference_steps": 4},
)
XL_DENOISER = Recipe(
    summary="SDXL's UNet with ready prompt embeddings, 5 GB in float16",
    pipeline="diffusers.StableDiffusionXLPipeline",
    parts={
        "scheduler": _XL_SCHEDULER,
        "tokenizer": None,
        "tokenizer_2": None,
        "text_encoder": None,
        "text_encoder_2": None,
        "unet": _XL_UNET,
        "vae": None,
    },
    dtype="float16",
    # No VAE: the latents are the output.
    call={"height": 1024, "width": 1024, "num_inference_steps": 4, "output_type": "latent"},
    embeddings={"prompt_embeds": (1, 77, 2048), "pooled_prompt_embeds": (1, 1280)},
)
SD3_TINY = Recipe(
    summary="Stable Diffusion 3, 5 MB in float32: seconds on a CPU",
    pipeline="diffusers.StableDiffusion3Pipeline",
    parts={
        "scheduler": Part("diffusers.FlowMatchEulerDiscreteScheduler", {"num_train_timesteps": 1000, "shift": 3.0}),
        "tokenizer": clip_tokenizer(),
        "tokenizer_2": clip_tokenizer(),
        "tokenizer_3": t5_tokenizer(),
        "text_encoder": clip_text(32, 2, 2, projection=True),
        "text_encoder_2": clip_text(32, 2, 2, projection=True, activation="gelu"),
        "text_encoder_3": t5_encoder(128, 2, 2, 256),
        "transformer": Part(
            "diffusers.SD3Transformer2DModel",
            {
                "sample_size": 16,
                "patch_size": 2,
                "in_channels": 16,
                "out_channels": 16,
                "num_layers": 3,
                "attention_head_dim": 32,
                "num_attention_heads": 4,
                "caption_projection_dim": 128,
                "joint_attention_dim": 128,
                "pooled_projection_dim": 64,
                "pos_embed_max_size": 16,
            },
        ),
        "vae": image_vae(
            (16, 16, 32, 32),
            latent_channels=16,
            scaling_factor=1.5305,
            shift_factor=0.0609,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
    },
    dtype="float32",
    call={"height": 128, "width": 128, "num_inference_steps": 4, "max_sequence_length": 64},
)
