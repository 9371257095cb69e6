"""Models inside PEFT: adapters in text and vision, and adapters that say what they are for."""

import inspect

import peft
import pytest
import torch
from transformers import LlamaForCausalLM

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.errors import PhasesNotFound
from tests.measure.assistants import small_language_model
from tests.measure.delays import check_delays, measure_delayed
from tests.zoo import Specimen, build
from tests.zoo.earlier import CACHE, ENCODES_FIRST
from tests.zoo.once import encoding_once
from tests.zoo.shrink import VOCABULARY

# PEFT asks transformers by a name that it will drop.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is dep:FutureWarning")

FAMILIES = encoding_once("llava", "qwen2_vl", "mllama", "florence2", "git", "blip-2")
LEARNT_PROMPT = "ran for the prompt alone, " + (
    "after vision began, on whole numbers and no features"
    if ENCODES_FIRST
    else "before 'base_model.model.get_image_features' was seen to work on the pixels"
)
learns_a_prompt = pytest.mark.skipif(
    f'"{CACHE}"' not in inspect.getsource(peft.PeftModelForCausalLM.prepare_inputs_for_generation),
    reason="this PEFT does not find this transformers' cache, and puts its prompt before each step",
)
PROJECTIONS = ("q_proj", "v_proj", "query", "value", "qkv")


def adapted(specimen: Specimen, task: str | None = None) -> torch.nn.Module:
    """Return the model with adapters in the attention of its vision and of its text."""
    targets = [
        path
        for path, module in specimen.model.named_modules()
        if isinstance(module, torch.nn.Linear) and path.endswith(PROJECTIONS)
    ]
    config = peft.LoraConfig(target_modules=targets, r=2, init_lora_weights=False, task_type=task)
    model: torch.nn.Module = peft.get_peft_model(specimen.model, config)
    return model.train(mode=False)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("task", [None, "CAUSAL_LM"])
def test_adapters_leave_each_delay_in_its_phase(name: str, task: str | None) -> None:
    specimen = build(name)
    model = adapted(specimen, task)

    case = measure_delayed(specimen, model.generate)  # type: ignore[arg-type]  # a method

    check_delays(case, specimen)
    assert case.phase_map is not None
    assert case.phase_map.blocks[0].startswith("base_model.model.")


def test_adapters_are_in_both_vision_and_text(llava: Specimen) -> None:
    paths = [path for path, _ in adapted(llava).named_parameters() if "lora_A" in path]

    assert any("vision_tower" in path for path in paths)
    assert any("language_model" in path for path in paths)


def test_what_adapters_generate_is_what_they_generated_before(llava: Specimen) -> None:
    without = llava.generate(**llava.inputs)
    model = adapted(llava)
    before = model.generate(**llava.inputs)  # type: ignore[operator]  # a method
    attributes = {path: sorted(vars(module)) for path, module in model.named_modules()}

    measure_generate(model.generate, kwargs=llava.inputs, rounds=1)  # type: ignore[arg-type]  # as above

    assert torch.equal(model.generate(**llava.inputs), before)  # type: ignore[operator]  # as above
    assert not torch.equal(before, without)
    assert {path: sorted(vars(module)) for path, module in model.named_modules()} == attributes


def test_the_model_inside_an_adapter_can_be_named(llava: Specimen) -> None:
    model = adapted(llava)

    def chat(**inputs: object) -> object:
        return model.generate(**inputs)  # type: ignore[operator]  # as above

    check_delays(measure_delayed(llava, chat, model=llava.model), llava)


@learns_a_prompt
@pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning")
def test_a_prompt_that_is_learnt_is_refused_in_text_alone_and_measured_when_named() -> None:
    """It runs for the prompt alone, as vision does, and no pixels tell that it is none."""
    text = small_language_model(VOCABULARY, LlamaForCausalLM)
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    model = peft.get_peft_model(text, config).train(mode=False)
    kwargs = {"input_ids": torch.tensor([[1, 2, 3]]), "max_new_tokens": 4}

    with pytest.raises(PhasesNotFound, match=r"prompt_encoder.default ran for the prompt alone"):
        measure_generate(model.generate, kwargs=kwargs, rounds=1)
    case = measure_generate(model.generate, kwargs=kwargs, rounds=1, phases={"vision": []})

    assert case.labels == ("text-only",)


@learns_a_prompt
@pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning")
def test_a_prompt_that_is_learnt_is_refused_beside_an_image_unless_vision_is_named(
    llava: Specimen,
) -> None:
    config = peft.PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=4,
        num_layers=2,
        token_dim=64,
        num_attention_heads=4,
        num_transformer_submodules=1,
    )
    model = peft.get_peft_model(llava.model, config).train(mode=False)

    with pytest.raises(PhasesNotFound, match=rf"^prompt_encoder.default {LEARNT_PROMPT}"):
        measure_generate(model.generate, kwargs=llava.inputs, rounds=1)
    named = {"vision": [f"base_model.{llava.vision_path}", f"base_model.{llava.projector_path}"]}
    check_delays(measure_delayed(llava, model.generate, phases=named), llava)


@pytest.mark.parametrize("kind", ["dora", "several", "ia3"])
def test_further_kinds_of_adapters_leave_each_delay_in_its_phase(
    kind: str, llava: Specimen
) -> None:
    targets = ["q_proj", "v_proj"]
    low_rank = peft.LoraConfig(target_modules=targets, r=2)
    configs = {
        "dora": peft.LoraConfig(
            target_modules=targets, r=2, use_dora=True, modules_to_save=["multi_modal_projector"]
        ),
        "several": low_rank,
        "ia3": peft.IA3Config(target_modules=targets, feedforward_modules=[]),
    }
    model = peft.get_peft_model(llava.model, configs[kind]).train(mode=False)
    model.add_adapter("second", configs[kind])
    model.set_adapter("second")

    check_delays(measure_delayed(llava, model.generate), llava)
