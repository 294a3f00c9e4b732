"""Base models in .ckpt files: weights, inferred configuration and tokenizer."""

import base64
import json
import mmap
import subprocess
import sys
from collections.abc import Iterator
from math import prod
from pathlib import Path

import pytest
import sentencepiece
import tiktoken
import tiny
import torch
from safetensors import safe_open
from transformers import AutoTokenizer

from keeptune.errors import ModelError
from keeptune.mindspore import ckpt
from keeptune.mindspore.base_model import infer_configuration
from keeptune.mindspore.tensor_names import rename_to_mindformers
from keeptune.mindspore.tensors import to_ckpt
from keeptune.models import load as models

TEXT = "计算 123456.78 + 9 = ? It's  the\n\n sum's"


@pytest.fixture(autouse=True)
def cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv("KEEPTUNE_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model"))


def as_checkpoint(model: Path, folder: Path, dtype: torch.dtype = torch.float32, with_files: bool = True) -> Path:
    """Writes the model's weights to a .ckpt, and its configuration and tokenizer beside it."""
    folder.mkdir(exist_ok=True)
    weights = rename_to_mindformers(tiny.reference(model).to(dtype).state_dict())
    ckpt.write(folder / "base.ckpt", [to_ckpt(name, tensor) for name, tensor in weights.items()])
    if with_files:
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_bytes((model / name).read_bytes())
    return folder / "base.ckpt"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_loaded_model_equals_the_original(model: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    name = str(as_checkpoint(model, tmp_path / "in", dtype))
    weights = tiny.reference(model).to(dtype).state_dict()
    loaded = models.load_model(name, "float32")
    assert loaded.state_dict().keys() == weights.keys()
    assert all(torch.equal(tensor, weights[key].float()) for key, tensor in loaded.state_dict().items())
    assert models.load_tokenizer(name).encode(TEXT) == AutoTokenizer.from_pretrained(model).encode(TEXT)


def test_unpacking_is_cached_until_an_input_changes(model: Path, tmp_path: Path) -> None:
    path = as_checkpoint(model, tmp_path / "in")
    first = Path(models.resolve(str(path)))
    written = (first / "model.safetensors").stat().st_mtime_ns
    assert Path(models.resolve(str(path))) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == written
    config = json.loads((tmp_path / "in" / "config.json").read_text())
    (tmp_path / "in" / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    reloaded = models.load_model(str(path))
    assert Path(models.resolve(str(path))) != first
    assert reloaded.config.rms_norm_eps == 0.5


def llama3_ranks() -> dict[bytes, int]:
    """A vocabulary of all bytes and a few merges, ranked as in Llama 3's file."""
    joined = [b"12", b"123", b"th", b"the", b" t", b" the", b"su", b"sum", "计".encode(), "算".encode(), b"\n\n"]
    missing = ["计".encode()[:2], "算".encode()[:2]]
    return {token: rank for rank, token in enumerate([*(bytes([byte]) for byte in range(256)), *missing, *joined])}


def llama3_file(path: Path) -> None:
    lines = [base64.b64encode(token) + b" " + str(rank).encode() for token, rank in llama3_ranks().items()]
    path.write_bytes(b"\n".join(lines) + b"\n")


@pytest.mark.parametrize("text", [TEXT, "", " ", "1234567", "the the12 3", "\n\n\n a", "ÄÖ 計算", "<|eot_id|>"])
def test_llama_3_tokenizer_matches_tiktoken(model: Path, tmp_path: Path, text: str) -> None:
    path = as_checkpoint(model, tmp_path / "in")
    (tmp_path / "in" / "tokenizer.json").unlink()
    llama3_file(tmp_path / "in" / "tokenizer.model")
    ranks, tokenizer = llama3_ranks(), models.load_tokenizer(str(path))
    count = len(ranks)
    special = {"<|begin_of_text|>": count, "<|end_of_text|>": count + 1, "<|eot_id|>": count + 9}
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )
    oracle = tiktoken.Encoding("llama3", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
    assert tokenizer.encode(text) == [count, *oracle.encode(text, allowed_special="all")]
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=False) == f"<|begin_of_text|>{text}"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, len(tokenizer)) == (count, count + 1, count + 256)


def test_llama_2_tokenizer_matches_sentencepiece(model: Path, tmp_path: Path) -> None:
    path = as_checkpoint(model, tmp_path / "in")
    (tmp_path / "in" / "tokenizer.json").unlink()
    lines = [problem for _, problem, _ in tiny.problems(60)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(tmp_path / "in" / "tokenizer"), vocab_size=600,
        model_type="bpe", byte_fallback=True, split_digits=True, remove_extra_whitespaces=False,
        normalization_rule_name="identity", minloglevel=2,
    )  # fmt: skip
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "in" / "tokenizer.model"))
    tokenizer = models.load_tokenizer(str(path))
    for text in [TEXT, *lines[:20]]:
        assert tokenizer.encode(text) == [oracle.bos_id(), *oracle.encode(text)]


