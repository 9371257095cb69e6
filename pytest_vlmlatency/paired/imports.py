"""Whether a process ran its own checkout's code: read from where its modules came from.

Pure: it is given what a launch told. Modules of the interpreter and of installed packages count
for neither side, and benchmark files are the same on both.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import NotConfirmed
from pytest_vlmlatency.printing import plural

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_vlmlatency.paired.checkouts import Checkout

N_TOLD = 3
WHAT_TO_DO = (
    "name the folder that the project's packages are in with --vlm-confirm-path (relative to the "
    "repository's root), and build a project that must be built with --vlm-confirm-setup"
)


def imported_by(
    checkout: Checkout, other: Checkout, modules: Mapping[str, str], benchmark: frozenset[Path]
) -> tuple[str, ...]:
    """Return in words what a process imported from its checkout; NotConfirmed if not its own.

    `modules` are files by module name, `benchmark` the relative paths of files that are no code.
    """
    files = {name: Path(os.path.realpath(file)) for name, file in modules.items()}
    installed = installed_places()
    others = {
        name: file
        for name, file in files.items()
        if not any(file.is_relative_to(place) for place in installed)
    }
    _refuse_foreign(checkout, other, others)
    _refuse_shadowed(checkout, files)
    root = checkout.root.resolve()
    ours = {name: file for name, file in others.items() if file.is_relative_to(root)}
    own = {name: file for name, file in ours.items() if file.relative_to(root) not in benchmark}
    if not own:
        folders = ", ".join(str(path) for path in checkout.paths)
        raise NotConfirmed(
            f"the {checkout.side}'s process imported no code of its checkout (looked for in "
            f"{folders}), only the benchmark files, which are the same on both sides: both ran "
            f"the same code, so nothing was compared; {WHAT_TO_DO}"
        )
    counted = Counter(name.partition(".")[0] for name in own)
    return tuple(
        f"{top}: {plural(n, 'module')} of {_place(files, own, top, root)}"
        for top, n in sorted(counted.items())
    )


def _refuse_foreign(checkout: Checkout, other: Checkout, files: Mapping[str, Path]) -> None:
    roots = (checkout.root.resolve(), other.root.resolve())
    foreign = [name for name, file in files.items() if _owner(file, roots) == roots[1]]
    if foreign:
        raise NotConfirmed(
            f"the {checkout.side}'s process imported {_listed(foreign, files)}, which is the "
            f"{other.side}'s code; {WHAT_TO_DO}"
        )


def _refuse_shadowed(checkout: Checkout, files: Mapping[str, Path]) -> None:
    """Refuse code that the checkout has and that came from elsewhere: both would run the same."""
    root = checkout.root.resolve()
    shadowed = [
        name
        for name, file in files.items()
        if "." not in name
        and name not in sys.stdlib_module_names
        and not file.is_relative_to(root)
        and any(_has_module(path, name) for path in checkout.paths)
    ]
    if shadowed:
        raise NotConfirmed(
            f"the {checkout.side}'s process imported {_listed(shadowed, files)}, though its "
            f"checkout {checkout.root} has that code too: both sides would run the same; "
            f"{WHAT_TO_DO}"
        )


def _has_module(folder: Path, name: str) -> bool:
    return (folder / name / "__init__.py").is_file() or (folder / f"{name}.py").is_file()


def _owner(file: Path, roots: tuple[Path, ...]) -> Path | None:
    """Return the innermost of the roots that a file is in."""
    around = [root for root in roots if file.is_relative_to(root)]
    return max(around, key=lambda root: len(root.parts), default=None)


def installed_places() -> frozenset[Path]:
    """Return where the interpreter and installed packages are: perhaps inside a checkout."""
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    named = [sysconfig.get_path(kind) for kind in kinds]
    places = (*named, *site.getsitepackages())
    return frozenset(Path(os.path.realpath(place)) for place in places)


def own_files() -> list[str]:
    """Return the files that this process imported, but the interpreter's and installed ones.

    The import system makes paths absolute; a relative one was made up by a module itself.
    """
    places = tuple(f"{place}{os.sep}" for place in installed_places())
    files = {getattr(module, "__file__", None) for module in [*sys.modules.values()]}
    own = {file for file in files if file and not file.startswith(places)}
    real = {os.path.realpath(file) for file in own if Path(file).is_absolute()}
    return sorted(file for file in real if not file.startswith(places))


def _listed(names: list[str], files: Mapping[str, Path]) -> str:
    told = ", ".join(f"{name} from {files[name]}" for name in sorted(names)[:N_TOLD])
    more = len(names) - N_TOLD
    return f"{told} and {more} more" if more > 0 else told


def _place(files: Mapping[str, Path], own: Mapping[str, Path], top: str, root: Path) -> str:
    file = files[top] if top in own else next(own[name] for name in own if _top(name) == top)
    return str(file.parent if file.name == "__init__.py" else file)


def _top(name: str) -> str:
    return name.partition(".")[0]
