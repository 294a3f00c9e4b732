"""A model in a .ckpt is the model that it was written from, with the tokenizer that lies beside it."""

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
from keeptune.mindspore.base_model import configuration
from keeptune.mindspore.tensor_names import exported
from keeptune.mindspore.tensors import stored
from keeptune.models import load as models

TEXT = "计算 123456.78 + 9 = ? It's  the\n\n sum's"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv("KEEPTUNE_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model"))


def as_checkpoint(model: Path, folder: Path, dtype: torch.dtype = torch.float32, beside: bool = True) -> Path:
    """The model's weights in a .ckpt, and beside it, where wanted, its configuration and tokenizer."""
    folder.mkdir(exist_ok=True)
    weights = exported(tiny.reference(model).to(dtype).state_dict())
    ckpt.write(folder / "base.ckpt", [stored(name, tensor) for name, tensor in weights.items()])
    if beside:
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_bytes((model / name).read_bytes())
    return folder / "base.ckpt"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_is_the_model_that_it_was_written_from(model: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    name = str(as_checkpoint(model, tmp_path / "in", dtype))
    weights = tiny.reference(model).to(dtype).state_dict()
    loaded = models.load_model(name, "float32")
    assert loaded.state_dict().keys() == weights.keys()
    assert all(torch.equal(tensor, weights[key].float()) for key, tensor in loaded.state_dict().items())
    assert models.load_tokenizer(name).encode(TEXT) == AutoTokenizer.from_pretrained(model).encode(TEXT)


def test_it_is_unpacked_once_and_anew_when_it_has_changed(model: Path, tmp_path: Path) -> None:
    path = as_checkpoint(model, tmp_path / "in")
    first = Path(models.resolve(str(path)))
    written = (first / "model.safetensors").stat().st_mtime_ns
    assert Path(models.resolve(str(path))) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == written
    settings = json.loads((tmp_path / "in" / "config.json").read_text())
    (tmp_path / "in" / "config.json").write_text(json.dumps({**settings, "rms_norm_eps": 0.5}))
    again = models.load_model(str(path))
    assert Path(models.resolve(str(path))) != first
    assert again.config.rms_norm_eps == 0.5


def llama3_ranks() -> dict[bytes, int]:
    """A vocabulary of all bytes and a few joined ones, ranked as Llama 3's is."""
    joined = [b"12", b"123", b"th", b"the", b" t", b" the", b"su", b"sum", "计".encode(), "算".encode(), b"\n\n"]
    missing = ["计".encode()[:2], "算".encode()[:2]]
    return {token: rank for rank, token in enumerate([*(bytes([byte]) for byte in range(256)), *missing, *joined])}


def llama3_file(path: Path) -> None:
    lines = [base64.b64encode(token) + b" " + str(rank).encode() for token, rank in llama3_ranks().items()]
    path.write_bytes(b"\n".join(lines) + b"\n")


@pytest.mark.parametrize("text", [TEXT, "", " ", "1234567", "the the12 3", "\n\n\n a", "ÄÖ 計算", "<|eot_id|>"])
def test_llama_3s_tokenizer_is_read_as_tiktoken_reads_it(model: Path, tmp_path: Path, text: str) -> None:
    path = as_checkpoint(model, tmp_path / "in")
    (tmp_path / "in" / "tokenizer.json").unlink()
    llama3_file(tmp_path / "in" / "tokenizer.model")
    ranks, words = llama3_ranks(), models.load_tokenizer(str(path))
    count = len(ranks)
    special = {"<|begin_of_text|>": count, "<|end_of_text|>": count + 1, "<|eot_id|>": count + 9}
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )
    oracle = tiktoken.Encoding("llama3", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
    assert words.encode(text) == [count, *oracle.encode(text, allowed_special="all")]
    assert words.decode(words.encode(text), skip_special_tokens=False) == f"<|begin_of_text|>{text}"
    assert (words.bos_token_id, words.eos_token_id, len(words)) == (count, count + 1, count + 256)


def test_llama_2s_tokenizer_is_read_as_sentencepiece_reads_it(model: Path, tmp_path: Path) -> None:
    path = as_checkpoint(model, tmp_path / "in")
    (tmp_path / "in" / "tokenizer.json").unlink()
    lines = [problem for _, problem, _ in tiny.problems(60)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(tmp_path / "in" / "tokenizer"), vocab_size=600,
        model_type="bpe", byte_fallback=True, split_digits=True, remove_extra_whitespaces=False,
        normalization_rule_name="identity", minloglevel=2,
    )  # fmt: skip
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "in" / "tokenizer.model"))
    words = models.load_tokenizer(str(path))
    for text in [TEXT, *lines[:20]]:
        assert words.encode(text) == [oracle.bos_id(), *oracle.encode(text)]


