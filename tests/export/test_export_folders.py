"""The README of an export, and Ollama's Modelfile."""

import re
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from end_to_end.command import refused
from export import tiny_families
from export.test_exporter import TOKENS
from peft import PeftModel
from prompts.chat_templates import CHATML, GEMMA, LLAMA3, MISTRAL, QWEN3

from keeptune.errors import ModelError
from keeptune.export.exporter import export
from keeptune.export.readme import license_of
from keeptune.export.served_prompt import ollama_prompt
from keeptune.files import read_json, write_json
from keeptune.models import adapter_metadata, adapters
from keeptune.prompts.chat_prompt import ChatPrompt
from keeptune.prompts.template import Prompt

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def go_text(template: str, turns: list[tuple[str, str]]) -> str:
    """What Go's text/template prints, for the few actions that keeptune writes."""
    literal = r'\{\{ ("(?:[^"\\]|\\.)*") \}\}'
    loop = re.fullmatch(r"(.*?)\{\{ range (?:\$i, \$_ := )?\.Messages \}\}(.*)\{\{ end \}\}(.*)", template, re.DOTALL)
    assert loop, template
    head, body, tail = loop.groups()
    texts = []
    for place, (role, content) in enumerate(turns):
        for condition, part in re.findall(r"\{\{ if (eq .*?) \}\}(.*?)\{\{ end \}\}", body, re.DOTALL):
            is_last = place == len(turns) - 1
            if condition == f'eq .Role "{role}"' or (condition == "eq (len (slice $.Messages $i)) 1" and is_last):
                texts.append(part.replace("{{ .Content }}", content))
    text = "".join([head, *texts, tail])
    return re.sub(literal, lambda match: str(eval(match[1])), text)


def test_ollama_renders_a_plain_prompt_with_the_last_turn() -> None:
    prompt = Prompt('Say "{problem}"\nin {{braces}}:\t')
    rendered = go_text(ollama_prompt(prompt, "").template, [("user", "a"), ("assistant", "b"), ("user", "1 + 1")])
    assert rendered == prompt.render("1 + 1")


@pytest.mark.parametrize("template", [CHATML, LLAMA3, QWEN3])
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_ollama_renders_a_chat_template(template: str, system: str | None) -> None:
    chat = ChatPrompt(template, SPECIAL, {}, system)
    ollama = ollama_prompt(chat, "<s>")
    assert ollama.system == system
    turns = [*([("system", system)] if system else []), ("user", "1 + 1")]
    # Ollama adds the BOS token itself.
    assert go_text(ollama.template, turns) == chat.render("1 + 1").removeprefix("<s>")


def test_the_system_text_of_a_template_is_set_in_the_modelfile() -> None:
    template = CHATML.replace(
        "{% for message in messages %}",
        "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
        "{% for message in messages %}",
        1,
    )
    ollama = ollama_prompt(ChatPrompt(template, SPECIAL, {}), "")
    assert ollama.system == "Be kind."
    assert go_text(ollama.template, [("system", "Be kind."), ("user", "hi")]) == ChatPrompt(
        template, SPECIAL, {}
    ).render("hi")


@pytest.mark.parametrize("template", [GEMMA, MISTRAL])
def test_templates_that_ollama_cannot_express_are_refused(template: str) -> None:
    with pytest.raises(ModelError, match="more than to put texts"):
        ollama_prompt(ChatPrompt(template, SPECIAL, {}), "")


def test_modelfile(tmp_path: Path) -> None:
    model = tiny_families.save(tmp_path / "model", "llama")
    adapter = tiny_families.tune(model, tmp_path / "adapter", budgets={"add": 30, "mul": 70})
    assert {"Modelfile", "README.md", "export.json", "keeptune.json", "model.gguf"} == set(
        export(adapter, "ollama", tmp_path / "out")
    )
    lines = (tmp_path / "out" / "Modelfile").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "FROM ./model.gguf"
    assert f'TEMPLATE """{ollama_prompt(tiny.PROMPT, "").template}"""' in lines
    assert {
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1",
        "PARAMETER num_predict 70",
        "PARAMETER num_ctx 2048",  # the model's context
        f'PARAMETER stop "{tiny.END}"',
    } <= set(lines)


