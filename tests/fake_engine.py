"""An engine that measures nothing: it calls generate once and hands back made-up times."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_vlmlatency.measure.rounds import Measured
from tests.cases import a_case

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_vlmlatency.measure.case import Identity
    from pytest_vlmlatency.options import Configuration, Options
    from pytest_vlmlatency.records import Case


class FakeEngine:
    """Remembers the options and identity that it was given."""

    def __init__(self) -> None:
        self.options: list[Options] = []

    def measure(
        self,
        generate: Callable[..., object],
        *,
        args: Sequence[object],
        kwargs: Mapping[str, object] | None,
        options: Options,
        identity: Identity,
        progress: Callable[[str], None] | None,
    ) -> Measured:
        self.options.append(options)
        output = generate(*args, **(kwargs or {}))
        return Measured(output, self._measured_case(output, options, identity))

    def measure_interleaved(
        self,
        generate: Callable[..., object],
        *,
        args: Sequence[object],
        kwargs: Mapping[str, object] | None,
        configs: Sequence[Configuration],
        options: Options,
        identity: Identity,
        progress: Callable[[str], None] | None,
    ) -> tuple[Measured, ...]:
        return tuple(
            self.measure(
                generate,
                args=args,
                kwargs=kwargs,
                options=replace(options, config=config),
                identity=identity,
                progress=progress,
            )
            for config in configs
        )

    def run_once(
        self,
        generate: Callable[..., object],
        *,
        args: Sequence[object],
        kwargs: Mapping[str, object] | None,
        options: Options,
        identity: Identity,
    ) -> Measured:
        output = generate(*args, **(kwargs or {}))
        case = replace(self._case(options, identity), calls=(), is_measured=False)
        return Measured(output, case)

    def _measured_case(self, _output: object, options: Options, identity: Identity) -> Case:
        return self._case(options, identity)

    def _case(self, options: Options, identity: Identity) -> Case:
        config = None if options.config is None else dict(options.config.values())
        case = a_case(name=identity.name, config=config)
        suffix = "" if config is None else f"{{knob={config['knob']}}}"
        return replace(
            case,
            id=identity.id + suffix,
            test=identity.test,
            params=identity.params,
            worker=identity.worker,
            former_id=None if identity.former_id is None else identity.former_id + suffix,
        )
