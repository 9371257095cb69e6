from __future__ import annotations

import json
from types import SimpleNamespace

import execnet
import torch

from pytest_vlmlatency.fixture import VlmLatency
from pytest_vlmlatency.measure.case import Identity
from pytest_vlmlatency.plain import from_plain
from pytest_vlmlatency.records import Case, Environment, with_devices_of_all
from pytest_vlmlatency.session.delivery import attach, packed, parcel_on
from pytest_vlmlatency.session.measurement import MeasurementInTurn
from tests.cases import a_case
from tests.fake_engine import FakeEngine


class Model(torch.nn.Module):
    def generate(self) -> str:
        return "a cat"


def a_fixture(*, is_disabled: bool = False) -> VlmLatency:
    measurement = MeasurementInTurn(
        engine=FakeEngine(),
        identity=Identity(id="test_x.py::test_a", name="test_a", test="test_x.py::test_a"),
        is_disabled=is_disabled,
    )
    return VlmLatency(measurement, layers=())


def a_report(when: str) -> SimpleNamespace:
    return SimpleNamespace(nodeid="test_x.py::test_a", when=when)


def test_the_setups_report_announces_the_test() -> None:
    report = a_report("setup")

    attach(report, a_fixture())  # type: ignore[arg-type]  # stands for a report

    parcel = parcel_on(report)  # type: ignore[arg-type]
    assert parcel == {
        "test": "test_x.py::test_a",
        "cases": [],
        "environment": "",
        "waited_ms": 0.0,
    }


def test_the_calls_report_carries_the_case_and_the_next_one_nothing() -> None:
    fixture = a_fixture()
    fixture(Model().generate)
    call, teardown = a_report("call"), a_report("teardown")

    attach(call, fixture)  # type: ignore[arg-type]
    attach(teardown, fixture)  # type: ignore[arg-type]

    parcel = parcel_on(call)  # type: ignore[arg-type]
    assert parcel is not None
    assert [from_plain(Case, json.loads(case)) for case in parcel["cases"]] == [fixture.case]
    environment = from_plain(Environment, json.loads(parcel["environment"]))
    assert environment.versions["torch"] == torch.__version__
    assert parcel_on(teardown) is None  # type: ignore[arg-type]


def test_a_case_that_was_not_measured_is_not_sent() -> None:
    fixture = a_fixture(is_disabled=True)
    fixture(Model().generate)
    report = a_report("call")

    attach(report, fixture)  # type: ignore[arg-type]

    assert parcel_on(report) is None  # type: ignore[arg-type]


def test_what_travels_is_what_xdist_can_send() -> None:
    plain = packed(a_case(config={"tier": "low", "top_k": 4}))

    assert execnet.loads(execnet.dumps(plain)) == plain


def test_devices_of_all_workers_are_in_the_environment_once() -> None:
    def environment(*names: str) -> Environment:
        devices = tuple({"name": name} for name in names)
        return Environment(machine={}, versions={}, settings={}, devices=devices)

    both = with_devices_of_all([environment("a"), environment("b"), environment("a")])

    assert both == environment("a", "b")


def test_what_was_imported_but_no_installed_package_travels_with_what_was_measured() -> None:
    fixture = a_fixture()
    fixture(Model().generate)
    report = a_report("call")

    attach(report, fixture)  # type: ignore[arg-type]

    parcel = parcel_on(report)  # type: ignore[arg-type]
    assert parcel is not None
    assert __file__ in parcel["imported"]
    assert not [file for file in parcel["imported"] if "site-packages" in file]
