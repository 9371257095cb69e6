"""`vlmlatency inspect` from end to end: what a user sees, and how it ends."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from transformers import PreTrainedModel

from pytest_vlmlatency.inspection.findings import Inspection
from pytest_vlmlatency.models.load import LoadedModel, load_model
from pytest_vlmlatency.plain import from_plain
from tests.inspection.conftest import Inspect
from tests.inspection.runs import Run
from tests.projects import REPOSITORY
from tests.zoo import is_available
from tests.zoo.earlier import ENCODES_FIRST
from tests.zoo.once import refused

NANO = "dummy:molmoe-nano"
ZooModel = Callable[[str], str]
UserFile = Callable[[str], Path]

has_llama4 = pytest.mark.skipif(not is_available("llama4"), reason="transformers' own is broken")

MLLAMA_PAGE = """\
models.py:build_it
  a model of that function's own
  MllamaForConditionalGeneration, 247 K parameters, float32, sdpa attention, on
  cpu

module                           parameters  runs in [role]
MllamaForConditionalGeneration        247 K  [step, prompt end]
├─ model                              228 K
│  ├─ vision_model                   54.0 K  vision [vision]
│  ├─ language_model                  168 K
│  │  ├─ embed_tokens                19.7 K  prefill, decode
│  │  ├─ layers.0..3 (4 blocks)       148 K  prefill, decode [blocks]
│  │  └─ norm                            64  prefill, decode
│  └─ multi_modal_projector          6.21 K  vision [vision]
└─ lm_head                           19.2 K  prefill, decode

calls in one generate()
  prefill  once      the model, MllamaForConditionalGeneration
  vision   once      model.vision_model, inside the model
  vision   once      model.multi_modal_projector, inside the model
  decode   7 times   the model, MllamaForConditionalGeneration
  Vision runs inside the prompt's forward.

tokens, as the decoder sees them
  vision   68
  text     10
  prefill  1 forward, 10 positions into the first block: text alone, which
           attends to vision from the side
  decode   7 steps after the prompt's, 8 tokens out (greedy)

what the model says of itself, against what ran
{says}

could not be told
  - the vision tokens of each image: inputs of your own do not say how many
    images they are

