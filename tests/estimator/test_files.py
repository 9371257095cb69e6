"""A file is read as data: what `save` wrote comes back, and nothing else is taken for it."""

import hashlib
import json
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.columns import Knob
from pytest_vlmlatency.estimator.files import load_estimator
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from pytest_vlmlatency.estimator.state import OtherMachine
from tests.estimator.machines import simulated
from tests.estimator.test_roofline import A_CONFIG


@pytest.fixture
def saved(fitted: RooflineEstimator, tmp_path: Path) -> Path:
    path = tmp_path / "estimator.json"
    fitted.save(path)
    return path


def sealed(document: dict[str, object]) -> str:
    """Return a document with the digest that belongs to it, as a forger would."""
    content = {"state": document["state"], "model": document["model"]}
    text = json.dumps([document["kind"], content], sort_keys=True)
    return json.dumps(document | {"digest": hashlib.sha256(text.encode()).hexdigest()})


def test_a_saved_estimator_predicts_the_same_when_it_is_loaded(
    fitted: RooflineEstimator, saved: Path
) -> None:
    loaded = load_estimator(saved)

    assert loaded.predict(A_CONFIG) == fitted.predict(A_CONFIG)
    for q in (0.05, 0.5, 0.95):
        before, after = fitted.predict_quantile(A_CONFIG, q), loaded.predict_quantile(A_CONFIG, q)
        assert {name: ms[0] for name, ms in after.items()} == {
            name: ms[0] for name, ms in before.items()
        }
    assert (loaded.machine, loaded.inputs) == (fitted.machine, fitted.inputs)


def test_what_was_learnt_online_travels_along(updated: RooflineEstimator, tmp_path: Path) -> None:
    for record in simulated(10, factor=1.15, seed=8):
        updated.update(record)

    updated.save(tmp_path / "updated.json")

    loaded = load_estimator(tmp_path / "updated.json")
    assert loaded.predict(A_CONFIG) == updated.predict(A_CONFIG)


def test_declared_knobs_travel_along(tmp_path: Path) -> None:
    records = [record | {"dtype": "float16", "batch_size": 2} for record in simulated(50)]
    knobs = ("batch_size", Knob("dtype", is_category=True))
    estimator = RooflineEstimator(knobs=knobs).fit(records)

    estimator.save(tmp_path / "knobs.json")

    loaded = load_estimator(tmp_path / "knobs.json")
    config = A_CONFIG | {"dtype": "float16", "batch_size": 2}
    assert loaded.predict(config) == estimator.predict(config)


def test_a_file_saved_again_is_the_same(saved: Path, tmp_path: Path) -> None:
    load_estimator(saved).save(tmp_path / "again.json")

    assert (tmp_path / "again.json").read_text() == saved.read_text()


def test_nothing_else_is_left_beside_a_file(saved: Path) -> None:
    assert list(saved.parent.iterdir()) == [saved]


def test_a_changed_coefficient_is_found(saved: Path) -> None:
    document = json.loads(saved.read_text())
    document["model"]["prefill"]["coefficients"][0] *= 2
    saved.write_text(json.dumps(document))

    with pytest.raises(
        EstimatorProblem, match=r"has the digest .* this one was changed afterwards"
    ):
        load_estimator(saved)


def changed(path: list[str | int], value: object) -> object:
    return pytest.param(path, value, id=f"{'.'.join(map(str, path))}={value!r}"[:60])


