"""The README.md of an export, which is its model card: metadata, how to run it, its prompt, license and verdict."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from transformers.utils.hub import cached_file

from keeptune.evaluation import verdict_text
from keeptune.export.measurements import Measurements, SkillMeasurement
from keeptune.export.model_card import ADAPTER_FORMS, CardFacts, header, hub_name
from keeptune.files import read_json, read_regular_bytes
from keeptune.models.adapter_metadata import AdapterMetadata
from keeptune.models.load import EMBEDDED, resolve
from keeptune.models.vllm_adapter import max_rank
from keeptune.prompts.chat_prompt import ChatPrompt
from keeptune.run_files.directory import ADAPTER_CONFIG

_LLAMA_CPP = """\
[llama.cpp](https://github.com/ggml-org/llama.cpp) answers a problem, and serves the OpenAI protocol on port 8080:

```sh
llama-cli {files} -st -p 'PROBLEM' --temp 0
llama-server {files} --temp 0 --port 8080
```
"""

COMMANDS = {
    "peft": """\
[PEFT](https://huggingface.co/docs/peft) loads the folder beside the base:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{hub_model}")
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{hub_model}"), ".")
tokens = tokenizer(PROMPT, return_tensors="pt")
print(tokenizer.decode(model.generate(**tokens, do_sample=False, max_new_tokens={budget})[0]))
```

keeptune evaluates and serves it with its stored prompt: `keeptune score . --skill FILE`, `keeptune serve .`.
""",
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

GENERATED = "Written by `keeptune export"
_NOTES = "This is the README.md of the adapter's own folder. Files that it names may not be here."


@dataclass(frozen=True, slots=True)
class Exported:
    """What a README describes.

    Attributes:
        target: what was exported, as the user named it.
        form: the form of the export.
        model: the base model, or the model itself.
        license: the license of the base model; empty if unknown.
        card: the metadata of the adapter; None for a model without one.
        measurements: the figures of the run or the published adapter; None where there is no verdict.
        family: PEFT's name of the adapter family.
        datasets: data sets of the hub among the training data.
        notes: the text of the adapter folder's own README.md.
    """

    target: str
    form: str
    model: str
    license: str
    card: AdapterMetadata | None
    measurements: Measurements | None = None
    family: str = ""
    datasets: list[str] = field(default_factory=list)
    notes: str = ""

    @property
    def name(self) -> str:
        """The last part of the target's path."""
        return Path(self.target).expanduser().resolve().name

    @property
    def shown_target(self) -> str:
        """The target without the folders above it, where it is an absolute path: those concern one machine only."""
        return self.name if Path(self.target).expanduser().is_absolute() else self.target

    @property
    def facts(self) -> CardFacts:
        """What the header of the model card states besides the measurements."""
        skill = self.card.skill if self.card else ""
        return CardFacts(self.name, self.form, self.model, self.license, skill, self.datasets, self.family)


def render_readme(exported: Exported, folder: Path) -> str:
    """The text of README.md for the files in `folder`."""
    budgets = exported.card.budgets if exported.card else {}
    budget = max(budgets.values(), default=_DEFAULT_BUDGET_TOKENS)
    values = {"{budget}": str(budget), "{model}": exported.model, "{hub_model}": hub_name(exported.model) or "BASE"}
    if exported.card:
        prompt = json.dumps(exported.card.prompt.render("PROBLEM"), ensure_ascii=False)
        values["{prompt}"] = prompt.replace("'", "'\\''")  # inside a quoted word of the shell
    if exported.form == "vllm":
        values |= {
            "{model_folder}": resolve(exported.model),
            "{rank}": str(max_rank(read_json(folder / ADAPTER_CONFIG))),
        }
    commands = COMMANDS[exported.form]
    for slot, value in values.items():
        commands = commands.replace(slot, value)
    sections = [
        *([header(exported.facts, exported.measurements)] if exported.card else []),
        f"# {exported.name}: {exported.form}",
        f"{GENERATED} {exported.shown_target} --to {exported.form}`. Base model: `{exported.model}`.",
        "## Run",
        commands.rstrip(),
        *_differences_in_peft(exported),
        *(["## Prompt", _prompt(exported.card)] if exported.card else []),
        "## License",
        _license(exported),
        *(["## Verdict", _verdict(exported)] if exported.card else []),
        *(["## Notes", exported.notes] if exported.notes else []),
    ]
    return "\n\n".join(sections) + "\n"


def _differences_in_peft(exported: Exported) -> Iterator[str]:
    """What keeptune does when it loads the adapter, and PEFT does not."""
    if exported.form != "peft" or exported.card is None:
        return
    if exported.card.scale != 1:
        yield f"keeptune evaluated the adapter at the scale {exported.card.scale:g}, and applies it. PEFT alone uses 1."
    if exported.card.quantization:
        yield f"keeptune rounds the base to {exported.card.quantization}, as in training. PEFT alone does not."


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
    is_whole = exported.form not in ADAPTER_FORMS
    weights = "The weights contain those of the base model" if is_whole else "Use needs the base"
    if exported.license:
        return f"{weights}, whose license is `{exported.license}`."
    return f"{weights}. The files of the base model state no license, so look it up before you publish this folder."


def _verdict(exported: Exported) -> str:
    """The verdict, the score on the skill, and a line per ability; what was lost or is undecided has its own line."""
    measurements = exported.measurements
    if measurements is None:
        return (
            "The adapter was exported without its run, so there is no verdict here. Judge it with "
            f"`keeptune gate --base {exported.model} --tuned {exported.shown_target}`."
        )
    gate = measurements.gate
    lines = [
        f"Retention gate of the {'run' if measurements.is_run else 'adapter'}: **{gate.verdict}**. {gate.reason}",
        "",
        "It holds for the adapter as keeptune runs it, with greedy decoding. The skill has the stored prompt.",
    ]
    if exported.form in ("merged", "gguf", "ollama"):
        lines += ["", f"`keeptune gate {exported.shown_target} --artefact .` judges what these files answer."]
    if exported.model == EMBEDDED:
        lines += ["", f"The figures were measured on keeptune's embedded copy of the base.{_identity(exported.card)}"]
    if measurements.skill and exported.card:
        lines += ["", _skill(exported.card.skill, measurements.skill)]
    if measurements.ability_records:
        lines += ["", *_outcomes(measurements), "", *verdict_text.markdown_table(measurements.ability_records)]
    return "\n".join(lines)


def _identity(card: AdapterMetadata | None) -> str:
    return f" Its weights have the SHA-256 `{card.base.weights_sha256}`." if card and card.base else ""


def _skill(name: str, skill: SkillMeasurement) -> str:
    low, high = skill.tuned.ci95
    base = "not measured" if skill.base is None else f"{skill.base.accuracy:.1%}"
    return (
        f"Skill `{name}`, n = {skill.tuned.n:,} ({skill.problems}): tuned {skill.tuned.accuracy:.1%} "
        f"(95 %: {low:.1%} to {high:.1%}), base {base}."
    )


_OUTCOMES = {
    "lost": "Lost",
    "undecided": "Undecided: more questions are needed",
    "practised": "Practised in training, so not counted",
    "nothing to lose": "Nothing to lose, because the base has too few right answers",
}
"""What is said about the abilities with a status; that of the retained ones is in the table."""


def _outcomes(measurements: Measurements) -> Iterator[str]:
    abilities = measurements.abilities
    for status, said in _OUTCOMES.items():
        names = [name for name, ability in abilities.items() if ability.status == status]
        if names:
            yield f"- {said}: {', '.join(names)}."


def notes_of(folder: Path) -> str:
    """The text of an adapter folder's own README.md, without its header and title; empty for a generated one."""
    path = folder / "README.md"
    text = read_regular_bytes(path).decode(errors="replace") if path.is_file() else ""
    if GENERATED in text:
        return ""
    lines = _without_header(text).strip().splitlines()
    body = "\n".join(lines[1:] if lines and lines[0].startswith("# ") else lines).strip()
    return f"{_NOTES}\n\n{body}" if body else ""


def _without_header(text: str) -> str:
    return text.partition("\n---\n")[2] if text.startswith("---\n") else text


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
