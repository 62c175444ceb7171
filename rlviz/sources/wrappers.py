"""Names without the wrappers that training tools put around them, so that both sides speak of the same tensor."""

from __future__ import annotations

from collections.abc import Iterable

# in the order in which tools stack them; repeated until none is left, so combinations are covered
_WRAPPERS = (
    "_orig_mod.",  # torch.compile
    "module.",  # DataParallel, DeepSpeed
    "_fsdp_wrapped_module.",
    "base_model.model.",  # PEFT
    "pretrained_model.",  # TRL's value-head models
    "model.language_model.",  # multimodal models, new layout
    "language_model.",  # multimodal models, old layout
)
# the base model inside a task model; the bare base is saved without it
_BASE_MODELS = (
    "model",
    "transformer",
    "bert",
    "roberta",
    "xlm_roberta",
    "distilbert",
    "electra",
    "albert",
    "deberta",
    "gpt_neox",
)
_RENAMED = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # BERT files of 2018


def canonical_name(name: str) -> str:
    """The name both sides can be matched by.

    Examples
    --------
    >>> canonical_name("module.base_model.model.model.layers.0.mlp.up_proj.weight")
    'layers.0.mlp.up_proj.weight'
    >>> canonical_name("model.language_model.layers.0.mlp.up_proj.weight")
    'layers.0.mlp.up_proj.weight'
    """
    name = name.replace("._orig_mod.", ".").replace("._fsdp_wrapped_module.", ".")
    stripped = True
    while stripped:
        stripped = False
        for prefix in _WRAPPERS:
            if name.startswith(prefix) and len(name) > len(prefix):
                name, stripped = name[len(prefix) :], True
    first, _, rest = name.partition(".")
    # `model.weight` is a parameter of its own, `model.norm.weight` a wrapped one
    if first in _BASE_MODELS and "." in rest:
        name = rest
    for old, new in _RENAMED.items():
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return name


def by_canonical_name(names: Iterable[str]) -> dict[str, list[str]]:
    """Names grouped by their canonical form, in the order given; a group of two must not be matched blindly."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(canonical_name(name), []).append(name)
    return groups