@pytest.mark.parametrize(
    ("where", "value"),
    [
        changed(["model", "prefill", "coefficients", 0], -1.0),
        changed(["model", "prefill", "coefficients", 0], "3.5"),
        changed(["model", "prefill", "coefficients", 0], None),
        changed(["model", "prefill", "coefficients"], []),
        changed(["model", "prefill", "terms"], 7),
        changed(
            ["model", "prefill", "terms", 0], [{"name": "tokens", "shape": "exec", "at": None}]
        ),
        changed(["model", "prefill", "terms", 0], [{"name": "gpu", "shape": "amount", "at": None}]),
        changed(
            ["model", "prefill", "terms", 0], [{"name": "tokens", "shape": "rounded_up", "at": 0.0}]
        ),
        changed(
            ["model", "prefill", "terms", 0], [{"name": "tokens", "shape": "above", "at": None}]
        ),
        changed(["model", "inputs"], ["top_k"]),
        changed(["model", "surplus"], 1),
        changed(["state", "spreads"], {}),
        changed(["state", "spreads", "T_prefill_total", "inside"], [2.0, 1.0]),
        changed(["state", "spreads", "T_prefill_total", "inside"], [-1.0]),
        changed(["state", "drifts", "T_prefill_total", "log_ratio"], "0"),
        changed(["state", "drifts", "T_prefill_total", "n_records"], -1),
        changed(["state", "drifts"], {}),
        changed(["state", "ranges", "tokens"], [5.0, 1.0]),
        changed(["state", "output_tokens"], [1.0]),
        changed(["state", "machine"], 5),
        changed(["state", "tokens", "text_tokens", ""], [5.0, 1.0, 2.0]),
        changed(["state", "tokens", "text_tokens", ""], [1.0, 2.0]),
        changed(["state", "inputs"], ["top_k"]),
        changed(["state"], []),
        changed(["model"], None),
        changed(["kind"], "os.system"),
        changed(["kind"], ["roofline"]),
        changed(["schema_version"], 3),
        changed(["schema_version"], 1.0),
        changed(["format"], "pickle"),
        changed(["surplus"], 1),
    ],
)
def test_a_forged_value_is_refused_even_with_a_digest(
    saved: Path, where: list[str | int], value: object
) -> None:
    document = json.loads(saved.read_text())
    inner = document
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    saved.write_text(sealed(document))

    with pytest.raises(
        EstimatorProblem, match=r"is no estimator that can be trusted: .*; expected"
    ):
        load_estimator(saved)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04\x95",
        b"null",
        b"[]",
        b'{"format": "vlmlatency-estimator"}',
        b"[" * 100_000,
        b'{"format": ' + b"9" * 5000 + b"}",
        b'{"format": NaN}',
        "{'format'}".encode("utf-16"),
    ],
    ids=["empty", "pickle", "null", "list", "bare", "deep", "huge", "nan", "utf-16"],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.json"
    path.write_bytes(content)

    with pytest.raises(EstimatorProblem, match="is no estimator that can be trusted"):
        load_estimator(path)


@pytest.mark.parametrize("value", ["1e999", "-1e999", "[" * 900 + "]" * 900], ids=len)
def test_a_number_without_end_or_deep_nesting_is_refused(saved: Path, value: str) -> None:
    content = saved.read_text()
    saved.write_text(content.replace('"n_records": 1500', f'"n_records": {value}'))

    with pytest.raises(EstimatorProblem, match="is no estimator that can be trusted"):
        load_estimator(saved)


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("random") / "estimator.json"
    path.write_bytes(content)

    with pytest.raises(EstimatorProblem, match="is no estimator that can be trusted"):
        load_estimator(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])

    with pytest.raises(EstimatorProblem, match="it is not JSON"):
        load_estimator(saved)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(EstimatorProblem, match=r"there is no file .*none\.json"):
        load_estimator(tmp_path / "none.json")
    with pytest.raises(EstimatorProblem, match="cannot be read"):
        load_estimator(tmp_path)


def test_another_machine_warns(saved: Path) -> None:
    with pytest.warns(OtherMachine, match="was measured on the machine aa, and is used for bb"):
        load_estimator(saved, machine="bb")


def test_the_same_machine_does_not_warn(saved: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_estimator(saved, machine="aa")
        load_estimator(saved)


def test_a_file_of_the_first_version_is_read_without_counts_of_tokens(saved: Path) -> None:
    document = json.loads(saved.read_text())
    document["schema_version"] = 1
    del document["state"]["tokens"]
    saved.write_text(sealed(document))

    estimator = load_estimator(saved)

    assert isinstance(estimator, RooflineEstimator)
    assert estimator.state.tokens == {}
