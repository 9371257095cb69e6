"""What is a data set, and what is refused as one."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from pytest_vlmlatency.errors import InvalidMeasurement, UsageProblem
from pytest_vlmlatency.profiling import dataset as room
from pytest_vlmlatency.profiling.dataset import Columns, open_dataset
from tests.folders import forbid_reading
from tests.profiling.datasets import a_picture, questions


def test_lines_are_samples_with_pictures_beside_the_file(tmp_path: Path) -> None:
    dataset = open_dataset(questions(tmp_path, max_new_tokens=7))

    assert dataset.name == "questions"
    assert [sample.prompt for sample in dataset.samples] == [
        "What is in picture 0?",
        "What is in picture 1?",
    ]
    assert [sample.n_new_tokens for sample in dataset.samples] == [7, 7]
    assert [image.size for image in dataset.samples[0].open_images()] == [(32, 24)]


def test_an_edited_line_is_another_sample(tmp_path: Path) -> None:
    before = open_dataset(questions(tmp_path)).samples[0].id

    assert open_dataset(questions(tmp_path, max_new_tokens=3)).samples[0].id != before


def test_a_line_may_have_several_pictures_and_an_id(tmp_path: Path) -> None:
    path = questions(tmp_path, 1, image=["a.png", "a.png"], id="mine")

    [sample] = open_dataset(path).samples

    assert (sample.id, len(sample.open_images())) == ("mine", 2)


def test_only_the_first_samples_are_taken_on_demand(tmp_path: Path) -> None:
    assert len(open_dataset(questions(tmp_path, 5), limit=2).samples) == 2


def test_a_folder_of_images_is_asked_one_prompt(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("b.png", "a.JPG"):
        a_picture(tmp_path / "photos" / name)

    dataset = open_dataset(tmp_path / "photos", prompt="What is this?")

    assert [sample.id[:5] for sample in dataset.samples] == ["a.JPG", "b.png"]
    assert dataset.samples[0].open_images()[0].size == (32, 24)


def test_a_picture_that_is_none_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    path = questions(tmp_path, 1)
    (tmp_path / "a.png").write_text("no picture")
    [sample] = open_dataset(path).samples

    with pytest.raises(InvalidMeasurement, match="no picture that can be read"):
        sample.open_images()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 1 is no JSON"),
        ("[" * 100_000, "line 1 is no JSON"),
        ("7", "has no prompt"),
        ('{"image": "a.png"}', "has no prompt"),
        ('{"image": "b.png", "prompt": "x"}', "there is no image"),
        ('{"image": 7, "prompt": "x"}', "image is 7; expected a path"),
        ('{"image": "a.png", "prompt": "x", "answer": "y"}', "has answer; expected id"),
        ('{"image": "a.png", "prompt": "x", "max_new_tokens": 0}', "max_new_tokens is 0"),
        ('{"image": "a.png", "prompt": "x", "max_new_tokens": true}', "max_new_tokens is True"),
        ("", "has no sample in it"),
    ],
)
def test_a_line_that_is_no_sample_is_named(tmp_path: Path, line: str, words: str) -> None:
    a_picture(tmp_path / "a.png")
    (tmp_path / "x.jsonl").write_text(line)

    with pytest.raises(UsageProblem, match=words):
        open_dataset(tmp_path / "x.jsonl")


def test_two_samples_of_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="two samples of the id 'same'"):
        open_dataset(questions(tmp_path, 2, id="same"))


def test_places_that_are_no_data_set_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="no file or folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(UsageProblem, match="a folder without images"):
        open_dataset(tmp_path, prompt="x")
    a_picture(tmp_path / "a.png")
    with pytest.raises(UsageProblem, match="say what to ask: --prompt"):
        open_dataset(tmp_path)


def test_a_folder_of_datasets_without_the_package_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dataset_info.json").write_text("{}")
    monkeypatch.setattr(room, "find_spec", lambda _name: None)

    with pytest.raises(UsageProblem, match="pip install datasets, or write JSON Lines"):
        open_dataset(tmp_path)


class _Rows:
    column_names = ("image", "question")

    def __getitem__(self, key: object) -> object:
        rows = [{"image": Image.new("L", (8, 8)), "question": "What?"}, {"image": 7}]
        return ["What?", "Why?"] if key == "question" else rows[int(str(key))]


@pytest.fixture
def _datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the package `datasets`, with one split of two rows."""
    (tmp_path / "dataset_dict.json").write_text("{}")
    package = ModuleType("datasets")
    kind = type("DatasetDict", (dict,), {})
    vars(package).update(DatasetDict=kind, load_from_disk=lambda _path: kind(test=_Rows()))
    monkeypatch.setitem(sys.modules, "datasets", package)
    monkeypatch.setattr(room, "find_spec", lambda _name: object())


