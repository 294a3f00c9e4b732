"""The layers that get an adapter, found by the shapes of the model's own modules.

Families name their layers differently (`q_proj`, `query_key_value`, `fc1`), and some compute queries, keys and values
in one layer. So a preset of a recipe means roles, such as query and value, and the role of a linear layer follows from
its place in a block and its number of inputs and outputs:

    attention   the part of a block with a layer from all heads to the hidden width; that layer is the output
                a single other layer computes queries, keys and values together; of three, each computes one of them
    MLP         all other parts; layers to the hidden width are outputs

Layers with one output, or with one per expert, route tokens and get no adapter from a preset. Experts whose weights are
one three-dimensional tensor are no linear layers and get none either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from torch import nn

from keeptune.errors import ModelError
from keeptune.grading.timed_patterns import MATCH_SECONDS, pattern_fault, search
from keeptune.models.attention import head_size
from keeptune.models.backend import MODULE_ALIASES

Role = Literal["query", "key", "value", "attention", "attention-output", "mlp-input", "mlp-output"]
"""What a linear layer computes. `attention` is a layer of the attention whose part in it is unknown."""

Roles = Mapping[str, frozenset[Role]]
"""The roles of linear layers by the last part of their names. A layer without a role gets an adapter only by name."""

_ATTENTION: frozenset[Role] = frozenset({"query", "key", "value", "attention", "attention-output"})
_MLP: frozenset[Role] = frozenset({"mlp-input", "mlp-output"})

PRESETS: dict[str, tuple[frozenset[Role], frozenset[Role]]] = {
    "attention-qv": (frozenset({"query", "value"}), frozenset({"query", "value"})),
    "attention": (_ATTENTION, frozenset({"attention-output"})),
    "mlp": (_MLP, _MLP),
    "all-linear": (_ATTENTION | _MLP, frozenset()),
    "ia3": (frozenset({"key", "value", "mlp-output"}), frozenset({"key", "value", "mlp-output"})),
}
"""Per preset: layers with one of these roles get an adapter, and the roles that the model must have."""

IA3_ROLES: tuple[Role, ...] = ("key", "value", "mlp-output")
"""The roles that (IA)³ can scale. A layer with a second role cannot be scaled."""


def layer_list(model: Any) -> tuple[str, nn.ModuleList] | None:
    """The module list that holds the model's blocks, and the last part of its name; None if there is none."""
    count = model.config.num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name.rsplit(".", 1)[-1], module
    return None


def layer_roles(model: Any) -> dict[str, frozenset[Role]]:
    """The linear layers of the model's blocks with their roles, by the last part of their names.

    Where an attention and an MLP use the same name, the name of the part precedes it: `attn.c_proj`.
    """
    named_blocks = layer_list(model)
    parts: dict[tuple[str, str], set[Role]] = {}
    for block in named_blocks[1] if named_blocks else ():
        for part, name, roles in _block_roles(block, model.config):
            parts.setdefault((part, name), set()).update(roles)
    names = [name for _, name in parts]
    return {
        name if names.count(name) == 1 else f"{part}.{name}": frozenset(roles) for (part, name), roles in parts.items()
    }


def linear_layer_names(model: Any) -> list[str]:
    """The names of linear layers in the model's blocks."""
    return sorted(layer_roles(model))


def expert_weights(model: Any) -> int:
    """The number of weights of experts that are no linear layers, and so get no adapter."""
    named_blocks = layer_list(model)
    return sum(
        p.numel() for block in (named_blocks[1] if named_blocks else ()) for p in block.parameters() if p.dim() == 3
    )


def _block_roles(block: nn.Module, config: Any) -> Iterator[tuple[str, str, set[Role]]]:
    """The linear layers of one block: the name of the part of the block, the layer's own name, and its roles."""
    parts: dict[str, dict[str, nn.Linear]] = {}
    for path, layer in block.named_modules():
        if isinstance(layer, nn.Linear):
            parents, _, name = path.rpartition(".")
            parts.setdefault(parents.split(".")[0], {})[name] = layer
    width, heads_width = config.hidden_size, config.num_attention_heads * head_size(config)
    shaped = (
        part
        for part, layers in parts.items()
        if any((layer.in_features, layer.out_features) == (heads_width, width) for layer in layers.values())
    )
    attention = next(shaped, next(iter(parts), ""))
    for part, layers in parts.items():
        roles = _attention_roles(layers, width) if part == attention else _mlp_roles(layers, width, config)
        for name, role in roles.items():
            yield part, name, role


