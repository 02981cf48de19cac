"""Our three packages have common names: refuse to work beside somebody else's.

A project of a user may have a folder ``schemas``, ``broker`` or ``workers`` of its own,
and Python imports whichever comes first on its path.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

NAMES = ("schemas", "broker", "workers")


def check() -> None:
    """Make sure that all three packages are of one installation.

    Raises:
        ImportError: another package of the same name comes first; names both paths.
    """
    home = Path(__file__).resolve().parent.parent
    for name in NAMES:
        spec = find_spec(name)
        where = [
            Path(path) for path in (spec and spec.submodule_search_locations) or ()
        ]
        if [path.resolve() for path in where] != [home / name]:
            found = ", ".join(map(str, where)) or (spec and spec.origin) or "nothing"
            raise ImportError(
                f"background-fetch has a package {name!r} in {home / name}, but Python "
                f"finds {found}: rename that one, or take its folder off sys.path"
            )