@pytest.mark.usefixtures("_datasets")
def test_a_folder_of_datasets_is_read_by_its_columns(tmp_path: Path) -> None:
    columns = Columns(prompt="question", split="test")

    first, second = open_dataset(tmp_path, columns=columns).samples

    assert (first.prompt, second.prompt) == ("What?", "Why?")
    assert [(image.size, image.mode) for image in first.open_images()] == [((8, 8), "RGB")]
    with pytest.raises(InvalidMeasurement, match="image holds int; expected pictures"):
        second.open_images()


@pytest.mark.usefixtures("_datasets")
@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (Columns(), "--split is None; this data set has test"),
        (Columns(split="test"), "--prompt-column prompt: the columns are image, question"),
        (Columns(split="test", image="x"), "--image-column x: the columns are"),
    ],
)
def test_a_column_or_split_that_is_not_there_is_named(
    tmp_path: Path, columns: Columns, words: str
) -> None:
    with pytest.raises(UsageProblem, match=words):
        open_dataset(tmp_path, columns=columns)


@pytest.mark.parametrize("name", ["x" * 5000, "x\0"])
def test_a_name_that_no_disk_takes_is_no_data_set(name: str) -> None:
    with pytest.raises(UsageProblem, match="there is no file or folder x"):
        open_dataset(Path(name))


@pytest.mark.parametrize("name", ["x" * 5000, "x\0", "\ud800"])
def test_a_line_with_a_name_that_no_disk_takes_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageProblem, match="line 1: there is no image "):
        open_dataset(questions(tmp_path, 1, image=name))


def test_a_line_may_not_have_a_folder_or_a_pipe_for_an_image(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match=r"the image .* is a folder; expected a file"):
        open_dataset(questions(tmp_path, 1, image="."))
    os.mkfifo(tmp_path / "b.png")
    with pytest.raises(UsageProblem, match="is neither a file nor a folder"):
        open_dataset(questions(tmp_path, 1, image="b.png"))


def test_a_pipe_among_images_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "b.png")
    [sample] = open_dataset(tmp_path, prompt="x").samples

    with pytest.raises(InvalidMeasurement, match="it is no file"):
        sample.open_images()


def test_a_folder_of_images_must_be_readable_throughout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_picture(tmp_path / "a.png")
    (tmp_path / "secret").mkdir()
    forbid_reading(tmp_path / "secret", monkeypatch)

    with pytest.raises(UsageProblem, match="secret cannot be read: Permission denied"):
        open_dataset(tmp_path, prompt="x")


def test_a_picture_too_large_to_be_meant_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [sample] = open_dataset(questions(tmp_path, 1)).samples
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)

    with pytest.raises(InvalidMeasurement, match="exceeds limit of 20 pixels"):
        sample.open_images()


@pytest.mark.parametrize("at", range(8, 70, 3))
def test_a_damaged_picture_is_refused_or_read(tmp_path: Path, at: int) -> None:
    [sample] = open_dataset(questions(tmp_path, 1)).samples
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:at] + b"\xff\xff\xff" + content[at + 3 :])

    with suppress(InvalidMeasurement):
        assert sample.open_images()[0].mode == "RGB"


@pytest.mark.usefixtures("_datasets")
def test_a_damaged_folder_of_datasets_is_named(tmp_path: Path) -> None:
    def damaged(_path: str) -> object:
        raise FileNotFoundError("no state.json in it")

    vars(sys.modules["datasets"])["load_from_disk"] = damaged
    with pytest.raises(UsageProblem, match=r"save_to_disk .* wrote: no state.json in it"):
        open_dataset(tmp_path)