def _attention_roles(layers: Mapping[str, nn.Linear], width: int) -> dict[str, set[Role]]:
    """The roles of the layers of an attention."""
    outputs = [name for name, layer in layers.items() if layer.out_features == width]
    # Query, key and value may be as wide as the output, which families register behind them.
    output = outputs[-1] if outputs else None
    inputs = [name for name in layers if name != output]
    roles: dict[str, set[Role]] = {name: {"attention"} for name in inputs}
    if output is not None:
        roles[output] = {"attention-output"}
        if len(inputs) == 1 and layers[inputs[0]].out_features > layers[output].in_features:
            roles[inputs[0]] = {"query", "key", "value"}
        elif len(inputs) == 3:
            roles |= _query_key_value(inputs, layers)
    return roles


def _query_key_value(names: Sequence[str], layers: Mapping[str, nn.Linear]) -> dict[str, set[Role]]:
    """The roles of three layers beside the output of an attention.

    Queries are at least as wide as keys and values, which have the same width. Where that leaves a choice, the first
    letters decide if they are q, k and v, and otherwise the order in which the family registers the layers.
    """
    if sorted(name[0] for name in names) == ["k", "q", "v"]:
        names = sorted(names, key=lambda name: "qkv".index(name[0]))
    query, key, value = names
    widths = [layers[name].out_features for name in (query, key, value)]
    if widths[0] < widths[1] or widths[1] != widths[2]:
        return {}
    return {query: {"query"}, key: {"key"}, value: {"value"}}


def _mlp_roles(layers: Mapping[str, nn.Linear], width: int, config: Any) -> dict[str, set[Role]]:
    """The roles of the layers of an MLP; none for layers that route tokens."""
    experts = {1, *(getattr(config, key, None) for key in ("num_experts", "num_local_experts", "n_routed_experts"))}
    roles: dict[str, set[Role]] = {}
    for name, layer in layers.items():
        if layer.out_features in experts:
            roles[name] = set()
        else:
            roles[name] = {"mlp-output" if layer.out_features == width else "mlp-input"}
    return roles


def target_modules(targets: str | Sequence[str], roles: Roles) -> list[str]:
    """The names of the modules that get an adapter.

    Args:
        targets: a preset, a name, several names, or a MindFormers regex such as '.*wq|.*wv'. As in MindFormers, the
            regex is matched from the start of MindFormers' own names.
        roles: the model's linear layers, see `layer_roles`.

    Raises:
        ModelError: if a part of the choice matches nothing; lists the available modules.
    """
    choices = (
        f"choose among the model's layers {', '.join(sorted(roles))}, the presets {', '.join(PRESETS)}, or a "
        "MindFormers regex such as '.*wq|.*wv'"
    )
    if isinstance(targets, str) and targets in PRESETS:
        return _preset_modules(targets, roles, choices)
    if isinstance(targets, str) and re.search(r"[*|^$\\()\[]", targets):
        selected = [name for part in targets.split("|") for name in _match_mindformers_names(part, roles, choices)]
    else:
        names = (targets,) if isinstance(targets, str) else tuple(targets)
        missing = [name for name in names if name not in roles]
        if missing or not names:
            raise ModelError(f"adapter.targets: {', '.join(missing) or 'empty'} matches no linear layer; {choices}")
        selected = list(names)
    return sorted(set(selected))


def _preset_modules(preset: str, roles: Roles, choices: str) -> list[str]:
    preset_roles, needed = PRESETS[preset]
    selected = sorted(name for name, assigned in roles.items() if assigned & preset_roles)
    if preset == "ia3":
        selected = [name for name in selected if len(roles[name]) == 1]
    missing = needed - {role for name in selected for role in roles[name]}
    if missing or not selected:
        absent = ", ".join(sorted(missing)) or "linear"
        raise ModelError(f"adapter.targets: {preset} needs {absent} layers, which this model lacks; {choices}")
    return selected


def _match_mindformers_names(pattern: str, roles: Roles, choices: str) -> list[str]:
    if fault := pattern_fault(pattern):
        raise ModelError(f"adapter.targets: {pattern!r} is not a regular expression ({fault}); {choices}")
    try:
        # An empty part, as after the last bar of '.*wq|', would match everything.
        matches = [n for n in sorted(roles) if pattern and search(rf"\A(?:{pattern})", MODULE_ALIASES.get(n, n))]
    except TimeoutError:
        raise ModelError(
            f"adapter.targets: {pattern!r} takes more than {MATCH_SECONDS:g} seconds on a name; {choices}"
        ) from None
    if not matches:
        aliases = ", ".join(MODULE_ALIASES.get(name, name) for name in sorted(roles))
        raise ModelError(f"adapter.targets: the part {pattern!r} matches none of {aliases}; {choices}")
    return matches
