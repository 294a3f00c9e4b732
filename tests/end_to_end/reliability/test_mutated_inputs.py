"""Mutated files of every format that keeptune reads: an error of keeptune, in bounded time and memory, or a result."""

import json
import os
import random
import resource
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from end_to_end.reliability.forked import fork
from gguf import GGUFWriter
from safetensors.torch import save_file

from keeptune.config import recipe as recipes
from keeptune.data.reader import read_rows
from keeptune.errors import KeeptuneError
from keeptune.evaluation.abilities.questions import read_questions
from keeptune.evaluation.external_results import read_results
from keeptune.event_log import EventLog
from keeptune.files import read_json, read_records
from keeptune.generation import llamacpp
from keeptune.grading.squad import load_reading_items
from keeptune.mindspore import ckpt, record
from keeptune.mindspore.configuration import load_configuration
from keeptune.mindspore.record_reader import read_rows as read_mindrecord
from keeptune.models import adapter_metadata, base_identity, model_files
from keeptune.models import load as models
from keeptune.pipeline.checksums import read_checksums
from keeptune.prompts.chat_template import render_chat
from keeptune.run_files.card import Card
from keeptune.run_files.manifest import Manifest
from keeptune.run_files.records import Answer

Read = Callable[[Path], object]

MEMORY_BYTES, SECONDS = 1 << 30, 20
"""What reading one file may need, beyond what the process has."""

PIECES = [b'"', b"{", b"}", b"[", b"]", b":", b",", b"\n", b"\0", b"\xff", b"\\", b"-", b"e", b"<<: *a", b"&a", b"*a"]
PIECES += [b"null", b"true", b"1e999", b"-1", b"NaN", b"Infinity", b"9" * 40, b"\xe2\x80\xa8", b"\xff\xff\xff\xff"]
PIECES += [b"[" * 2_000, b"{{", b"{%", b"%}", b"..", b"!!python/object:os.system", b"\x1b[2J", b"0x", b"(a+)+"]

