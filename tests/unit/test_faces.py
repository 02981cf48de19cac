"""Each package has one public face: explicit imports and a sorted ``__all__``."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest


@pytest.mark.parametrize("name", ["schemas", "broker", "workers"])
def test_the_face_of_a_package_names_what_it_imports_in_order(name: str) -> None:
    package = importlib.import_module(name)
    public = [
        key
        for key, value in vars(package).items()
        if not key.startswith("_") and not isinstance(value, ModuleType)
    ]

    assert package.__all__ == sorted(package.__all__)
    assert sorted(package.__all__) == sorted(public)


def test_the_imports_of_the_design_work() -> None:
    """Design §4."""
    from broker import Request, Response, connect
    from schemas import BackgroundFetchError
    from workers import BackgroundFetchEvent, ServiceWorker

    assert all([Request, Response, connect, BackgroundFetchError])
    assert all([BackgroundFetchEvent, ServiceWorker])