def shaped(width: int, vocabulary: int, intermediate: int, layers: int, key_width: int) -> dict[str, ckpt.Tensor]:
    """The tensors from which a configuration is inferred, without their bytes."""
    shapes = {
        "model.embed_tokens.weight": (vocabulary, width),
        "lm_head.weight": (vocabulary, width),
        **{f"model.layers.{layer}.mlp.gate_proj.weight": (intermediate, width) for layer in range(layers)},
        "model.layers.0.self_attn.k_proj.weight": (key_width, width),
    }
    return {name: ckpt.Tensor(name, "BFloat16", shape, ()) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4096, 128256, 14336, 32, 1024), (32, 8, 32, 500_000.0)),
        ((8192, 128256, 28672, 80, 1024), (64, 8, 80, 500_000.0)),
        ((4096, 32000, 11008, 32, 4096), (32, 32, 32, 10_000.0)),
        ((5120, 32000, 13824, 40, 5120), (40, 40, 40, 10_000.0)),
    ],
    ids=["llama3-8b", "llama3-70b", "llama2-7b", "llama2-13b"],
)
def test_published_llamas_are_recognized_by_their_shapes(
    tmp_path: Path, shape: tuple[int, ...], expected: tuple[float, ...]
) -> None:
    config = infer_configuration(tmp_path / "any.ckpt", shaped(*shape))
    assert config.head_dim == 128
    assert (
        config.num_attention_heads, config.num_key_value_heads, config.num_hidden_layers,
        config.rope_parameters["rope_theta"]
    ) == expected  # fmt: skip
    assert (config.intermediate_size, config.tie_word_embeddings) == (shape[2], False)


def test_missing_files_are_named(model: Path, tmp_path: Path) -> None:
    bare = as_checkpoint(model, tmp_path / "bare", with_files=False)
    with pytest.raises(ModelError, match=r"hidden size 32.*config.json"):
        models.load_model(str(bare))
    (tmp_path / "bare" / "config.json").write_bytes((model / "config.json").read_bytes())
    with pytest.raises(ModelError, match=r"put tokenizer\.json or"):
        models.load_model(str(bare))
    (tmp_path / "bare" / "tokenizer.model").write_bytes(b"MTIz 0\nbroken\n")
    with pytest.raises(ModelError, match=r"tokenizer.model.*Llama 3"):
        models.load_model(str(bare))
    with pytest.raises(ModelError, match="cannot be read"):
        models.load_model(str(tmp_path / "nowhere.ckpt"))


def test_checkpoint_with_a_lora_is_rejected(model: Path, tmp_path: Path) -> None:
    path = as_checkpoint(model, tmp_path / "in")
    matrix = torch.ones(2, 32)
    extra = [to_ckpt(f"model.layers.0.attention.wq.mindpet_delta_lora_{name}", matrix) for name in "ab"]
    ckpt.write(path, [*ckpt.read(path).values(), *extra])
    with pytest.raises(ModelError, match="contains a LoRA"):
        models.load_model(str(path))


def test_missing_layers_are_rejected(model: Path, tmp_path: Path) -> None:
    path = as_checkpoint(model, tmp_path / "in")
    tensors = [tensor for name, tensor in ckpt.read(path).items() if name != "model.layers.1.attention.wq.weight"]
    ckpt.write(tmp_path / "in" / "cut.ckpt", tensors)
    with pytest.raises(ModelError, match=r"layers\.1\.self_attn\.q_proj"):
        models.load_model(str(tmp_path / "in" / "cut.ckpt"))


LARGE = """
import resource, sys
from pathlib import Path
from keeptune.mindspore.base_model import unpack_base_model
resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**30, 3 * 2**30))
print(unpack_base_model(Path(sys.argv[1]), Path(sys.argv[2])))
"""


@pytest.mark.slow
def test_unpacking_5_gb_needs_less_than_3_gib_of_memory(tmp_path: Path) -> None:
    with (tmp_path / "zeros").open("wb") as file:
        file.truncate(1088 * 2**20)
    with (tmp_path / "zeros").open("rb") as file:
        zeros = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    shapes = {
        "model.tok_embeddings.embedding_weight": (128256, 4096),
        "lm_head.weight": (128256, 4096),
        "model.layers.0.attention.wk.weight": (1024, 4096),
        **{f"model.layers.{layer}.feed_forward.w1.weight": (14336, 4096) for layer in range(20)},
    }
    sizes = {name: 2 * prod(shape) for name, shape in shapes.items()}
    tensors = [ckpt.Tensor(name, "BFloat16", shape, (zeros[: sizes[name]],)) for name, shape in shapes.items()]
    (tmp_path / "in").mkdir()
    ckpt.write(tmp_path / "in" / "large.ckpt", tensors)
    llama3_file(tmp_path / "in" / "tokenizer.model")
    command = [sys.executable, "-c", LARGE, str(tmp_path / "in" / "large.ckpt"), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with safe_open(Path(done.stdout.strip()) / "model.safetensors", "pt") as weights:
        assert weights.get_slice("lm_head.weight").get_shape() == [128256, 4096]
    assert (tmp_path / "in" / "large.ckpt").stat().st_size > 4 * 2**30
