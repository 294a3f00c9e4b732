"""The verbs that score, ask, compare, and check what was scored."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from keeptune.cli.options import AsJson, RunFolder, Suite, json_text
from keeptune.config.ability_names import split_names
from keeptune.errors import DataError


def verify(folder: RunFolder) -> None:
    """Recomputes every figure of a run, or of a folder of `keeptune gate`, from its stored answers, without a model.

    Exit code 3: some differ.
    """
    from keeptune.pipeline.verify import text
    from keeptune.pipeline.verify import verify as check

    made = check(folder)
    print(text(made))
    if made.faults:
        sys.exit(DataError.exit_code)


def compare(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN …", help="run directories; the first is the measure")
    ],
    other_questions: Annotated[
        bool, typer.Option("--other-questions", help="list runs that were scored on different questions, too")
    ] = False,
    leaderboard: Annotated[
        bool, typer.Option("--leaderboard", help="also among the contest's published results")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="PAGE.html", help="write a page of it, too")] = None,
    as_json: AsJson = False,
) -> None:
    """Runs side by side: scores, cost, and paired differences from the first."""
    from keeptune.evaluation.comparison import compare as side_by_side
    from keeptune.evaluation.comparison import format_comparison, format_leaderboard

    made = side_by_side(folders, other_questions)
    if out:
        from keeptune.files import write_text
        from keeptune.report.comparison import page

        write_text(out, page(made))
    print(json_text(made) if as_json else format_comparison(made))
    if leaderboard and not as_json:
        print(f"\n{format_leaderboard(made)}")


def score(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="RUN_OR_MODEL", help="run directory, adapter folder or model")],
    skill: Annotated[Path | None, typer.Option(help="problems in any format that the data stage reads")] = None,
    retained: Annotated[str | None, typer.Option(help="a SQuAD v1.1 file, or `embedded`")] = None,
    abilities: Annotated[str, typer.Option(help="`all`, or names of the retention suite's abilities")] = "",
    suite: Suite = "standard",
    limit: Annotated[int, typer.Option(min=0, help="only the first so many questions of each file; 0: all")] = 0,
    prompt: Annotated[str | None, typer.Option(help="another prompt template; must hold {problem}")] = None,
    other_prompt: Annotated[bool, typer.Option("--other-prompt", help="accept a prompt other than the stored")] = False,
    out: Annotated[Path | None, typer.Option(help="folder for the per-question records")] = None,
    as_json: AsJson = False,
) -> None:
    """Scores a run, an adapter or a base model on any held-out files."""
    from keeptune.pipeline.evaluate_files import Request, score_files, text

    request = Request(skill, retained, split_names(abilities), suite, limit, out)
    scored = score_files(target, request, prompt, other_prompt, context.obj)
    if scored is not None:
        print(json_text(scored) if as_json else text(scored))


def ask(
    target: Annotated[str, typer.Argument(metavar="RUN_OR_MODEL")],
    problem: Annotated[str, typer.Argument(help="a problem, as the skill writes it")],
    as_json: AsJson = False,
) -> None:
    """The tuned model's answer to one problem, asked through the stored prompt."""
    from keeptune.pipeline.evaluate_files import ask_one

    answer = ask_one(target, problem)
    print(json_text(answer) if as_json else answer["output"])
