"""Limits of the work that a chat template can cause. A template comes with a model, and a few bytes can loop for years.

The sandbox of Jinja keeps a template from code and files, and limits each `range`, but neither nested loops nor texts
that double in each round.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_STEPS = 1_000_000
"""Rounds of loops and calls of macros in one rendering. A conversation of 1,000 turns needs some thousands."""

MAX_CHARACTERS = 10_000_000
"""Characters of a text, or elements of a list."""

_MAX_POWER = 1_000

_steps: ContextVar[list[int] | None] = ContextVar("template_steps", default=None)


@contextmanager
def counted_steps() -> Iterator[None]:
    """Context of one rendering, whose steps are counted from 0."""
    token = _steps.set([0])
    try:
        yield
    finally:
        _steps.reset(token)


class StepLimit(Extension):
    """Counts steps and bounds joined texts. `BoundedEnvironment` calls its methods where a template can repeat."""

    def count_step(self) -> str:
        """Raises SecurityError after too many steps. Returns an empty text, because it stands for an expression."""
        if (steps := _steps.get()) is not None:
            steps[0] += 1
            if steps[0] > MAX_STEPS:
                raise SecurityError(f"more than {MAX_STEPS:,} rounds of loops")
        return ""

    def concatenate(self, *parts: Any) -> str:
        """The operator `~`."""
        texts = list(map(str, parts))
        _check_length(sum(map(len, texts)))
        return "".join(texts)


class _Limiter(NodeTransformer):
    """Adds the calls of `StepLimit` to a parsed template."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802  (named after the node)
        self._add_step(node)
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:  # noqa: N802
        self._add_step(node)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Call:  # noqa: N802
        self.generic_visit(node)
        return _call("concatenate", node.nodes, node.lineno)

    def _add_step(self, node: nodes.For | nodes.Macro) -> None:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call("count_step", [], node.lineno), lineno=node.lineno))


def _call(method: str, arguments: list[nodes.Expr], line: int) -> nodes.Call:
    function = nodes.ExtensionAttribute(StepLimit.identifier, method, lineno=line)
    return nodes.Call(function, arguments, [], None, None, lineno=line)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox whose templates have limits. `StepLimit` must be among its extensions."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = super()._parse(source, name, filename)
        _Limiter().visit(template)
        template.set_environment(self)
        return template

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The result of a binary operator.

        Raises:
            SecurityError: it would be too large.
        """
        if operator == "**" and max(abs(left), abs(right)) > _MAX_POWER:
            raise SecurityError("a power of large numbers")
        if operator == "%" and isinstance(left, str):
            raise SecurityError("`%` on a text; use `~`")
        if operator == "*":
            sized = [len(side) for side in (left, right) if hasattr(side, "__len__")]
            factors = [side for side in (left, right) if isinstance(side, int)]
            if sized and factors:
                _check_length(sized[0] * factors[0])
        if operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            _check_length(len(left) + len(right))
        return super().call_binop(context, operator, left, right)


def _check_length(length: int) -> None:
    if length > MAX_CHARACTERS:
        raise SecurityError(f"a text of more than {MAX_CHARACTERS:,} characters")