TEMPLATE = """{{ bos_token }}{% for message in messages %}{% if loop.index0 % 2 == 0 %}<|{{ message['role'] }}|>
{{ message['content'] | trim }}{% else %}{% generation %}{{ message.content }}{% endgeneration %}{% endif %}
{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""
TALK = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]


def mutate(draw: random.Random, content: bytes) -> bytes:
    """A few bytes changed, removed, repeated or inserted, or the end cut off."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        place = draw.randint(0, len(changed))
        way = draw.randrange(5)
        if way == 0 and place < len(changed):
            changed[place] ^= 1 << draw.randrange(8)
        elif way == 1:
            del changed[place : place + draw.choice((1, 2, 8, 40))]
        elif way == 2:
            changed[place:place] = changed[place : place + draw.choice((1, 8, 100))]
        elif way == 3:
            changed[place : place + draw.choice((0, 1, 4))] = draw.choice(PIECES)
        else:
            del changed[draw.randint(len(changed) // 2, len(changed)) :]
    return bytes(changed)


def in_folder(folder: Path, name: str, read: Read) -> Read:
    """Reads a folder in which one file is the mutated one."""

    def read_folder(path: Path) -> object:
        (folder / name).write_bytes(path.read_bytes())
        return read(folder)

    return read_folder


def json_lines(*objects: Any) -> bytes:
    return b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in objects)


def formats(folder: Path, model: Path, finished: Path, recipe: Path) -> Iterator[tuple[str, str, bytes, Read]]:
    """Yields for each format: its name, a file name, an intact file, and the function that reads it."""
    rows = [{"problem": f"{n} + 1 = ?", "solution": f"{n + 1}"} for n in range(4)]
    yield "rows", "x.jsonl", json_lines(*rows), lambda path: list(read_rows(path))
    yield "row list", "x.json", json.dumps({"data": rows}).encode(), lambda path: list(read_rows(path))
    yield "table", "x.csv", b'problem,solution\n1,2\n"3, 3",4\n', lambda path: list(read_rows(path))
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    yield "parquet", "x.parquet", (folder / "a.parquet").read_bytes(), lambda path: list(read_rows(path))
    yield "recipe", "x.yaml", recipe.read_bytes(), recipes.load
    lora = {"pet_config": {"pet_type": "lora", "lora_rank": 8, "target_modules": ".*wq|.*wv"}}
    network = {"model": {"model_config": {"type": "LlamaConfig", "num_layers": 32, **lora}}}
    yield "MindFormers", "x.yaml", yaml.safe_dump(network).encode(), load_configuration

    values = memoryview(bytes(range(24)))
    ckpt.write(folder / "a.ckpt", [ckpt.Tensor("model.w", "Float32", (2, 3), (values,))], crc=False)
    yield "ckpt", "x.ckpt", (folder / "a.ckpt").read_bytes(), _tensors
    arrays = torch.arange(60, dtype=torch.int32).reshape(10, 1, 6).numpy()
    with mock.patch.multiple(record, HEADER_BYTES=4_000, PAGE_BYTES=500):  # instead of 48 MB
        [mindrecord] = record.write(folder / "a", ("input_ids",), [arrays], "qa")
    yield "MindRecord", "x.mindrecord", mindrecord.read_bytes(), lambda path: list(read_mindrecord(path, ["input_ids"]))

    _write_gguf(folder / "a.gguf")
    yield "GGUF", "x.gguf", (folder / "a.gguf").read_bytes(), llamacpp._context_length

    save_file({"a": torch.zeros(2, 3), "b": torch.ones(4)}, folder / "a.safetensors", metadata={"format": "pt"})
    weights = folder / "weights"
    weights.mkdir()
    (weights / "config.json").write_bytes((model / "config.json").read_bytes())
    header = in_folder(weights, "model.safetensors", lambda place: base_identity.identify(str(place)))
    yield "safetensors", "x", (folder / "a.safetensors").read_bytes(), header
    configuration = folder / "configuration"
    configuration.mkdir()
    config = in_folder(configuration, "config.json", lambda place: models.load_config(str(place)))
    yield "config.json", "x", (model / "config.json").read_bytes(), config
    adapter = folder / "adapter"
    adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (adapter / name).write_bytes((finished / "adapter" / name).read_bytes())
    options = in_folder(adapter, "adapter_config.json", model_files.check_adapter)
    yield "adapter_config.json", "x", (adapter / "adapter_config.json").read_bytes(), options
    metadata = in_folder(adapter, "keeptune.json", adapter_metadata.load)
    yield "keeptune.json", "x", (finished / "adapter" / "keeptune.json").read_bytes(), metadata

    yield "chat template", "x.jinja", TEMPLATE.encode(), _render
    paragraph = {"context": "The mill.", "qas": [_question(number) for number in range(4)]}
    squad = {"data": [{"title": "t", "paragraphs": [paragraph]}]}
    yield "SQuAD", "x.json", json.dumps(squad).encode(), lambda path: load_reading_items(str(path))
    asked = {"id": "1", "prompt": "What?", "answer": "mill", "grader": "exact"}
    choice = {"prompt": "A?", "options": ["a", "b"], "answer": 1}
    yield "questions", "x.jsonl", json_lines(asked, choice), read_questions
    yield "inspect-ai", "x.json", json.dumps(_inspect_log()).encode(), read_results
    yield "log.jsonl", "x.jsonl", (finished / "log.jsonl").read_bytes(), lambda path: EventLog(path).cost()
    for name, schema in (("manifest.json", Manifest), ("data/card.json", Card)):
        read_object: Read = lambda path, schema=schema: read_json(path, schema)  # noqa: E731
        yield name, "x.json", (finished / name).read_bytes(), read_object
    answers = (finished / "scores" / "skill-tuned.jsonl").read_bytes()
    yield "scores", "x.jsonl", answers, lambda path: read_records(path, Answer)
    sums = folder / "sums"
    sums.mkdir()
    yield "SHA256SUMS", "x", (finished / "SHA256SUMS").read_bytes(), in_folder(sums, "SHA256SUMS", read_checksums)


def _write_gguf(path: Path) -> None:
    """A GGUF file with one tensor."""
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_token_list(["a", "b"])
    writer.add_tensor("weight", torch.zeros(4, 4).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _inspect_log() -> dict[str, Any]:
    """A log of inspect-ai with one sample."""
    facts = {"eval_id": "e", "run_id": "r", "created": "2026-11-29T23:58:08+00:00", "task": "t", "task_id": "i"}
    settings = {"model": "m", "dataset": {"samples": 1}, "config": {"epochs": 1}, "scorers": [{"name": "match"}]}
    sample = {"id": 1, "epoch": 1, "input": "x", "target": "y", "scores": {"match": {"value": "C"}}}
    counts = {"total_samples": 1, "completed_samples": 1, "scores": []}
    return {"version": 2, "status": "success", "eval": facts | settings, "results": counts, "samples": [sample]}


def _question(number: int) -> dict[str, Any]:
    return {"id": str(number), "question": "What?", "answers": [{"text": "mill", "answer_start": 4}]}


def _tensors(path: Path) -> int:
    return sum(len(tensor.bytes()) for tensor in ckpt.read(path).values())


def _render(path: Path) -> object:
    text = path.read_bytes().decode(errors="replace")
    return render_chat(text, TALK, None, True, {"bos_token": "<s>"})


def read_mutated(path: Path, content: bytes, read: Read, count: int, seed: str) -> str:
    """Reads mutated files in a forked process with limits, and returns the first failure, or nothing."""
    path.write_bytes(content)
    read(path)  # or the mutated files would all fail for the same reason
    output, back = os.pipe()
    child = fork()
    if child == 0:
        failure = ""
        try:
            in_use = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY_BYTES, in_use + MEMORY_BYTES))
            warnings.simplefilter("ignore")
            draw = random.Random(seed)
            for number in range(count):
                signal.alarm(SECONDS)
                path.write_bytes(mutated := mutate(draw, content))
                try:
                    with suppress(KeeptuneError):
                        read(path)
                except BaseException:
                    failure = f"file {number} of {count}: {mutated[:3000]!r}\n{traceback.format_exc()[-3000:]}"
                    break
        finally:
            os.write(back, failure.encode()[:60_000])
            os._exit(0)
    os.close(back)
    with os.fdopen(output, encoding="utf-8", errors="replace") as stream:
        failure = stream.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return failure or ("" if code == 0 else f"ended by signal {-code}")


@pytest.mark.slow
def test_mutated_files(
    points: Any, record: Any, finished: Path, recipe: Path, model_folder: Path, tmp_path: Path
) -> None:
    count, failures, read = points(1_100), {}, {}
    every = list(formats(tmp_path, model_folder, finished, recipe))
    for name, file, content, reader in every:
        share = read[name] = count // len(every)
        if failure := read_mutated(tmp_path / file, content, reader, share, name):
            failures[name] = failure
    assert not failures, "\n\n".join(f"{name}: {failure}" for name, failure in failures.items())
    record(files=sum(read.values()), formats=len(read), memory_mb=MEMORY_BYTES >> 20, seconds=SECONDS)