No times: one call is no measurement. The vlm_latency fixture measures; --trace
FILE shows how one call went.
"""


NAMES_ENCODERS = hasattr(PreTrainedModel, "get_encoder")
"""Whether a model of the installed transformers can be asked for its vision tower."""
SAYS_ALL = """\
  agrees  get_encoder(modality="image") says model.vision_model
  agrees  get_decoder() says model.language_model
  agrees  config says 4 blocks"""
SAYS_LITTLE = """\
  says nothing  get_encoder(modality="image"); vision is model.vision_model,
                model.multi_modal_projector
  agrees        get_decoder() says model.language_model
  agrees        config says 4 blocks"""

AT_FIRST = "before" if ENCODES_FIRST else "inside"
"""Where vision runs of a model whose images generate() encodes before its loop, if it ever does."""


def rows(run: Run) -> dict[str, list[str]]:
    """Return the phases of each row of the tree, by path."""
    return {row["path"]: row["phases"] for row in run.json["modules"]}


def test_a_page_is_pinned_whole(inspect: Inspect, zoo_model: ZooModel) -> None:
    run = inspect(zoo_model("mllama"))

    page = MLLAMA_PAGE.format(says=SAYS_ALL if NAMES_ENCODERS else SAYS_LITTLE)
    assert (run.status, run.out, run.err) == (0, page, "")


def test_a_dummy_is_inspected_on_the_bundled_photograph(inspect: Inspect) -> None:
    found = inspect(NANO, "--json").json

    assert found["tokens"]["per_image"] == [found["tokens"]["n_vision"]] == [96]
    assert found["workload"]["generation"]["max_new_tokens"] == 8
    assert found["phase_map"]["vision_runs"] == AT_FIRST
    assert found["untold"] == []


def test_the_json_can_be_read_back_as_what_it_was_made_of(inspect: Inspect) -> None:
    found = from_plain(Inspection, inspect(NANO, "--json").json)

    assert found.source == NANO
    assert found.schema_version == 1
    assert len(found.phase_map.blocks) == 16


def test_parameters_of_a_tree_add_up_to_the_models(inspect: Inspect) -> None:
    modules = inspect(NANO, "--json").json["modules"]
    n_below = sum(row["n_parameters"] for row in modules if row["depth"] == 1)

    assert modules[0]["n_parameters"] == n_below > 0


def test_a_saved_folder_is_inspected_with_a_picture_and_a_prompt_of_ones_own(
    inspect: Inspect, tmp_path: Path
) -> None:
    loaded = load_model("dummy:llava-tiny")
    loaded.model.save_pretrained(tmp_path / "saved")
    loaded.processor.save_pretrained(tmp_path / "saved")  # type: ignore[attr-defined]  # a ProcessorMixin
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")

    run = inspect(
        str(tmp_path / "saved"),
        *("--image", "red.png", "--prompt", "Red?", "--max-new-tokens", "3", "--json"),
    )

    assert run.json["tokens"]["n_decode_steps"] == 2
    assert run.json["tokens"]["n_images"] == 1
    assert run.json["description"].startswith("LlavaForConditionalGeneration from ")


def test_each_of_several_pictures_has_its_tokens(inspect: Inspect, tmp_path: Path) -> None:
    Image.new("RGB", (56, 56)).save(tmp_path / "small.png")
    Image.new("RGB", (112, 112)).save(tmp_path / "large.png")

    run = inspect(
        *("dummy:qwen2-vl-tiny", "--image", "small.png", "--image", "large.png", "--json")
    )

    small, large = run.json["tokens"]["per_image"]
    assert large > small > 0
    assert small + large == run.json["tokens"]["n_vision"]


@pytest.mark.parametrize(
    ("name", "vision_runs", "n_positions"),
    [
        ("llava", AT_FIRST, 16 + 9),
        ("mllama", "inside", 10),
        pytest.param("git", "inside", 17 + 9, marks=refused),
        ("florence2", "before", 1),
        ("blip-2", "before", 4 + 9),
        ("qwen2_vl", AT_FIRST, 4 + 9),
        pytest.param("llama4", "both" if ENCODES_FIRST else "inside", 8 + 9, marks=has_llama4),
    ],
)
def test_families_differ_in_where_vision_runs_and_what_the_blocks_are_given(
    inspect: Inspect, zoo_model: ZooModel, name: str, vision_runs: str, n_positions: int
) -> None:
    found = inspect(zoo_model(name), "--json").json

    assert found["phase_map"]["vision_runs"] == vision_runs
    assert found["tokens"]["n_block_positions"] == n_positions


@pytest.mark.skipif(
    not is_available("glm5_next"), reason="this transformers has no such architecture"
)
def test_a_block_whose_states_have_a_further_dimension_shows_its_positions(
    inspect: Inspect, zoo_model: ZooModel
) -> None:
    """Four streams a position stand between the positions and the width."""
    found = inspect(zoo_model("glm5_next"), "--json").json

    assert found["tokens"]["n_block_positions"] == 13


def test_a_text_encoder_is_shown_apart_from_vision_and_blocks(
    inspect: Inspect, zoo_model: ZooModel
) -> None:
    found = rows(inspect(zoo_model("florence2"), "--json"))

    assert found["model.vision_tower"] == ["vision"]
    assert found["model.language_model.encoder"] == ["text_encoder"]
    assert found["model.language_model.decoder.layers.0"] == ["prefill", "decode"]


def test_what_a_feature_method_runs_is_listed_with_it(
    inspect: Inspect, zoo_model: ZooModel
) -> None:
    calls = inspect(zoo_model("llava"), "--json").json["calls"]

    assert [call for call in calls if call["phase"] == "vision"] == [
        {
            "what": "model.get_image_features",
            "phase": "vision",
            "n_calls": 1,
            "within": None if ENCODES_FIRST else "",
            "inside": ["model.vision_tower", "model.multi_modal_projector"],
        }
    ]
    assert [(call["phase"], call["n_calls"]) for call in calls if call["phase"] != "vision"] == [
        ("prefill", 1),
        ("decode", 7),
    ]


def test_a_call_outside_every_phase_is_other(inspect: Inspect, zoo_model: ZooModel) -> None:
    calls = inspect(zoo_model("blip-2"), "--json").json["calls"]

    assert [call["what"] for call in calls if call["phase"] == "other"] == [
        "language_model.model.decoder.embed_tokens"
    ]


def test_disagreement_with_the_configuration_is_reported_and_changes_nothing(
    inspect: Inspect, user_file: UserFile
) -> None:
    user_file(
        "def build_it():\n    model, inputs = zoo('llava')\n"
        "    model.config.text_config.num_hidden_layers = 7\n    return model, inputs\n"
    )

    run = inspect("models.py:build_it")

    assert run.status == 0
    assert re.search("^  disagrees +config says 7 blocks; 4 blocks ran$", run.out, re.MULTILINE)


def test_phases_named_by_hand_are_used(inspect: Inspect, zoo_model: ZooModel) -> None:
    run = inspect(zoo_model("mllama"), "--phase", "vision=model.vision_model", "--json")

    assert run.json["phase_map"]["vision"] == ["model.vision_model"]
    assert rows(run)["model.multi_modal_projector"] == ["prefill"]


def test_phases_that_cannot_be_found_are_the_fixtures_error(
    inspect: Inspect, user_file: UserFile
) -> None:
    user_file(
        "from tests.measure.custom_models import ASKED, Captioner\n\n"
        "class Loose(Captioner):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.blocks = self.blocks[:0]\n\n"
        "def build_it():\n    return Loose(), dict(ASKED)\n"
    )

    run = inspect("models.py:build_it", "--json")

    assert run.status == 1
    assert run.json["error"]["kind"] == "PhasesNotFound"
    assert run.json["error"]["message"].startswith("no list of blocks was seen whose children run")
    assert run.err == (
        f"vlmlatency: PhasesNotFound: {run.json['error']['message']}\n"
        "Try names here first: --phase vision=PATH,PATH --phase blocks=PATH --phase step=PATH\n"
    )


def test_what_a_measurement_refuses_is_refused(inspect: Inspect, user_file: UserFile) -> None:
    user_file(
        "def build_it():\n    model, inputs = zoo('git')\n"
        "    return model, {**inputs, 'use_cache': False}\n"
    )

    run = inspect("models.py:build_it")

    assert (run.status, run.out) == (1, "")
    assert "InvalidMeasurement: " in run.err
    assert "expected vision to run once" in run.err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["dummy:molmoe-nan"], 2, "did you mean dummy:molmoe-nano?"),
        (["molmoe-nano/"], 1, "there is no folder molmoe-nano/, and it is no hub id either"),
        (["nowhere.py:build"], 2, "there is no file nowhere.py; expected path.py:function"),
        ([NANO, "--image", "no.png"], 2, "--image no.png: there is no such file"),
        ([NANO, "--image", "."], 2, "--image .: there is no such file"),
        ([NANO, "--max-new-tokens", "0"], 2, "--max-new-tokens is 0; expected at least 1"),
        ([NANO, "--threads", "-1"], 2, "--threads is -1; expected 0 or more"),
        ([NANO, "--trace", "no/t.json"], 2, "--trace no/t.json: there is no folder no"),
        ([NANO, "--trace-blocks"], 2, "--trace-blocks adds to a trace"),
        ([NANO, "--trace-tokens"], 2, "--trace-tokens adds to a trace"),
        ([NANO, "--phase", "tower=x"], 2, "--phase tower=x: expected NAME=PATH[,PATH...]"),
        ([NANO, "--phase", "vision=model.tower"], 2, "near matches: "),
        ([NANO, "--dtype", "float64"], 2, "dtype is 'float64'; expected one of auto"),
    ],
)
def test_a_wrong_command_line_says_what_was_expected(
    inspect: Inspect, arguments: list[str], status: int, message: str
) -> None:
    run = inspect(*arguments)

    assert (run.status, run.out) == (status, "")
    assert message in run.err


def test_a_file_that_is_no_picture_is_named(inspect: Inspect, tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("no picture", encoding="utf-8")

    run = inspect(NANO, "--image", "words.png")

    assert run.status == 2
    assert "--image words.png: it is no picture that Pillow can read" in run.err


@has_llama4
def test_a_narrow_terminal_shortens_names_and_wraps_roles(
    inspect: Inspect, zoo_model: ZooModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = zoo_model("llama4")
    monkeypatch.setenv("COLUMNS", "20")

    tree = inspect(model).out.partition("\nmodule")[2].splitlines()

    assert tree[1:3] == [
        "Llama4ForConditionalGen…       629 K  [step, prompt end,",
        "│                                     get_image_features()]",
    ]


def test_a_processor_that_cannot_be_used_says_so(
    inspect: Inspect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(*_: object) -> None:
        raise KeyError("tiles")

    monkeypatch.setattr(LoadedModel, "prepare", prepare)

    run = inspect(NANO)

    assert run.status == 1
    assert run.err == (
        "vlmlatency: ModelNotLoaded: dummy:molmoe-nano was loaded, but its MolmoeProcessor could "
        "not make inputs of a picture and a prompt: KeyError: 'tiles'. Make them in a function of "
        "your own: vlmlatency inspect path.py:function\n"
    )


def test_without_photographs_a_picture_of_ones_own_is_asked_for(
    inspect: Inspect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_vlmlatency.models.images.find_spec", lambda _name: None)

    run = inspect(NANO)

    assert run.status == 2
    assert run.err.endswith("; or give a picture of your own: --image FILE\n")


def test_progress_is_shown_where_somebody_watches(
    inspect: Inspect, zoo_model: ZooModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = zoo_model("llava")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)

    run = inspect(model)

    assert run.err == (
        "loading models.py:build_it ...\nfinding the phases ...\none measured call ...\n"
    )


def test_a_refusal_before_loading_is_json_too(inspect: Inspect) -> None:
    run = inspect("dummy:molmoe-nan", "--json")

    assert run.json["source"] == "dummy:molmoe-nan"
    assert run.json["schema_version"] == 1
    assert run.json["error"]["kind"] == "UsageProblem"


def test_a_dummys_name_without_its_prefix_gets_a_hint(
    inspect: Inspect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_vlmlatency.models.load.hub_answers", lambda _name: False)

    run = inspect("molmoe-nano")

    assert run.status == 1
    assert run.err.endswith("Did you mean dummy:molmoe-nano?\n")


def test_the_documented_keys_are_those_that_are_printed(inspect: Inspect) -> None:
    found = inspect(NANO, "--json").json
    text = (REPOSITORY / "docs" / "inspecting.md").read_text(encoding="utf-8")
    table = text.partition("## JSON\n")[2].partition("\nWhere inspection is refused")[0]
    rows = [line.split(" | ", 1) for line in table.splitlines() if line.startswith("| `")]
    documented = {name: holds for keys, holds in rows for name in re.findall(r"`(\w+)`", keys)}

    assert set(documented) == set(found)
    for key in ("modules", "calls", "checks"):
        assert set(found[key][0]) <= set(re.findall(r"`(\w+)`", documented[key]))
    assert set(found["tokens"]) == set(re.findall(r"`(\w+)`", documented["tokens"]))
