"""Folders are written whole or not at all, sharded, and the same every time."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import tracekit
from tracekit.errors import UsageError
from tracekit.workload import flux, stable_diffusion
from tracekit.workload.build import build_folder
from tracekit.workload.checkpoint import make_checkpoint
from tracekit.workload.folders import check_space, whole_folder
from tracekit.workload.pipeline import CallOptions, build_call, load_pipeline
from tracekit.workload.quiet import no_step_bar
from tracekit.workload.recipes import Recipe, clip_text, t5_encoder
from tracekit.workload.synthetic import SYNTHETIC, cached_folder, find_recipe, is_whole

REPOSITORY = Path(tracekit.__file__).parents[1]
SHARD_BYTES = 1_000_000


def smaller(recipe: Recipe) -> Recipe:
    """A Flux recipe with its own call, scheduler and dtype, and models of a few MB."""
    parts = dict(recipe.parts)
    for name in ("transformer", "text_encoder", "text_encoder_2", "vae"):
        if parts[name] is not None:
            parts[name] = flux.TINY.parts[name]
    transformer = parts["transformer"]
    config = {**transformer.config, "num_layers": 1, "num_single_layers": 1, "num_attention_heads": 1}
    parts["transformer"] = dataclasses.replace(transformer, config=config)
    return dataclasses.replace(recipe, parts=parts)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sharded") / "flux"
    build_folder(smaller(flux.SMALL), folder, max_shard_bytes=SHARD_BYTES)
    return folder


class StoppedError(Exception):
    """What a progress callback raises to end the writing."""


def stop_half_way(done: int, total: int) -> None:
    if done > total // 2:
        raise StoppedError


def test_shards_and_index_are_those_of_a_published_checkpoint(sharded):
    part = sharded / "transformer"
    index = json.loads((part / "diffusion_pytorch_model.safetensors.index.json").read_text())
    shards = sorted(part.glob("*.safetensors"))
    assert len(shards) > 2
    assert shards[0].name == f"diffusion_pytorch_model-00001-of-{len(shards):05d}.safetensors"
    assert set(index["weight_map"].values()) == {shard.name for shard in shards}
    size_bytes = 0
    for shard in shards:
        with safe_open(shard, "pt") as file:
            assert file.metadata() == {"format": "pt"}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        assert {index["weight_map"][name] for name in tensors} == {shard.name}
        assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
        shard_bytes = sum(tensor.nbytes for tensor in tensors.values())
        assert shard_bytes <= SHARD_BYTES or len(tensors) == 1
        size_bytes += shard_bytes
    assert index["metadata"]["total_size"] == size_bytes


def test_a_sharded_folder_loads_in_its_stored_dtype_and_runs(sharded):
    pipeline = load_pipeline(str(sharded), None)
    stored = {}
    for shard in (sharded / "transformer").glob("*.safetensors"):
        with safe_open(shard, "pt") as file:
            stored.update({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    loaded = dict(pipeline.transformer.named_parameters())
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[name], stored[name]) for name in stored)
    assert pipeline.text_encoder_2.dtype == torch.bfloat16
    call = build_call(pipeline, None, CallOptions(steps=1, height=32, width=32, extra={"output_type": "latent"}))
    with no_step_bar(pipeline):
        assert torch.isfinite(pipeline(**call)[0]).all()


def test_weights_are_random_but_gains_are_one(sharded):
    transformer = load_pipeline(str(sharded), None).transformer
    block = transformer.transformer_blocks[0]
    assert (block.attn.norm_q.weight == 1).all()
    weight = block.attn.to_q.weight.float()
    assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not torch.equal(block.attn.to_q.weight, block.attn.to_k.weight)
    assert torch.unique(weight, dim=0).shape == weight.shape


def test_tied_weights_are_written_once(sharded):
    with safe_open(next((sharded / "text_encoder_2").glob("*.safetensors")), "pt") as file:
        embeddings = [name for name in file.keys() if "embed" in name or "shared" in name]  # noqa: SIM118
    assert embeddings == ["shared.weight"]


def test_the_same_recipe_gives_the_same_bytes(sharded, tmp_path):
    build_folder(smaller(flux.SMALL), tmp_path / "again", max_shard_bytes=SHARD_BYTES)
    names = sorted(path.relative_to(sharded) for path in sharded.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*.*"))
    for name in names:
        assert (sharded / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_a_denoiser_alone_runs_with_its_ready_embeddings(tmp_path):
    recipe = dataclasses.replace(
        smaller(flux.DEV_DENOISER), embeddings={"prompt_embeds": (1, 16, 128), "pooled_prompt_embeds": (1, 64)}
    )
    build_folder(recipe, tmp_path / "denoiser")
    pipeline = load_pipeline(str(tmp_path / "denoiser"), None)
    assert pipeline.vae is None
    assert pipeline.text_encoder is None
    call = build_call(pipeline, None, CallOptions(steps=2, height=64, width=64))
    assert call["output_type"] == "latent"
    assert "prompt" not in call
    assert call["prompt_embeds"].dtype == torch.bfloat16
    with no_step_bar(pipeline):
        latents = pipeline(**call)[0]
    assert latents.shape == (1, 16, 64)
    assert torch.isfinite(latents).all()
    # Pipelines do not move what they are given, so it can be asked for on the device.
    placed = build_call(pipeline, None, CallOptions(steps=1), device="meta")
    assert {placed[name].device.type for name in recipe.embeddings} == {"meta"}
    assert placed["generator"].device.type == "cpu"
    with pytest.raises(UsageError, match="no text encoder"):
        build_call(pipeline, None, CallOptions(prompt="a cat"))


def test_embeddings_follow_the_denoisers_dtype(tmp_path):
    recipe = dataclasses.replace(
        smaller(flux.DEV_DENOISER), embeddings={"prompt_embeds": (1, 16, 128), "pooled_prompt_embeds": (1, 64)}
    )
    build_folder(recipe, tmp_path / "denoiser")
    pipeline = load_pipeline(str(tmp_path / "denoiser"), "float32")
    call = build_call(pipeline, None, CallOptions(steps=1, height=64, width=64))
    assert call["prompt_embeds"].dtype == torch.float32
    with no_step_bar(pipeline):
        assert torch.isfinite(pipeline(**call)[0]).all()


def test_checkpoint_tells_its_progress(tmp_path):
    told = []
    folder = make_checkpoint("sd3-tiny", tmp_path / "new" / "sd3", lambda done, total: told.append((done, total)))
    assert is_whole(folder, find_recipe("sd3-tiny"))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1]
    assert oct(folder.stat().st_mode & 0o777) == oct((tmp_path / "new").stat().st_mode & 0o777)


def test_checkpoint_refuses_what_exists(tmp_path):
    with pytest.raises(UsageError, match="exists already"):
        make_checkpoint("sd3-tiny", tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="exists already"):
        make_checkpoint("sd3-tiny", tmp_path / "dangling")


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(UsageError, match=r"did you mean synthetic:flux-tiny.*flux-dev-denoiser"):
        make_checkpoint("flux-tny", Path("never"))


def test_an_attempt_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(StoppedError):
        make_checkpoint("sd3-tiny", tmp_path / "sd3", stop_half_way)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_attempt_is_never_taken_for_a_whole_one_and_is_cleaned_up(tmp_path):
    program = f"""
