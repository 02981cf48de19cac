"""``Headers``: the headers of a response, as an app sees them."""

from __future__ import annotations

from collections.abc import Iterator

from schemas.records import ResponseHead

_HIDDEN = ("content-range", "content-length")


class Headers:
    """Response headers: names compare without case, order and repeats are kept.

    ``Content-Range`` and ``Content-Length`` speak of one attempt and are left out
    (BF-OBJ-03).
    """

    def __init__(self, head: ResponseHead) -> None:
        self._pairs = tuple(
            (name, value) for name, value in head.headers if name.lower() not in _HIDDEN
        )

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __contains__(self, name: str) -> bool:
        return bool(self.get_all(name))

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def get(self, name: str, default: str | None = None) -> str | None:
        """The values of a header joined by ``, ``."""
        values = self.get_all(name)
        return ", ".join(values) if values else default

    def get_all(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return [value for key, value in self._pairs if key.lower() == name.lower()]
