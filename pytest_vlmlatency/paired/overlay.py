"""The candidate's benchmark files, laid over the baseline's: both sides run the same tests.

A test file's folder is taken whole, with its conftest, data and modules, in the place of the
baseline's. Where that folder may hold code that is to be compared, only test files, conftests and
files that are no Python are taken: so it is at the root, of a submodule too, in a folder that code
is imported from, and inside a package that begins further up. Conftests above a test's folder are
taken too.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.paired.git import git, repository_around

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_vlmlatency.paired.checkouts import Checkout

CONFTEST = "conftest.py"
NOT_TAKEN = ("__pycache__",)


def lay_over(tests: Sequence[Path], *, source: Checkout, target: Checkout) -> frozenset[Path]:
    """Bring the files that `tests` (relative paths of test files) need from one to the other.

    Returns what was brought, relative to a checkout. Folders taken whole hold nothing else after.
    """
    assert target.is_worktree, "the user's own working tree is never written to"
    taken: set[Path] = set()
    for folder in sorted({test.parent for test in tests}):
        own = [test for test in tests if test.parent == folder]
        if _is_code(folder, source):
            taken |= _bring_beside_code(folder, own, source.root, target.root)
        else:
            shutil.rmtree(target.root / folder, ignore_errors=True)
            taken |= _bring(_files_in(folder, source.root), source.root, target.root)
            _link_ignored(folder, source.root, target.root)
    above = {up / CONFTEST for test in tests for up in test.parents}
    return frozenset(taken | _bring(above, source.root, target.root))


def take_off(laid: Iterable[Path], target: Checkout) -> None:
    """Give a worktree its own files back: those of its commit, where others were laid over."""
    assert target.is_worktree, "the user's own working tree is never written to"
    homes = {target.root}
    for path in laid:
        file = target.root / path
        homes.add(repository_around(file.parent, target.root))
        file.unlink(missing_ok=True)
    for home in homes:
        gone = git(home, "ls-files", "-z", "--deleted").split("\0")
        own = [f":(literal){name}" for name in gone if name]
        if own:
            git(home, "checkout", "--quiet", "--force", "HEAD", "--", *own)


def _is_code(folder: Path, checkout: Checkout) -> bool:
    """Whether a folder of tests may hold, or lies in, code that is to be compared."""
    absolute = checkout.root / folder
    is_importable_from = any(path.is_relative_to(absolute) for path in checkout.paths)
    above = absolute.parent
    in_package = (absolute / "__init__.py").is_file() and (above / "__init__.py").is_file()
    return is_importable_from or in_package or _is_repository(absolute)


def _is_repository(folder: Path) -> bool:
    """Whether a folder is the root of a submodule."""
    return (folder / ".git").exists()


def _bring_beside_code(
    folder: Path, tests: Sequence[Path], source: Path, target: Path
) -> set[Path]:
    is_root = folder == Path() or _is_repository(source / folder)
    data = [] if is_root else [path for path in _files_in(folder, source) if path.suffix != ".py"]
    return _bring([*tests, folder / CONFTEST, *data], source, target)


def _files_in(folder: Path, root: Path) -> list[Path]:
    """Return what git keeps in a folder, or would keep if it were added."""
    return _listed(folder, root, "-co", "--exclude-standard")


def _listed(folder: Path, root: Path, *flags: str) -> list[Path]:
    """Return what git lists in a folder, relative to the root; the folder may be a submodule's."""
    home = repository_around(root / folder, root)
    inside = (root / folder).relative_to(home)
    listed = git(home, "ls-files", "-z", *flags, "--", str(inside))
    above = home.relative_to(root)
    return [above / name for name in dict.fromkeys(listed.split("\0")) if name]


def _bring(paths: Iterable[Path], source: Path, target: Path) -> set[Path]:
    taken = {path for path in paths if (source / path).is_file()}
    for path in sorted(taken):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).unlink(missing_ok=True)
        shutil.copy2(source / path, target / path)
    return taken


def _link_ignored(folder: Path, source: Path, target: Path) -> None:
    """Link to what git ignores in a folder of tests: data that was downloaded, and may be large."""
    for path in _listed(folder, source, "-o", "-i", "--exclude-standard", "--directory"):
        is_data = path.name not in NOT_TAKEN and path.suffix not in {".py", ".pyc"}
        if is_data and path != folder and not (target / path).exists():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).symlink_to((source / path).resolve())