import os, signal
from pathlib import Path
from tracekit.workload.checkpoint import make_checkpoint
def kill_half_way(done, total):
    if done > total // 2:
        os.kill(os.getpid(), signal.SIGKILL)
make_checkpoint("sd3-tiny", Path({str(tmp_path / "sd3")!r}), kill_half_way)
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    killed = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "sd3").exists()
    assert len(list(tmp_path.iterdir())) == 1
    make_checkpoint("sd3-tiny", tmp_path / "sd3")
    assert [path.name for path in tmp_path.iterdir()] == ["sd3"]


def test_a_living_attempt_is_left_alone(tmp_path):
    other = tmp_path / ".sd3.partial-other"
    other.mkdir()
    lock = os.open(other, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with whole_folder(tmp_path / "sd3"):
            assert other.exists()
    finally:
        os.close(lock)
    assert (tmp_path / "sd3").is_dir()


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    def fill(destination: Path) -> None:
        with whole_folder(destination) as folder:
            (folder / "part").write_text("half")
            Path("/dev/full").write_text("more")

    with pytest.raises(UsageError, match="the disk became full"):
        fill(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_any_other_error_passes_through(tmp_path):
    def fail(destination: Path) -> None:
        with whole_folder(destination) as folder:
            (folder / "missing").read_text()

    with pytest.raises(FileNotFoundError) as caught:
        fail(tmp_path / "new")
    assert caught.value.__cause__ is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_appears_meanwhile_is_kept(tmp_path):
    def race(destination: Path) -> None:
        with whole_folder(destination) as folder:
            (folder / "ours").touch()
            destination.mkdir()
            (destination / "theirs").touch()

    with pytest.raises(UsageError, match="appeared while"):
        race(tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["theirs"]


def test_too_little_space_is_foretold(tmp_path):
    with pytest.raises(UsageError, match="not enough disk space"):
        check_space(tmp_path / "a" / "b", 10**18)


@pytest.mark.parametrize("damage", ["truncated", "missing", "other recipe", "unreadable"])
def test_a_damaged_cached_folder_is_made_again(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cached_folder("synthetic:sd3-tiny")
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    size_bytes = weights.stat().st_size
    if damage == "truncated":
        os.truncate(weights, size_bytes - 1)
    elif damage == "missing":
        weights.unlink()
    elif damage == "unreadable":
        (folder / "tracekit.json").write_text("{")
    else:
        text = (folder / "tracekit.json").read_text()
        (folder / "tracekit.json").write_text(text.replace(SYNTHETIC["sd3-tiny"].fingerprint(), "0" * 16))
    assert not is_whole(folder, SYNTHETIC["sd3-tiny"])
    assert cached_folder("synthetic:sd3-tiny") == folder
    assert weights.stat().st_size == size_bytes
    assert is_whole(folder, SYNTHETIC["sd3-tiny"])


def test_a_whole_cached_folder_is_not_written_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cached_folder("sd3-tiny")
    before = (folder / "model_index.json").stat().st_mtime_ns
    assert (cached_folder("sd3-tiny") / "model_index.json").stat().st_mtime_ns == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["sd3-tiny", "sd3-tiny.lock"]


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="XDG_CACHE_HOME"):
        cached_folder("sd3-tiny")


def test_parts_follow_their_arguments():
    assert clip_text(32, 2, 2).class_name == "transformers.CLIPTextModel"
    assert t5_encoder(64, 2, 2, 128).config["feed_forward_proj"] == "gated-gelu"
    assert len(stable_diffusion.XL.parts["unet"].config["down_block_types"]) == 3
