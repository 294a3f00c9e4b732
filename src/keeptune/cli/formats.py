"""The verbs that write for other programs, read what they wrote, and make a corpus."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from keeptune.errors import RecipeError


def export(
    target: Annotated[str, typer.Argument(metavar="RUN_OR_ADAPTER", help="a finished run, or an adapter folder")],
    form: Annotated[
        Literal["merged", "mindspore", "mindformers", "mindrecord", "mindrecord-reading"],
        typer.Option(
            "--to",
            help="merged: one model; mindspore: .ckpt files under MindFormers' names; mindformers: a run's .ckpt and "
            "configurations to go on with it there; mindrecord: a run's training rows; mindrecord-reading: a run's "
            "reading questions",
        ),
    ],
    out: Annotated[Path, typer.Option(help="the folder to make")],
    seq_length: Annotated[
        int | None, typer.Option(min=1, help="of mindrecord: seq_length in MindFormers; 256 unless given")
    ] = None,
    shards: Annotated[int | None, typer.Option(min=1, help="of mindrecord: files to spread the rows over")] = None,
) -> None:
    """A tuned model for other programs. What PEFT and transformers load is in a run's adapter/ already."""
    if form == "mindrecord" or form == "mindrecord-reading":
        from keeptune.mindspore.run_rows import export_reading, export_training
        from keeptune.pipeline.run import Run

        run, length, files = Run.open(Path(target)), seq_length or 256, shards or 1
        if form == "mindrecord":
            made = export_training(run.examples(), run.context.models.tokenizer, run.context.prompt, length, out, files)
        else:
            made = export_reading(run.recipe.score, run.context.models.tokenizer, length, out, files)
        print(made.text(), file=sys.stderr)
        print("\n".join(str(out / name) for name in made.files))
        return
    if seq_length or shards:
        raise RecipeError(f"--seq-length and --shards are for --to mindrecord and mindrecord-reading, not for {form}")
    from keeptune.export.exporter import export as write_form

    print("\n".join(str(out / name) for name in write_form(target, form, out)))


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="CKPT|YAML|MINDRECORD",
            help="a MindFormers checkpoint with a LoRA, a configuration, or training rows",
        ),
    ],
    out: Annotated[Path, typer.Option(help="the adapter folder, the recipe, or the JSONL file of rows to make")],
    pet_config: Annotated[
        Path | None, typer.Option(metavar="YAML", help="the configuration that a checkpoint was trained with")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="the prompt that it was trained with: holds {problem}, or vicuna-alpaca, vicuna, alpaca"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="its base model, as in a recipe")] = None,
    skill: Annotated[Literal["arithmetic", "text"], typer.Option(help="what it was taught")] = "arithmetic",
    evaluation: Annotated[
        list[Path], typer.Option(metavar="YAML", help="a file that the adapter is evaluated with; repeatable")
    ] = [],  # noqa: B006
    data_file: Annotated[Path | None, typer.Option("--data", help="the rows for a recipe, in any format")] = None,
) -> None:
    """From MindFormers: an adapter in PEFT's layout out of a .ckpt, a recipe out of a .yaml, rows of a .mindrecord."""
    if ".mindrecord" in source.name:  # shards have their number behind it
        from keeptune.mindspore.record_rows import write_rows
        from keeptune.prompts.named import resolve_template

        print(write_rows(source, model or "smollm2-135m", resolve_template(prompt) if prompt else None, out).text())
        return
    if source.suffix in (".yaml", ".yml"):
        from keeptune.mindspore.recipe_yaml import write_recipe

        print(write_recipe(source, out, evaluation, data_file, prompt, model, skill))
        return
    if pet_config is None or prompt is None:
        raise RecipeError(f"{source}: a checkpoint holds neither alpha nor prompt; give --pet-config and --prompt")
    if evaluation or data_file:
        raise RecipeError(f"{source}: --evaluation and --data are for a recipe out of a .yaml; leave them out")
    from keeptune.mindspore.import_adapter import adopt
    from keeptune.prompts.named import resolve_prompt

    adopt(source, pet_config, model or "smollm2-135m", skill, resolve_prompt(prompt), out)
    print(out)


def synth(
    preset: Annotated[Literal["contest"], typer.Option(help="whose kinds, ranges, mix and format")] = "contest",  # noqa: ARG001
    rows: Annotated[
        int | None, typer.Option(min=1, help="how many rows; left out: 809,993, or 2,000 of them unique")
    ] = None,
    seed: Annotated[int, typer.Option(help="the same seed writes the same rows")] = 0,
    unique: Annotated[bool, typer.Option(help="the mix of the original's unique problems, without duplicates")] = False,
    bad_share: Annotated[float, typer.Option(min=0, max=0.5, help="share of rows that are wrong on purpose")] = 0.0,
    out: Annotated[Path, typer.Option(help="the JSONL file to write")] = Path("corpus.jsonl"),
    exclude: Annotated[
        list[str], typer.Option(metavar="FILE", help="leave out its problems and their twins; repeatable")
    ] = [],  # noqa: B006
) -> None:
    """A corpus in the contest's format, mix and duplicates."""
    from keeptune.data.decontamination import refusal
    from keeptune.files import write_whole
    from keeptune.skills.arithmetic.contest_corpus import (
        ORIGINAL_CORPUS_ROWS,
        UNIQUE_CORPUS_ROWS,
        generate_corpus,
        generate_unique_corpus,
    )
    from keeptune.skills.arithmetic.corruption import corrupt_rows
    from keeptune.skills.arithmetic.skill import Arithmetic

    refused = refusal(exclude, Arithmetic())
    if unique:
        made = generate_unique_corpus(rows or UNIQUE_CORPUS_ROWS, seed, refused)
    else:
        made = generate_corpus(rows or ORIGINAL_CORPUS_ROWS, seed, refused=refused)

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in corrupt_rows(made, bad_share, seed))

    write_whole(out, write)
    print(out)
