"""`path.py:function`: what a user's function may return, and what is said of anything else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.inspection.conftest import Inspect
from tests.modes.installed import CHUNKS_BY_CALL
from tests.zoo.earlier import CACHE

UserFile = Callable[[str], Path]

EXPECTED = (
    "; expected (model, inputs), inputs being what model.generate(**inputs) takes, or "
    "(model.generate, kwargs); inputs and kwargs are mappings, or functions that return a fresh "
    "one for each call\n"
)


def test_a_generate_and_its_arguments_are_called_as_they_are(
    inspect: Inspect, user_file: UserFile
) -> None:
    user_file(
        "def build():\n    model, inputs = zoo('llava')\n"
        "    return model.generate, {**inputs, 'max_new_tokens': 5}\n"
    )

    assert inspect("models.py:build", "--json").json["tokens"]["n_output"] == 5


def test_a_length_from_the_command_line_is_stronger(inspect: Inspect, user_file: UserFile) -> None:
    user_file(
        "def build():\n    model, inputs = zoo('llava')\n"
        "    return model.generate, {**inputs, 'max_new_tokens': 5}\n"
    )

    run = inspect("models.py:build", "--max-new-tokens", "3", "--json")

    assert run.json["tokens"]["n_output"] == 3


def test_a_length_among_a_models_inputs_is_stronger_than_the_default(
    inspect: Inspect, user_file: UserFile
) -> None:
    user_file(
        "def build():\n    model, inputs = zoo('llava')\n"
        "    return model, {**inputs, 'max_new_tokens': 6}\n"
    )

    assert inspect("models.py:build", "--json").json["tokens"]["n_output"] == 6


def test_a_partial_keeps_its_arguments(inspect: Inspect, user_file: UserFile) -> None:
    user_file(
        "from functools import partial\n\n"
        "def build():\n    model, inputs = zoo('llava')\n"
        "    return partial(model.generate, max_new_tokens=4), inputs\n"
    )

    assert inspect("models.py:build", "--json").json["tokens"]["n_output"] == 4


def test_fresh_inputs_are_made_for_each_call(inspect: Inspect, user_file: UserFile) -> None:
    user_file(
        "import torch\n"
        "from transformers import DynamicCache\n\n"
        "def build():\n"
        "    model, inputs = zoo('llava')\n"
        "    def fresh():\n"
        f"        return {{**inputs, '{CACHE}': DynamicCache()}}\n"
        "    return model, fresh\n"
    )

    assert inspect("models.py:build", "--json").json["tokens"]["n_decode_steps"] == 7


def test_a_model_of_nobodys_library_is_inspected(inspect: Inspect, user_file: UserFile) -> None:
    user_file(
        "from tests.measure.custom_models import ASKED, HeadAtRoot\n\n"
        "def build():\n    return HeadAtRoot(), dict(ASKED)\n"
    )

    found = inspect("models.py:build", "--json").json

    assert (found["phase_map"]["step"], found["phase_map"]["prompt_end"]) == ("text", "lm_head")
    heads = [call for call in found["calls"] if call["what"] == "lm_head"]
    n_by_phase = {head["phase"]: head["n_calls"] for head in heads}
    assert n_by_phase == {"prefill": 1, "decode": None}
    assert [check["verdict"] for check in found["checks"]] == ["says nothing"] * 3


def test_text_alone_has_no_vision(inspect: Inspect, user_file: UserFile) -> None:
    user_file(
        "def text_alone():\n    specimen = specimen_of('llava')\n"
        "    return specimen.model, specimen.text_inputs\n"
    )

    run = inspect("models.py:text_alone")

    assert "  No image was passed, so no vision ran.\n" in run.out
    assert "\n  vision   0\n" in run.out
    assert "vision_tower                   23.9 K  not run\n" in run.out


def test_padding_is_told_apart(inspect: Inspect, user_file: UserFile) -> None:
    user_file(
        "import torch\n\n"
        "def build():\n"
        "    model, inputs = zoo('llava')\n"
        "    ids, mask = inputs['input_ids'], inputs['attention_mask']\n"
        "    padding = torch.zeros_like(ids[:, :3])\n"
        "    ids, mask = torch.cat([padding, ids], 1), torch.cat([padding, mask], 1)\n"
        "    return model, {**inputs, 'input_ids': ids, 'attention_mask': mask}\n"
    )

    run = inspect("models.py:build")

    assert "  text     9, and 3 of padding beside them\n" in run.out
    assert "28 positions into the first block: vision and text joined\n" in run.out


def test_a_second_turn_has_its_new_tokens_alone(inspect: Inspect, user_file: UserFile) -> None:
    user_file(
        "import torch\n"
        "from transformers import DynamicCache\n\n"
        "def second_turn():\n"
        "    specimen = specimen_of('llava')\n"
        "    model, text = specimen.model, specimen.text_inputs\n"
        "    ids = torch.cat([text['input_ids'], text['input_ids'][:, 1:]], dim=1)\n"
        "    def fresh():\n"
        "        cache = DynamicCache(config=model.config)\n"
        f"        model(**text, {CACHE}=cache, use_cache=True)\n"
        f"        return {{'input_ids': ids, '{CACHE}': cache}}\n"
        "    return model, fresh\n"
    )

    found = inspect("models.py:second_turn", "--json").json

    n_new = found["tokens"]["n_text"]
    assert (found["tokens"]["n_block_positions"], found["tokens"]["n_padding"]) == (n_new, 0)
    assert f"int64[1, {2 * n_new + 1}]" == found["workload"]["inputs"]["input_ids"]
    assert found["labels"] == ["continued"]
    assert "No image was passed" not in inspect("models.py:second_turn").out


def test_a_draft_is_no_part_of_the_prompt(inspect: Inspect, user_file: UserFile) -> None:
    user_file(
        "import copy\n\n"
        "def build():\n    model, inputs = zoo('llava')\n"
        "    return model, {**inputs, 'assistant_model': copy.deepcopy(model)}\n"
    )

    tokens = inspect("models.py:build", "--json").json["tokens"]

    assert tokens["n_block_positions"] == tokens["n_vision"] + tokens["n_text"] == 25
    assert sum(tokens["accepted_lengths"]) == tokens["n_output"] == 8


def test_a_single_token_has_no_decode_step(inspect: Inspect, user_file: UserFile) -> None:
    user_file("def build():\n    return zoo('llava')\n")

    run = inspect("models.py:build", "--max-new-tokens", "1")

    assert "\n  decode   never     the model, LlavaForConditionalGeneration\n" in run.out
    assert "  decode   0 steps after the prompt's, 1 token out (greedy)\n" in run.out


@pytest.mark.skipif(
    not CHUNKS_BY_CALL, reason="this transformers cannot prefill an image in chunks"
)
def test_a_chunked_prompt_says_what_it_hides(inspect: Inspect, user_file: UserFile) -> None:
    user_file(
        "def build():\n    model, inputs = zoo('llava')\n"
        "    return model, {**inputs, 'prefill_chunk_size': 10}\n"
    )

    run = inspect("models.py:build")

    assert "  prefill  3 forwards, the prompt in chunks\n" in run.out
    assert "  - what the first block was given: the prompt took several forwards\n" in run.out


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def other(): ...", "models.py has no build; it has zoo, other"),
        ("def biuld(): ...", "models.py has no build; did you mean models.py:biuld?"),
        ("build = 3", "build in models.py is no function; it has zoo"),
        (
            "def build(name, size=1): ...",
            "build() in models.py takes name; expected a function that can be called without",
        ),
        ("def build(): return 3", f"models.py:build returned int{EXPECTED}"),
        ("def build(): return 1, 2, 3", f"models.py:build returned (int, int, int){EXPECTED}"),
        ("def build(): return zoo('llava')[0], 3", f"{EXPECTED}"),
        ("def build(): return print, {}", f"(builtin_function_or_method, ...){EXPECTED}"),
        ("def build(): return (lambda: 3), {}", f"(function, ...){EXPECTED}"),
        (
            "import torch\ndef build(): return torch.nn.Linear(1, 1), {}",
            "models.py:build returned a Linear, which has no generate()",
        ),
        (
            "def build(): return zoo('llava')[0], list",
            "the function of inputs from models.py:build returned list; expected a mapping",
        ),
    ],
)
def test_a_function_that_cannot_be_used_says_why(
    inspect: Inspect, user_file: UserFile, code: str, message: str
) -> None:
    user_file(code + "\n")

    run = inspect("models.py:build")

    assert (run.status, run.out) == (2, "")
    assert message in run.err


def test_a_file_without_a_function_named_lists_its_functions(
    inspect: Inspect, user_file: UserFile
) -> None:
    user_file("def build(): ...\ndef _own(): ...\n")

    run = inspect("models.py")

    assert run.err == (
        "vlmlatency: UsageProblem: models.py names no function; expected models.py:function; it "
        "has zoo, build\n"
    )


def test_options_for_loading_are_refused_beside_a_function(
    inspect: Inspect, user_file: UserFile
) -> None:
    user_file("def build(): ...\n")

    run = inspect("models.py:build", "--device", "cpu", "--prompt", "x")

    assert run.status == 2
    assert (
        "--device, --prompt are for a model that is loaded here; models.py:build makes its own"
        in run.err
    )


def test_an_error_of_the_users_own_keeps_its_traceback(
    inspect: Inspect, user_file: UserFile
) -> None:
    user_file("def build():\n    raise KeyError('mine')\n")

    with pytest.raises(KeyError, match="mine"):
        inspect("models.py:build")


def test_a_file_finds_its_neighbours(inspect: Inspect, user_file: UserFile) -> None:
    path = user_file("import neighbour_of_models\n\ndef build():\n    return zoo('llava')\n")
    path.with_name("neighbour_of_models.py").write_text("", encoding="utf-8")

    assert inspect("models.py:build").status == 0
