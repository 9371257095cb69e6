"""Ways to compile a model of the zoo, and a backend that counts what is compiled and what runs."""

from __future__ import annotations

import inspect
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from transformers import CompileConfig

from tests.zoo import Specimen, block_modules, vision_module

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Settings = dict[str, object]
    Way = Callable[[Specimen, "Backend"], Settings]

COUNTED_ALONE: Mapping[str, Any] = MappingProxyType(
    {"isolate_recompiles": True}
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters
    else {}
)
"""All blocks share one function, and torch gives up on it after eight compilations.

Earlier torch counts them together: there `cache_size_limit` must be larger.
"""


class Backend:
    """Runs each graph as it is: `n_graphs` were made, and ran `n_runs` times.

    What torch runs uncompiled makes no run. `on_run` is called in each, inside compiled code.
    """

    def __init__(self, on_run: Callable[[], None] | None = None) -> None:
        self.n_graphs = 0
        self.n_runs = 0
        self._on_run = on_run

    def __deepcopy__(self, _memo: dict[int, object]) -> Backend:
        """Return itself: a CompileConfig hands copies of its values to torch."""
        return self

    def __call__(
        self, graph: torch.fx.GraphModule, _inputs: Sequence[object], **_mode: object
    ) -> Callable[..., object]:
        """Return what torch runs for a graph."""
        self.n_graphs += 1
        forward: Callable[..., object] = graph.forward

        def run(*args: object) -> object:
            self.n_runs += 1
            if self._on_run:
                self._on_run()
            return forward(*args)

        return run


def language_model_path(specimen: Specimen) -> str:
    """Return the module that holds the decoder's blocks."""
    return specimen.block_path.rpartition(".")[0]


def forward_of_model(specimen: Specimen, backend: Backend) -> Settings:
    """`model.forward = torch.compile(model.forward)`."""
    _compile_forward(specimen.model, backend)
    return {}


def call_of_model(specimen: Specimen, backend: Backend) -> Settings:
    """`model.compile()`."""
    specimen.model.compile(backend=backend)
    return {}


def forward_of_language_model(specimen: Specimen, backend: Backend) -> Settings:
    """`language_model.forward = torch.compile(language_model.forward)`."""
    _compile_forward(specimen.model.get_submodule(language_model_path(specimen)), backend)
    return {}


def call_of_language_model(specimen: Specimen, backend: Backend) -> Settings:
    """`language_model.compile()`."""
    specimen.model.get_submodule(language_model_path(specimen)).compile(backend=backend)
    return {}


def language_model(specimen: Specimen, backend: Backend) -> Settings:
    """`model.language_model = torch.compile(model.language_model)`."""
    owner, _, name = language_model_path(specimen).rpartition(".")
    module = specimen.model.get_submodule(language_model_path(specimen))
    setattr(specimen.model.get_submodule(owner), name, torch.compile(module, backend=backend))
    return {}


def forward_of_blocks(specimen: Specimen, backend: Backend) -> Settings:
    """`block.forward = torch.compile(block.forward)` for each, counted each on its own."""
    for block in block_modules(specimen):
        _compile_forward(block, backend, **COUNTED_ALONE)
    return {}


def call_of_blocks(specimen: Specimen, backend: Backend) -> Settings:
    """`block.compile()` for each, counted each on its own."""
    for block in block_modules(specimen):
        block.compile(backend=backend, **COUNTED_ALONE)
    return {}


def forward_of_tower(specimen: Specimen, backend: Backend) -> Settings:
    """`tower.forward = torch.compile(tower.forward)`."""
    _compile_forward(vision_module(specimen), backend)
    return {}


def call_of_tower(specimen: Specimen, backend: Backend) -> Settings:
    """`tower.compile()`."""
    vision_module(specimen).compile(backend=backend)
    return {}


def by_generate(specimen: Specimen, backend: Backend) -> Settings:
    """A static cache, for which generate() compiles decode; on a CPU only if told to."""
    config = CompileConfig(backend=backend)
    config._compile_all_devices = True  # type: ignore[assignment]  # declared as None
    return {"cache_implementation": "static", "compile_config": config}


def by_generate_in_chunks(specimen: Specimen, backend: Backend) -> Settings:
    """A static cache and a prompt in chunks, for which generate() compiles every forward."""
    return {**by_generate(specimen, backend), "prefill_chunk_size": 10}


WAYS: Mapping[str, Way] = MappingProxyType(
    {
        "model.forward": forward_of_model,
        "model.compile()": call_of_model,
        "language model's forward": forward_of_language_model,
        "language model.compile()": call_of_language_model,
        "torch.compile(language model)": language_model,
        "each block's forward": forward_of_blocks,
        "each block.compile()": call_of_blocks,
        "tower's forward": forward_of_tower,
        "tower.compile()": call_of_tower,
        "by generate(), static cache": by_generate,
        "by generate(), in chunks": by_generate_in_chunks,
    }
)


def _compile_forward(module: torch.nn.Module, backend: Backend, **options: Any) -> None:
    vars(module)["forward"] = torch.compile(module.forward, backend=backend, **options)
