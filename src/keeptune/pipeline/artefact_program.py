"""Opens an artefact in the program that serves it: llama.cpp, transformers, or a server at an address."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from keeptune.errors import ModelError
from keeptune.generation import llamacpp
from keeptune.generation.answer_source import AnswerSource
from keeptune.generation.engine import Generator
from keeptune.generation.self_test import load_checked_model
from keeptune.generation.served_model import PromptComparison, ServedModel
from keeptune.generation.server_connection import RefusedError, ServerConnection, connect
from keeptune.models import adapter_metadata
from keeptune.models import load as models
from keeptune.pipeline.artefact_files import ADAPTER_FILE, ArtefactFiles
from keeptune.pipeline.context import RunContext
from keeptune.prompts.chat_prompt import AnyPrompt
from keeptune.run_files.artefact import PromptDifference, Prompts

TUNED = "tuned"
"""The name of the tuned model in `keeptune serve`, and in the commands of vLLM exports."""

_PROMPT_TOKENS = 512
"""Room for a prompt of the skill test, besides its longest answer."""


@dataclass(frozen=True, slots=True)
class OpenArtefact:
    """A running artefact.

    Attributes:
        program: the name of the program that answers, with its version.
        source: the model.
        tokens: the comparison of prompts so far.
    """

    program: str
    source: AnswerSource
    tokens: PromptComparison

    def compare_prompts(self, prompt: AnyPrompt, tokenizer: Any, problems: Sequence[tuple[str, str | None]]) -> None:
        """Compares the tokens of prompts in the run, whose tokenizer is given, with those in the program.

        `problems` are problems with their conversations.
        """
        texts = [prompt.render(*problem) for problem in problems]
        expected = [prompt.encode(tokenizer, *problem) for problem in problems]
        if isinstance(self.source, ServedModel):
            self.source.compare([self.source.client_text(text) for text in texts], expected)
            return
        for text, tokens, problem in zip(texts, expected, problems, strict=True):
            self.tokens.add(text, tokens, prompt.encode(self.source.tokenizer, *problem))

    def prompts(self) -> Prompts:
        """The comparison of tokens so far, as artefact.json states it."""
        first = next(iter(self.tokens.differences), None)
        return Prompts(
            compared=len(self.tokens.compared),
            by=self.tokens.by,
            differing=len(self.tokens.differences),
            first=PromptDifference.model_validate(asdict(first)) if first else None,
        )


def is_address(artefact: str) -> bool:
    """Whether an artefact is a server."""
    return artefact.startswith(("http://", "https://"))


@contextmanager
def open_files(files: ArtefactFiles, base: ArtefactFiles | None, run: RunContext) -> Iterator[OpenArtefact]:
    """Starts the program of an export.

    `base` is the export of the base model, to which a GGUF adapter is added.

    Raises:
        ModelError: the program is missing, or none is known for the form.
    """
    context = max(llamacpp.CONTEXT_TOKENS, _PROMPT_TOKENS + max(run.final.budgets().values(), default=0))
    if files.form in ("gguf", "ollama"):
        with llamacpp.serving(files.model, context_tokens=context) as server:
            yield _served(server, "", run)
    elif files.form == "gguf-lora" and base:
        with llamacpp.serving(base.model, [files.path / ADAPTER_FILE], context) as server:
            yield _served(server, "", run)
    elif files.form == "merged":
        tokenizer = models.load_tokenizer(str(files.path))
        model, _ = load_checked_model(str(files.path), tokenizer, adapter_metadata.load(files.path).dtype)
        program = f"transformers {metadata.version('transformers')}"
        yield OpenArtefact(program, Generator(model, tokenizer), PromptComparison())
    else:
        advice = {
            "gguf-lora": "it is added to a GGUF file of the base: give that export with --base",
            "vllm": f"start vLLM as its README.md says, and give the address: --artefact http://127.0.0.1:8000/v1 "
            f"--model {TUNED}",
        }
        known = "gguf, gguf-lora, ollama and merged, and models behind an address, are evaluated"
        raise ModelError(f"{files.path}: an export of the form {files.form}; {advice.get(files.form, known)}")


def open_address(url: str, model: str | None, run: RunContext) -> OpenArtefact:
    """A model of a server that is already running.

    Raises:
        ModelError: the server cannot be reached, or has no such model.
    """
    server = connect(url)
    models_by_name = {str(one.get("id")): one for one in server.get("/v1/models").get("data", [])}
    names = list(models_by_name)
    if model is None:
        model = TUNED if TUNED in names else names[0] if len(names) == 1 else None
    if model is None or model not in names:
        wrong = f"there is no model {model!r}" if model else "the server has several models"
        raise ModelError(f"{url}: {wrong}; give one of {', '.join(names)} with --model")
    return _served(server, model, run, models_by_name[model].get("max_model_len"))


def _served(server: ServerConnection, model: str, run: RunContext, context_tokens: int | None = None) -> OpenArtefact:
    name, tokenizer = run.recipe.model.name, run.models.tokenizer
    vocabulary = int(models.load_config(name).get_text_config().vocab_size)
    source = ServedModel(server, model, tokenizer, vocabulary, context_tokens)
    return OpenArtefact(_program(server), source, source.prompts)


def _program(server: ServerConnection) -> str:
    """The name of a server's program, with its version if it tells it."""
    for path, key, name in (("/props", "build_info", "llama.cpp"), ("/version", "version", "vLLM")):
        try:
            if version := server.get(path).get(key):
                return f"{name} {version}"
        except RefusedError:
            continue
    return "a server with OpenAI's interface"