def shaped(width: int, vocabulary: int, between: int, layers: int, key_width: int) -> dict[str, ckpt.Tensor]:
    """What a checkpoint of this shape is told by, without its bytes."""
    first = {
        "model.embed_tokens.weight": (vocabulary, width),
        "lm_head.weight": (vocabulary, width),
        **{f"model.layers.{layer}.mlp.gate_proj.weight": (between, width) for layer in range(layers)},
        "model.layers.0.self_attn.k_proj.weight": (key_width, width),
    }
    return {name: ckpt.Tensor(name, "BFloat16", shape, ()) for name, shape in first.items()}


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
def test_published_llamas_are_known_by_their_weights(
    tmp_path: Path, shape: tuple[int, ...], expected: tuple[float, ...]
) -> None:
    made = configuration(tmp_path / "any.ckpt", shaped(*shape))
    assert made.head_dim == 128
    assert (
        made.num_attention_heads, made.num_key_value_heads, made.num_hidden_layers, made.rope_parameters["rope_theta"]
    ) == expected  # fmt: skip
    assert (made.intermediate_size, made.tie_word_embeddings) == (shape[2], False)


def test_what_is_missing_is_said(model: Path, tmp_path: Path) -> None:
    bare = as_checkpoint(model, tmp_path / "bare", beside=False)
    with pytest.raises(ModelError, match=r"of width 32; put the model's config\.json"):
        models.load_model(str(bare))
    (tmp_path / "bare" / "config.json").write_bytes((model / "config.json").read_bytes())
    with pytest.raises(ModelError, match=r"put the model's tokenizer\.model, or its tokenizer\.json, beside"):
        models.load_model(str(bare))
    (tmp_path / "bare" / "tokenizer.model").write_bytes(b"MTIz 0\nbroken\n")
    with pytest.raises(ModelError, match=r"no whole tokenizer\.model of Llama 3"):
        models.load_model(str(bare))
    with pytest.raises(ModelError, match="cannot be read"):
        models.load_model(str(tmp_path / "nowhere.ckpt"))


def test_a_checkpoint_with_a_lora_is_refused(model: Path, tmp_path: Path) -> None:
    path = as_checkpoint(model, tmp_path / "in")
    halves = torch.ones(2, 32)
    extra = [stored(f"model.layers.0.attention.wq.mindpet_delta_lora_{half}", halves) for half in "ab"]
    ckpt.write(path, [*ckpt.read(path).values(), *extra])
    with pytest.raises(ModelError, match="it holds a LoRA; give the base model's checkpoint"):
        models.load_model(str(path))


def test_missing_layers_are_refused(model: Path, tmp_path: Path) -> None:
    path = as_checkpoint(model, tmp_path / "in")
    kept = [tensor for name, tensor in ckpt.read(path).items() if name != "model.layers.1.attention.wq.weight"]
    ckpt.write(tmp_path / "in" / "cut.ckpt", kept)
    with pytest.raises(ModelError, match=r"the weights lack model\.layers\.1\.self_attn\.q_proj\.weight"):
        models.load_model(str(tmp_path / "in" / "cut.ckpt"))


LARGE = """
import resource, sys
from pathlib import Path
from keeptune.mindspore.base_model import unpacked
resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**30, 3 * 2**30))
print(unpacked(Path(sys.argv[1]), Path(sys.argv[2])))
"""


@pytest.mark.slow
def test_a_model_of_more_than_four_gigabytes_needs_no_three_of_memory(tmp_path: Path) -> None:
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
    with safe_open(Path(done.stdout.strip()) / "model.safetensors", "pt") as made:
        assert made.get_slice("lm_head.weight").get_shape() == [128256, 4096]
    assert (tmp_path / "in" / "large.ckpt").stat().st_size > 4 * 2**30
