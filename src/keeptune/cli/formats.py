"""The verbs `export`, `import` and `synth`: files for other programs, files from MindFormers, and synthetic rows."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from keeptune.cli.gate import judge_artefact
from keeptune.cli.terminal import show
from keeptune.errors import RecipeError

_Form = Literal[
    "peft",
    "merged",
    "gguf",
    "gguf-lora",
    "ollama",
    "vllm",
    "mindspore",
    "mindformers",
    "mindrecord",
    "mindrecord-reading",
]

_PROVABLE = ("gguf", "ollama", "merged")
"""Forms of which a folder alone can be evaluated."""

_DEFAULT_MODEL = "smollm2-135m"
_DEFAULT_SEQ_LENGTH = 256
_DEFAULT_ROWS = 2_000


def export(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="RUN_OR_ADAPTER", help="finished run, or adapter folder; for gguf also a model")
    ],
    form: Annotated[
        _Form,
        typer.Option(
            "--to",
            help="peft: the adapter with model card and verdict; merged: one transformers model; gguf: one file for "
            "llama.cpp; gguf-lora: the adapter alone for llama.cpp; ollama: GGUF file and Modelfile; vllm: the adapter "
            "as vLLM reads it; mindspore: .ckpt files with MindFormers' tensor names; mindformers: checkpoint and "
            "configurations to continue a run's training; mindrecord: a run's training rows; mindrecord-reading: a "
            "run's reading questions",
        ),
    ],
    out: Annotated[Path, typer.Option(help="new folder for the files")],
    gguf_type: Annotated[
        Literal["f16", "bf16", "q8_0", "q4_0", "q4_1"] | None,
        typer.Option(help="gguf and ollama: number format of the matrices; default: f16"),
    ] = None,
    seq_length: Annotated[
        int | None, typer.Option(min=1, help="mindrecord: MindFormers' seq_length in tokens; default: 256")
    ] = None,
    shards: Annotated[int | None, typer.Option(min=1, help="mindrecord: number of files; default: 1")] = None,
    prove: Annotated[bool, typer.Option("--prove", help="judge the export: keeptune gate RUN --artefact OUT")] = False,
) -> None:
    """Export a tuned model or a run's rows for other programs.

    PEFT also loads the run's adapter/ folder without an export.
    """
    if prove and form not in _PROVABLE:
        raise RecipeError(
            f"--prove requires --to {', '.join(_PROVABLE)} (got {form}); judge others by `keeptune gate RUN --artefact`"
        )
    if gguf_type and form not in ("gguf", "ollama"):
        raise RecipeError(f"--gguf-type requires --to gguf or ollama (got {form}); remove it")
    if form == "mindrecord" or form == "mindrecord-reading":
        _export_rows(target, form, out, seq_length or _DEFAULT_SEQ_LENGTH, shards or 1)
        return
    if seq_length or shards:
        raise RecipeError(
            f"--seq-length and --shards require --to mindrecord or mindrecord-reading (got {form}); remove them"
        )
    from keeptune.export.exporter import export as write_form

    show("\n".join(str(out / name) for name in write_form(target, form, out, gguf_type or "f16")))
    if prove:
        sys.exit(judge_artefact(context, Path(target), str(out)))


def _export_rows(
    target: str, form: Literal["mindrecord", "mindrecord-reading"], out: Path, length: int, files: int
) -> None:
    from keeptune.mindspore.run_rows import export_reading, export_training
    from keeptune.pipeline.run import Run

    run = Run.open(Path(target))
    tokenizer = run.context.models.tokenizer
    if form == "mindrecord":
        written = export_training(run.examples(), tokenizer, run.context.prompt, length, out, files)
    else:
        written = export_reading(run.recipe.score, tokenizer, length, out, files)
    show(written.text(), file=sys.stderr)
    show("\n".join(str(out / name) for name in written.files))


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="CKPT|YAML|MINDRECORD",
            help="MindFormers checkpoint with a LoRA, configuration, or MindRecord file of training rows",
        ),
    ],
    out: Annotated[Path, typer.Option(help="new adapter folder, recipe, or JSON Lines file of rows")],
    pet_config: Annotated[
        Path | None, typer.Option(metavar="YAML", help="checkpoint: the configuration that trained it")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="training prompt: a template with {problem}, or vicuna-alpaca, vicuna, alpaca"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="base model, as in a recipe")] = None,
    skill: Annotated[Literal["arithmetic", "text"], typer.Option(help="skill of the rows")] = "arithmetic",
    evaluation: Annotated[
        list[Path],
        typer.Option(metavar="YAML", help="configuration: another that evaluates the adapter, to check; repeatable"),
    ] = [],  # noqa: B006
    data_file: Annotated[
        Path | None, typer.Option("--data", help="configuration: the training rows, in any supported format")
    ] = None,
) -> None:
    """Import an adapter (.ckpt), a recipe (.yaml) or rows (.mindrecord) from MindFormers."""
    if ".mindrecord" in source.name:  # the names of shards end with a number
        from keeptune.mindspore.record_rows import write_rows
        from keeptune.prompts.named import resolve_template

        show(write_rows(source, model or _DEFAULT_MODEL, resolve_template(prompt) if prompt else None, out).text())
        return
    if source.suffix in (".yaml", ".yml"):
        from keeptune.mindspore.recipe_yaml import write_recipe

        show(write_recipe(source, out, evaluation, data_file, prompt, model, skill))
        return
    if pet_config is None or prompt is None:
        raise RecipeError(f"{source}: a checkpoint has neither alpha nor prompt; give --pet-config and --prompt")
    if evaluation or data_file:
        raise RecipeError(f"{source}: --evaluation and --data require a .yaml file; remove them")
    from keeptune.mindspore.import_adapter import import_adapter
    from keeptune.prompts.named import resolve_prompt

    import_adapter(source, pet_config, model or _DEFAULT_MODEL, skill, resolve_prompt(prompt), out)
    show(out)


def synth(
    preset: Annotated[
        str,
        typer.Option(
            help="corpus to generate: contest, customer-mail, order-texts, table-questions, or the skill of another "
            "package"
        ),
    ] = "contest",
    rows: Annotated[
        int | None,
        typer.Option(min=1, help="number of rows; default: 2,000, or 809,993 with the duplicates of the contest"),
    ] = None,
    seed: Annotated[int, typer.Option(help="random seed; the same seed writes the same rows")] = 0,
    split: Annotated[
        Literal["train", "test"],
        typer.Option(help="example skills: test rows have patterns, names and tables that train rows do not have"),
    ] = "train",
    unique: Annotated[
        bool, typer.Option(help="contest: write unique problems, in the mix of the corpus's unique rows")
    ] = False,
    bad_share: Annotated[
        float, typer.Option(min=0, max=0.5, help="contest: share of rows with a deliberate error")
    ] = 0.0,
    out: Annotated[Path, typer.Option(help="JSON Lines file to write")] = Path("corpus.jsonl"),
    exclude: Annotated[
        list[str], typer.Option(metavar="FILE", help="skip this file's problems and equivalents of them; repeatable")
    ] = [],  # noqa: B006
) -> None:
    """Generate synthetic rows: the contest corpus, or the rows of an example skill."""
    from keeptune.files import write_atomically

    if preset == "contest":
        if split == "test":
            raise RecipeError("--split test needs the --preset of an example skill; use another --seed, and --exclude")
        lines = _contest_lines(rows, seed, unique, bad_share, exclude)
    else:
        if unique or bad_share:
            raise RecipeError(f"--unique and --bad-share need --preset contest (got {preset}); remove them")
        lines = _example_lines(preset, rows or _DEFAULT_ROWS, seed, split, exclude)

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)

    write_atomically(out, write)
    show(out)


def _contest_lines(
    rows: int | None, seed: int, unique: bool, bad_share: float, exclude: Sequence[str]
) -> Iterable[str]:
    from keeptune.data.decontamination import build_generation_filter
    from keeptune.skills.arithmetic import contest_corpus
    from keeptune.skills.arithmetic.corruption import corrupt_rows
    from keeptune.skills.arithmetic.skill import Arithmetic

    refused = build_generation_filter(exclude, Arithmetic())
    if unique:
        generated = contest_corpus.generate_unique_corpus(rows or contest_corpus.UNIQUE_CORPUS_ROWS, seed, refused)
    else:
        generated = contest_corpus.generate_corpus(rows or contest_corpus.ORIGINAL_CORPUS_ROWS, seed, refused=refused)
    return corrupt_rows(generated, bad_share, seed)


def _example_lines(
    preset: str, rows: int, seed: int, split: Literal["train", "test"], exclude: Sequence[str]
) -> Iterable[str]:
    from keeptune.data.decontamination import build_generation_filter
    from keeptune.skills.corpora.registry import find_corpus

    corpus = find_corpus(preset)
    refused = build_generation_filter(exclude, corpus.skill)
    return (json.dumps(row, ensure_ascii=False) for row in corpus.generate(rows, seed, split, refused))