@pytest.mark.parametrize("form", ["peft", "merged", "gguf", "gguf-lora", "ollama", "vllm", "mindspore"])
def test_every_folder_says_how_to_run_it(tmp_path: Path, form: str) -> None:
    adapter = tiny_families.tune(tiny_families.save(tmp_path / "model", "llama"), tmp_path / "adapter")
    files = export(adapter, form, tmp_path / "out")  # type: ignore[arg-type]
    page = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == ["Run", "Prompt", "License", "Verdict"]
    assert tiny.PROMPT.template in page
    assert "state no license" in page
    assert "keeptune gate" in page
    commands = "".join(re.findall(r"```(?:sh|python)\n(.*?)```", page, re.DOTALL))
    assert "{" not in re.sub(r"'\{\".*?\}'", "", commands.replace("**tokens", ""))
    named = set(re.findall(r"[\w-]+\.(?:gguf|ckpt|yaml)|Modelfile", page.replace("base/model.gguf", "")))
    assert named <= set(files), "each file that the page names is there"


def test_the_verdict_of_a_run_is_stated(tmp_path: Path) -> None:
    adapter = tiny_families.tune(tiny_families.save(tmp_path / "model", "llama"), tmp_path / "adapter")
    source = Path(__file__).parents[2] / "results" / "quickstart.json"
    shutil.copy(source, adapter / "result.json")
    export(adapter, "gguf-lora", tmp_path / "out")
    page = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert re.search(r"Retention gate of the run: \*\*(pass|fail|undecided)\*\*", page)


def test_license_of_a_model(tmp_path: Path) -> None:
    model = tiny.save(tmp_path / "model")
    assert license_of(str(model)) == ""
    for text, license_name in (("---\nlicense: mit\n---\n", "mit"), ("# Title\n", ""), ("---\n- a\n---\n", "")):
        (model / "README.md").write_text(text, encoding="utf-8")
        assert license_of(str(model)) == license_name
    assert license_of("smollm2-135m") == "apache-2.0"


def test_vllm_gets_the_scale_in_alpha(tmp_path: Path) -> None:
    model = tiny_families.save(tmp_path / "model", "llama")
    adapter = tiny_families.tune(model, tmp_path / "adapter", scale=0.5)
    export(adapter, "vllm", tmp_path / "out")
    tuned = PeftModel.from_pretrained(tiny.reference(model), str(adapter))
    adapters.set_scale(tuned, 0.5)
    # PEFT, as vLLM, takes the scaling from lora_alpha alone.
    exported = PeftModel.from_pretrained(tiny.reference(model), str(tmp_path / "out"))
    with torch.no_grad():
        assert torch.equal(tuned(input_ids=TOKENS).logits, exported(input_ids=TOKENS).logits)
    assert adapter_metadata.load(tmp_path / "out").scale == 1
    assert "--max-lora-rank 8 " in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "changes",
    [
        {"peft_type": "VERA"},
        {"use_dora": True},
        {"alpha_pattern": {"q_proj": 2}},
        {"modules_to_save": ["lm_head"]},
        {"alora_invocation_tokens": [5, 6]},
    ],
)
def test_what_vllm_would_ignore_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    adapter = tiny_families.tune(tiny_families.save(tmp_path / "model", "llama"), tmp_path / "adapter")
    config = adapter / "adapter_config.json"
    write_json(config, {**read_json(config), **changes})
    with pytest.raises(ModelError, match=next(iter(changes))):
        export(adapter, "vllm", tmp_path / "out")


def test_a_number_format_needs_a_gguf_file(tmp_path: Path) -> None:
    error = refused(2, "export", "adapter", "--to", "merged", "--gguf-type", "q8_0", "--out", tmp_path / "out")
    assert "--gguf-type" in error
