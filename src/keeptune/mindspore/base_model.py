"""Converts a base model in a .ckpt file to a folder that transformers loads.

A recipe names such a model as `model: {name: path/to/llama3-8B.ckpt}`. A checkpoint holds only weights, and most of the
configuration follows from their shapes. The rest (the number of heads, the base of the rotary angles) is known for the
Llamas that MindFormers distributes. For other models, put their config.json beside the file. The tokenizer must lie
beside the file too, because keeptune does not guess one.

The folder is created once, in the user's cache. Weights are copied in pieces and keep their bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import processors
from transformers import LlamaConfig, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from keeptune.errors import ModelError
from keeptune.files import atomic_folder
from keeptune.mindspore import ckpt
from keeptune.mindspore.tensor_names import rename_from_mindformers
from keeptune.mindspore.tensors import DTYPES
from keeptune.models.load import load_errors
from keeptune.models.model_files import read_config

_SAFETENSORS_NAMES = {"Float16": "F16", "BFloat16": "BF16", "Float32": "F32", "Float64": "F64"}
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
_LLAMA_2, _LLAMA_3 = 32_000, 128_256
_HEADS = {
    (4096, _LLAMA_2): 32,
    (5120, _LLAMA_2): 40,
    (8192, _LLAMA_2): 64,
    (4096, _LLAMA_3): 32,
    (8192, _LLAMA_3): 64,
}
"""Attention heads of the published Llama 2 and 3, by hidden size and vocabulary size."""


class _Generation(NamedTuple):
    """The base of the rotary angles, the context length in tokens, and the ids of the begin and end tokens."""

    theta: float
    context_tokens: int
    begin: int
    end: int


_GENERATIONS = {
    _LLAMA_2: _Generation(10_000.0, 4096, 1, 2),
    _LLAMA_3: _Generation(500_000.0, 8192, 128_000, 128_001),
}
"""Llama 2 and 3, by vocabulary size."""

_SPECIAL_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    *(f"<|reserved_special_token_{number}|>" for number in range(4)),
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|reserved_special_token_4|>",
    "<|eot_id|>",
    *(f"<|reserved_special_token_{number}|>" for number in range(5, 251)),
)
"""Llama 3's special tokens, in order; their ids follow those in tokenizer.model. Source: Llama 3's tokenizer.json."""


class _Llama3Converter(TikTokenConverter):
    """transformers' converter without the package tiktoken, which caches files by path even after they change."""

    @staticmethod
    def load_tiktoken_bpe(path: str) -> dict[bytes, int]:
        lines = Path(path).read_bytes().split(b"\n")
        return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}


def unpack_base_model(path: Path, cache: Path) -> Path:
    """The folder with the model of the checkpoint `path`, created on first use and when an input file changes.

    Raises:
        ModelError: when the file is not a Llama's checkpoint, or a file that must lie beside it is missing.
        RunError: when the cache cannot be written.
    """
    inputs = [path, *(path.with_name(name) for name in ("config.json", "tokenizer.model", *_TOKENIZER_FILES))]
    stats = {str(file.resolve()): (file.stat().st_size, file.stat().st_mtime_ns) for file in inputs if file.is_file()}
    key = hashlib.sha256(json.dumps(stats, sort_keys=True).encode()).hexdigest()[:16]
    target = cache / "mindspore" / f"{path.stem}-{key}"
    if not target.is_dir():
        tensors = _read_weights(path)
        config = infer_configuration(path, tensors)
        with atomic_folder(target) as scratch:
            config.save_pretrained(scratch)
            _write_tokenizer(path, scratch)
            _write_safetensors(scratch / "model.safetensors", tensors)
    return target


def _read_weights(path: Path) -> Mapping[str, ckpt.Tensor]:
    tensors = rename_from_mindformers(ckpt.read(path))
    if any(".lora_" in name for name in tensors):
        raise ModelError(
            f"{path}: the checkpoint contains a LoRA; name the base model's checkpoint, and import this file with "
            "`keeptune import`"
        )
    if invalid := sorted(name for name, tensor in tensors.items() if tensor.dtype not in _SAFETENSORS_NAMES):
        name = invalid[0]
        raise ModelError(f"{path}: {name} must be floating-point (got {tensors[name].dtype}); convert the checkpoint")
    return tensors


