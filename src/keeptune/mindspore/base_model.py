"""A base model in a .ckpt, as a folder that transformers loads: `model: {name: path/to/llama3-8B.ckpt}`.

A checkpoint holds weights and nothing else. The shape of the model is read from them; what they do not tell (how many
heads share the width, how fast rotary angles turn) is known for the Llamas that MindFormers hands out, and stands in a
config.json beside the file for any other. The tokenizer has to lie beside it, too: keeptune will not guess one.

The folder lies in the user's cache and is made once. Weights keep their bytes, which go from file to file in pieces.
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
from transformers import AutoConfig, LlamaConfig, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from keeptune.errors import ModelError
from keeptune.files import atomic_folder
from keeptune.mindspore import ckpt
from keeptune.mindspore import tensor_names as names
from keeptune.mindspore.tensors import DTYPES

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
"""Attention heads of the published Llama 2 and 3, by width and vocabulary."""


class _Generation(NamedTuple):
    """Base of the rotary angles, the longest text, and the tokens that begin and end it."""

    theta: float
    longest: int
    begin: int
    end: int


_GENERATIONS = {
    _LLAMA_2: _Generation(10_000.0, 4096, 1, 2),
    _LLAMA_3: _Generation(500_000.0, 8192, 128_000, 128_001),
}
"""By vocabulary."""

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
"""Llama 3's, behind those in its tokenizer.model, in their order. Source: its own tokenizer, and its 128,256 rows."""


class _Llama3(TikTokenConverter):
    """transformers' converter, without the package tiktoken: that keeps what it has read from a path, whatever has been
    put there since."""

    @staticmethod
    def load_tiktoken_bpe(path: str) -> dict[bytes, int]:
        lines = Path(path).read_bytes().split(b"\n")
        return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}


def unpacked(path: Path, cache: Path) -> Path:
    """The folder of the model in `path`, made on its first use.

    errors: ModelError when the file is no Llama's checkpoint, or what belongs beside it is missing; RunError when the
    cache cannot be written.
    """
    beside = [path, *(path.with_name(name) for name in ("config.json", "tokenizer.model", *_TOKENIZER_FILES))]
    there = {str(one.resolve()): (one.stat().st_size, one.stat().st_mtime_ns) for one in beside if one.is_file()}
    key = hashlib.sha256(json.dumps(there, sort_keys=True).encode()).hexdigest()[:16]
    target = cache / "mindspore" / f"{path.stem}-{key}"
    if not target.is_dir():
        tensors = _weights(path)
        config = configuration(path, tensors)
        with atomic_folder(target) as scratch:
            config.save_pretrained(scratch)
            _put_tokenizer(path, scratch)
            _write_safetensors(scratch / "model.safetensors", tensors)
    return target


def _weights(path: Path) -> Mapping[str, ckpt.Tensor]:
    tensors = names.imported(ckpt.read(path))
    if any(".lora_" in name for name in tensors):
        raise ModelError(
            f"{path}: it holds a LoRA; give the base model's checkpoint as the model, and take this one over with "
            "`keeptune import` as an adapter"
        )
    if odd := sorted(name for name, own in tensors.items() if own.dtype not in _SAFETENSORS_NAMES):
        raise ModelError(f"{path}: {odd[0]} is {tensors[odd[0]].dtype}; give a checkpoint of floating-point weights")
    return tensors


def configuration(path: Path, tensors: Mapping[str, ckpt.Tensor]) -> Any:
    """The configuration of the model in `path`. errors: ModelError when its weights do not tell."""
    own = path.with_name("config.json")
    if own.is_file():
        return AutoConfig.from_pretrained(own)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    try:
        vocabulary, width = shapes["model.embed_tokens.weight"]
        between, _ = shapes["model.layers.0.mlp.gate_proj.weight"]
        key_width, _ = shapes["model.layers.0.self_attn.k_proj.weight"]
    except (KeyError, ValueError):
        raise ModelError(
            f"{path}: it lacks embeddings or the first layer of a Llama; give the whole base model's checkpoint"
        ) from None
    if (width, vocabulary) not in _HEADS:
        raise ModelError(
            f"{path}: no Llama 2 or 3 that is known has {vocabulary:,} tokens of width {width:,}; put the model's "
            "config.json from its Hugging Face page beside the file"
        )
    heads, known = _HEADS[width, vocabulary], _GENERATIONS[vocabulary]
    layers = {name.split(".")[2] for name in shapes if name.startswith("model.layers.")}
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=between,
        num_hidden_layers=len(layers),
        num_attention_heads=heads,
        num_key_value_heads=key_width * heads // width,
        max_position_embeddings=known.longest,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": known.theta},
        tie_word_embeddings="lm_head.weight" not in shapes,
        dtype=DTYPES[tensors["model.embed_tokens.weight"].dtype],
        bos_token_id=known.begin,
        eos_token_id=known.end,
        architectures=["LlamaForCausalLM"],
    )


def _put_tokenizer(path: Path, folder: Path) -> None:
    if path.with_name("tokenizer.json").is_file():
        for name in _TOKENIZER_FILES:
            if path.with_name(name).is_file():
                shutil.copy(path.with_name(name), folder)
        return
    own = path.with_name("tokenizer.model")
    if not own.is_file():
        raise ModelError(f"{path}: put the model's tokenizer.model, or its tokenizer.json, beside the file")
    if _is_tiktoken(own):
        _of_tiktoken(own).save_pretrained(folder)
    else:
        shutil.copy(own, folder)
        settings = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "bos_token": "<s>", "eos_token": "</s>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _is_tiktoken(path: Path) -> bool:
    """Whether a line is a token in base64 and its rank, as in Llama 3's; Llama 2's is SentencePiece's own format."""
    with path.open("rb") as file:
        first = file.readline(1000).split()
    try:
        return len(first) == 2 and first[1].isdigit() and len(base64.b64decode(first[0], validate=True)) > 0
    except ValueError:
        return False


def _of_tiktoken(path: Path) -> PreTrainedTokenizerFast:
    try:
        reader = _Llama3(str(path), extra_special_tokens=list(_SPECIAL_TOKENS))  # type: ignore[no-untyped-call]
        made = reader.converted()
    except ValueError as error:
        raise ModelError(f"{path}: no whole tokenizer.model of Llama 3 ({error}); copy it again") from None
    begin, end = _SPECIAL_TOKENS[:2]
    before = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A $B", special_tokens=[(begin, made.token_to_id(begin))]
    )
    made.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), before])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token=begin, eos_token=end)


def _write_safetensors(path: Path, tensors: Mapping[str, ckpt.Tensor]) -> None:
    """One file of all tensors: a header that says where each lies, and their bytes, which are the checkpoint's."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, own in tensors.items():
        start, end = end, end + own.size_bytes
        header[name] = {
            "dtype": _SAFETENSORS_NAMES[own.dtype],
            "shape": own.shape,
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for own in tensors.values():
            for piece in own.pieces:
                file.write(piece)
