"""The README.md of an export: how to run it, its prompt, its license, and the retention verdict of the run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import yaml
from transformers.utils.hub import cached_file

from keeptune.export.vllm_adapter import max_rank
from keeptune.files import read_json, read_regular_bytes
from keeptune.models.adapter_metadata import AdapterMetadata
from keeptune.models.load import EMBEDDED, resolve
from keeptune.prompts.chat_prompt import ChatPrompt
from keeptune.run_files.directory import RunDirectory
from keeptune.run_files.result import Result

_LLAMA_CPP = """\
[llama.cpp](https://github.com/ggml-org/llama.cpp) answers a problem, and serves the OpenAI protocol on port 8080:

```sh
llama-cli {files} -st -p 'PROBLEM' --temp 0
llama-server {files} --temp 0 --port 8080
```
"""

COMMANDS = {
    "merged": """\
transformers loads the folder as any model:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".")
tokens = tokenizer(PROMPT, return_tensors="pt")
print(tokenizer.decode(model.generate(**tokens, do_sample=False, max_new_tokens={budget})[0]))
```

keeptune evaluates it with its stored prompt: `keeptune score . --skill FILE`.
""",
    "gguf": _LLAMA_CPP.replace("{files}", "-m model.gguf -n {budget}"),
    "gguf-lora": """\
`adapter.gguf` needs a GGUF file of the base `{model}`. Write one with the same tokenizer, in F16:

```sh
keeptune export {model} --to gguf --out base
```

"""
    + _LLAMA_CPP.replace("{files}", "-m base/model.gguf --lora adapter.gguf -n {budget}")
    + """
The selected scale is in the file, so `--lora` needs none. The base's file carries the base's own chat template, so send
the prompt as text:

```sh
curl http://127.0.0.1:8080/v1/completions -d '{"prompt": {prompt}, "temperature": 0, "max_tokens": {budget}}'
```
""",
    "ollama": """\
[Ollama](https://ollama.com) makes a model of the folder, and runs it:

```sh
ollama create NAME -f Modelfile
ollama run NAME 'PROBLEM'
```

The Modelfile sets greedy decoding. Ollama's defaults, which sample and penalize repetition, change the answers.
""",
    "vllm": """\
[vLLM](https://docs.vllm.ai) serves base and adapter by the OpenAI protocol on port 8000:

```sh
vllm serve {model_folder} --enable-lora --max-lora-rank {rank} --lora-modules tuned=.
curl http://127.0.0.1:8000/v1/completions -H 'Content-Type: application/json' \\
  -d '{"model": "tuned", "prompt": {prompt}, "temperature": 0, "max_tokens": {budget}}'
```

The selected scale is in `lora_alpha`.
""",
    "mindspore": """\
`adapter.ckpt` (the adapter) and `merged.ckpt` (the whole model) have MindFormers' tensor names. To load the adapter,
put `pet_config.yaml` under `model.model_config` of a MindFormers configuration of the base.

```python
import mindspore

parameters = mindspore.load_checkpoint("merged.ckpt")
```
""",
    "mindformers": """\
`commands.sh` holds the commands that preprocess the rows, continue the training and predict. Set the paths in it first.

```sh
sh commands.sh
```
""",
}
"""How to run an export, by its form."""

_DEFAULT_BUDGET_TOKENS = 320


@dataclass(frozen=True, slots=True)
class Exported:
    """What a README describes.

    Attributes:
        target: what was exported, as the user named it.
        form: the form of the export.
        model: the base model, or the model itself.
        license: the license of the base model; empty if unknown.
        card: the metadata of the adapter; None for a model without one.
    """

    target: str
    form: str
    model: str
    license: str
    card: AdapterMetadata | None

    @property
    def name(self) -> str:
        """The last part of the target's path."""
        return Path(self.target).expanduser().name


def render_readme(exported: Exported, folder: Path) -> str:
    """The text of README.md for the files in `folder`."""
    budgets = exported.card.budgets if exported.card else {}
    budget = max(budgets.values(), default=_DEFAULT_BUDGET_TOKENS)
    values = {"{budget}": str(budget), "{model}": exported.model}
    if exported.card:
        prompt = json.dumps(exported.card.prompt.render("PROBLEM"), ensure_ascii=False)
        values["{prompt}"] = prompt.replace("'", "'\\''")  # inside a quoted word of the shell
    if exported.form == "vllm":
        values |= {"{model_folder}": resolve(exported.model), "{rank}": str(max_rank(folder))}
    commands = COMMANDS[exported.form]
    for slot, value in values.items():
        commands = commands.replace(slot, value)
    sections = [
        f"# {exported.name}: {exported.form}",
        f"Written by `keeptune export {exported.target} --to {exported.form}`. Base model: `{exported.model}`.",
        "## Run",
        commands.rstrip(),
        *(["## Prompt", _prompt(exported.card)] if exported.card else []),
        "## License",
        _license(exported),
        *(["## Verdict", _verdict(exported)] if exported.card else []),
    ]
    return "\n\n".join(sections) + "\n"


def _prompt(card: AdapterMetadata) -> str:
    if isinstance(card.prompt, ChatPrompt):
        settings = {"system text": card.prompt.system, "template arguments": dict(card.prompt.arguments)}
        stated = "".join(f", {name} {value!r}" for name, value in settings.items() if value)
        return f"The chat template of the tokenizer{stated}, with greedy decoding."
    return (
        "Use exactly this prompt, with greedy decoding. With another prompt, the answers are not those that were "
        f"evaluated.\n\n```text\n{card.prompt.template}\n```"
    )


def _license(exported: Exported) -> str:
    weights = (
        "The weights contain those of the base model"
        if exported.form not in ("gguf-lora", "vllm")
        else "Use needs the base"
    )
    if exported.license:
        return f"{weights}, whose license is `{exported.license}`."
    return f"{weights}. The files of the base model state no license, so look it up before you publish this folder."


def _verdict(exported: Exported) -> str:
    """The retention verdict of the run, with a line per ability."""
    path = RunDirectory(Path(exported.target).expanduser()).result
    if not path.is_file():
        return (
            "The adapter was exported without its run, so there is no verdict here. Judge it with "
            f"`keeptune gate --base {exported.model} --tuned {exported.target}`."
        )
    result = Result.model_validate(read_json(path, Result))
    lines = [f"Retention gate of the run: **{result.gate.verdict}**. It holds for the adapter as keeptune runs it."]
    if exported.form in ("merged", "gguf", "ollama"):
        lines += ["", f"`keeptune gate {exported.target} --artefact .` judges what these files answer."]
    if result.abilities:
        rows = [f"| {name} | {one.status} |" for name, one in sorted(result.abilities.items())]
        lines += ["", "| ability | status |", "|---|---|", *rows]
    return "\n".join(lines)


def license_of(name: str) -> str:
    """The license that a model's own README.md states in its YAML header; empty if it states none."""
    if name == EMBEDDED:
        return "apache-2.0"
    path = cached_file(
        resolve(name),
        "README.md",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is None:
        return ""
    head, _, rest = read_regular_bytes(Path(path)).decode(errors="replace").partition("---\n")
    try:
        header = yaml.safe_load(rest.partition("\n---")[0]) if not head else None
    except yaml.YAMLError:
        return ""
    return str(header.get("license") or "") if isinstance(header, dict) else ""