def infer_configuration(path: Path, tensors: Mapping[str, ckpt.Tensor]) -> Any:
    """The transformers configuration: from config.json beside `path`, or inferred from the weights' shapes.

    Raises:
        ModelError: when the weights are not those of a known Llama and there is no config.json.
    """
    config_file = path.with_name("config.json")
    if config_file.is_file():
        with load_errors(str(path)):
            return read_config(str(config_file))
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    try:
        vocabulary, width = shapes["model.embed_tokens.weight"]
        intermediate, _ = shapes["model.layers.0.mlp.gate_proj.weight"]
        key_width, _ = shapes["model.layers.0.self_attn.k_proj.weight"]
    except (KeyError, ValueError):
        raise ModelError(
            f"{path}: embeddings or the first layer are missing; give the complete checkpoint of a Llama"
        ) from None
    if (width, vocabulary) not in _HEADS:
        raise ModelError(
            f"{path}: unknown Llama with {vocabulary:,} tokens and hidden size {width:,}; put the model's config.json "
            "beside the file (its Hugging Face page has it)"
        )
    heads, generation = _HEADS[width, vocabulary], _GENERATIONS[vocabulary]
    layers = {name.split(".")[2] for name in shapes if name.startswith("model.layers.")}
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=intermediate,
        num_hidden_layers=len(layers),
        num_attention_heads=heads,
        num_key_value_heads=key_width * heads // width,
        max_position_embeddings=generation.context_tokens,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": generation.theta},
        tie_word_embeddings="lm_head.weight" not in shapes,
        dtype=DTYPES[tensors["model.embed_tokens.weight"].dtype],
        bos_token_id=generation.begin,
        eos_token_id=generation.end,
        architectures=["LlamaForCausalLM"],
    )


def _write_tokenizer(path: Path, folder: Path) -> None:
    if path.with_name("tokenizer.json").is_file():
        for name in _TOKENIZER_FILES:
            if path.with_name(name).is_file():
                shutil.copy(path.with_name(name), folder)
        return
    source = path.with_name("tokenizer.model")
    if not source.is_file():
        raise ModelError(f"{path}: there is no tokenizer; put tokenizer.json or tokenizer.model beside the file")
    if _is_tiktoken(source):
        _load_tiktoken(source).save_pretrained(folder)
    else:
        shutil.copy(source, folder)
        settings = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "bos_token": "<s>", "eos_token": "</s>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _is_tiktoken(path: Path) -> bool:
    """Whether a tokenizer.model has tiktoken's format (base64 token and rank per line) and not SentencePiece's."""
    with path.open("rb") as file:
        first = file.readline(1000).split()
    try:
        return len(first) == 2 and first[1].isdigit() and len(base64.b64decode(first[0], validate=True)) > 0
    except ValueError:
        return False


def _load_tiktoken(path: Path) -> PreTrainedTokenizerFast:
    try:
        reader = _Llama3Converter(str(path), extra_special_tokens=list(_SPECIAL_TOKENS))  # type: ignore[no-untyped-call]
        tokenizer = reader.converted()
    except ValueError as error:
        raise ModelError(f"{path}: not a Llama 3 tokenizer.model, or a damaged one ({error}); copy it again") from None
    begin, end = _SPECIAL_TOKENS[:2]
    add_begin = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A $B", special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), add_begin])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=begin, eos_token=end)


def _write_safetensors(path: Path, tensors: Mapping[str, ckpt.Tensor]) -> None:
    """Writes one safetensors file: a JSON header with each tensor's offsets, then the checkpoint's bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.size_bytes
        header[name] = {
            "dtype": _SAFETENSORS_NAMES[tensor.dtype],
            "shape": tensor.shape,
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            for block in tensor.blocks():
                file.write(block)
