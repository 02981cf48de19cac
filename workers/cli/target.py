"""``MODULE:ATTRIBUTE``: finding the service worker that a person names."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType

from schemas import siblings
from schemas.errors import BackgroundFetchError, ConfigError
from workers.service_worker import ServiceWorker

MOST_NAMES = 8


def load_target(target: str, app_dir: Path | None = None) -> ServiceWorker:
    """Import ``module:attribute`` and return the service worker that it names.

    ``app_dir``, by default the current directory, comes first on ``sys.path``. The
    attribute may have dots. A callable is called without arguments, and has to return
    the service worker.

    Raises:
        ConfigError: there is none; the message says what was found instead.
    """
    directory = (app_dir or Path()).absolute()
    name, colon, attribute = target.partition(":")
    if not (colon and name and attribute):
        raise ConfigError(
            f"{target!r} is no target: write MODULE:ATTRIBUTE, as in podcasts:sw"
        )
    if not directory.is_dir():
        raise ConfigError(f"no directory {str(directory)!r}: see --app-dir")
    sys.path.insert(0, str(directory))
    module = _import(name, directory)
    found = _attribute(module, name, attribute)
    if not isinstance(found, ServiceWorker) and callable(found):
        found = _made(found, target)
        if not isinstance(found, ServiceWorker):
            raise ConfigError(f"{target}() gave {_kind(found)}, not a ServiceWorker")
    if not isinstance(found, ServiceWorker):
        others = [key for key, value in vars(module).items() if _is_one(value)]
        raise ConfigError(
            f"{target} is {_kind(found)}, not a ServiceWorker{_has(others)}"
        )
    return found


def _import(name: str, directory: Path) -> ModuleType:
    root = name.partition(".")[0]
    own = Path(siblings.__file__).parent.parent / root
    theirs = (directory / root, directory / f"{root}.py")
    clash = root in siblings.NAMES and own not in theirs
    if clash and any(path.exists() for path in theirs):
        raise ConfigError(
            f"module {name!r} would be background-fetch's own package in {own}: "
            "give yours another name"
        )
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(
                f"no module {name!r} in {directory}{_has(_modules(directory))}; "
                "--app-dir names another directory"
            ) from error
        raise ConfigError(
            f"module {name!r} needs {error.name!r}, which is not installed"
        ) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"module {name!r} {_raised(error)}") from error


def _attribute(module: ModuleType, name: str, attribute: str) -> object:
    found: object = module
    path = name
    for part in attribute.split("."):
        if not hasattr(found, part):
            kind = "module" if found is module else "object"
            has = _has(_own(module)) if found is module else ""
            raise ConfigError(f"{kind} {path!r} has no attribute {part!r}{has}")
        found = getattr(found, part)
        path = f"{path}.{part}" if ":" in path else f"{path}:{part}"
    return found


def _made(factory: object, target: str) -> object:
    assert callable(factory)
    try:
        return factory()
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{target}() {_raised(error)}") from error


def _raised(error: BaseException) -> str:
    if isinstance(error, BackgroundFetchError):
        return f"cannot be used: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [
        frame
        for frame in frames
        if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    where = f" at {theirs[-1].filename}:{theirs[-1].lineno}" if theirs else ""
    return f"raised {type(error).__name__}: {error}{where}"


def _own(module: ModuleType) -> list[str]:
    """Public names of the module's own, service workers first."""
    found = [
        (not _is_one(value), name)
        for name, value in vars(module).items()
        if not name.startswith("_") and (_is_one(value) or _is_made_in(module, value))
    ]
    return [name for _, name in sorted(found)]


def _is_made_in(module: ModuleType, value: object) -> bool:
    if isinstance(value, ModuleType):
        return False
    return getattr(value, "__module__", module.__name__) == module.__name__


def _modules(directory: Path) -> list[str]:
    files = {path.stem for path in directory.glob("*.py")}
    packages = {path.parent.name for path in directory.glob("*/__init__.py")}
    return sorted(name for name in files | packages if name.isidentifier())


def _has(names: list[str]) -> str:
    if not names:
        return ""
    more = ", …" if len(names) > MOST_NAMES else ""
    return f" (has: {', '.join(names[:MOST_NAMES])}{more})"


def _is_one(value: object) -> bool:
    return isinstance(value, ServiceWorker)


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
