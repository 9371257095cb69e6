"""One test's measurement: the engine, alone on its devices, or left out when disabled.

Owns when measuring may begin, and that `--benchmark-disable` measures nothing. How to measure is
the engine's, what a test may ask is `fixture`'s.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from pytest_vlmlatency.measure.devices import model_devices
from pytest_vlmlatency.measure.interception import find_target
from pytest_vlmlatency.session.placement import place_of
from pytest_vlmlatency.session.sharing import alone_on
from pytest_vlmlatency.session.turns import turns_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch

    from pytest_vlmlatency.fixture import Work
    from pytest_vlmlatency.measure.case import Identity
    from pytest_vlmlatency.measure.rounds import Measured
    from pytest_vlmlatency.options import Configuration, Options

    Generate = Callable[..., object]
    Progress = Callable[[str], None]

__tracebackhide__ = True


class Engine(Protocol):
    """What measures: the module `measure.run`, or a stand-in."""

    def measure(
        self,
        generate: Generate,
        *,
        args: Sequence[object],
        kwargs: Mapping[str, object] | None,
        options: Options,
        identity: Identity,
        progress: Progress | None,
    ) -> Measured:
        """Warm up, repeat and stop; return the last output and the case."""

    def measure_interleaved(
        self,
        generate: Generate,
        *,
        args: Sequence[object],
        kwargs: Mapping[str, object] | None,
        configs: Sequence[Configuration],
        options: Options,
        identity: Identity,
        progress: Progress | None,
    ) -> tuple[Measured, ...]:
        """Measure cases that differ only in their configuration, a round of each in turn."""

    def run_once(
        self,
        generate: Generate,
        *,
        args: Sequence[object],
        kwargs: Mapping[str, object] | None,
        options: Options,
        identity: Identity,
    ) -> Measured:
        """Call once, and measure nothing."""


class Status(Protocol):
    """Where progress is shown, such as a terminal's last line."""

    def show(self, text: str) -> None:
        """Show how far the measurement is."""

    def clear(self) -> None:
        """Take away what was shown."""


class MeasurementInTurn:
    """Measures for one test, alone on the devices of its model."""

    def __init__(
        self,
        *,
        engine: Engine,
        identity: Identity,
        is_disabled: bool = False,
        status: Status | None = None,
    ) -> None:
        self.identity = identity
        self.waited_ms = 0.0
        self.devices: tuple[torch.device, ...] = ()
        self._engine = engine
        self._is_disabled = is_disabled
        self._status = status
        self._progress = None if status is None else status.show

    def run(self, work: Work, options: Options) -> Measured:
        """Measure one case; when disabled, call once."""
        if self._is_disabled:
            return self._once(work, options)
        with self._turn(work, options):
            return self._engine.measure(
                work.generate,
                args=work.args,
                kwargs=work.kwargs,
                options=options,
                identity=self.identity,
                progress=self._progress,
            )

    def run_interleaved(
        self, work: Work, configs: Sequence[Configuration], options: Options
    ) -> tuple[Measured, ...]:
        """Measure a case for each configuration; when disabled, call once for each."""
        if self._is_disabled:
            return tuple(self._once(work, replace(options, config=config)) for config in configs)
        with self._turn(work, options):
            return self._engine.measure_interleaved(
                work.generate,
                args=work.args,
                kwargs=work.kwargs,
                configs=configs,
                options=options,
                identity=self.identity,
                progress=self._progress,
            )

    def _once(self, work: Work, options: Options) -> Measured:
        return self._engine.run_once(
            work.generate,
            args=work.args,
            kwargs=work.kwargs,
            options=options,
            identity=self.identity,
        )

    @contextmanager
    def _turn(self, work: Work, options: Options) -> Iterator[None]:
        target = find_target(work.generate, work.args, work.kwargs or {}, options.model)
        self.devices = model_devices(target.model)
        places = {place_of(device) for device in self.devices}
        with alone_on(sorted(places), folder=turns_folder(), progress=self._progress) as waited_ms:
            self.waited_ms += waited_ms
            try:
                yield
            finally:
                if self._status is not None:
                    self._status.clear()
