"""Who reads what: the readers of one process, found by what happens."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator

from broker.gateway.live.reader import Reader


class Readers:
    """All readers, by scope and fetch."""

    def __init__(self) -> None:
        self._all: set[Reader] = set()
        self._of_scope: defaultdict[str, set[Reader]] = defaultdict(set)
        self._of_fetch: defaultdict[tuple[str, str], set[Reader]] = defaultdict(set)
        self._clients: dict[str, Reader] = {}
        self._expected: Counter[str | None] = Counter()

    def __iter__(self) -> Iterator[Reader]:
        return iter(list(self._clients.values()))

    def __len__(self) -> int:
        return len(self._clients)

    def expect(self, scope: str | None, number: int = 1) -> None:
        """Count who reads a scope, or is about to; None stands for all scopes."""
        self._expected[scope] += number
        if not self._expected[scope]:
            del self._expected[scope]

    def expected(self, scope: str | None) -> bool:
        """Whether somebody reads a scope, or all, or is about to."""
        return scope in self._expected or None in self._expected

    def add(self, reader: Reader) -> None:
        """Let what happens reach a reader."""
        self._clients[reader.client] = reader
        self._place(reader).add(reader)

    def remove(self, reader: Reader) -> None:
        """Forget it."""
        del self._clients[reader.client]
        self._place(reader).discard(reader)
        wanted = reader.wanted
        if wanted.scope is None or self._place(reader):
            return
        if wanted.uid is None:
            del self._of_scope[wanted.scope]
        else:
            del self._of_fetch[wanted.scope, wanted.uid]

    def _place(self, reader: Reader) -> set[Reader]:
        wanted = reader.wanted
        if wanted.scope is None:
            return self._all
        if wanted.uid is None:
            return self._of_scope[wanted.scope]
        return self._of_fetch[wanted.scope, wanted.uid]

    def of(self, scope: str, uid: str) -> Iterator[Reader]:
        """Whom something concerns that happens to a fetch."""
        yield from self._all
        yield from self.of_scope(scope, uid)

    def of_scope(self, scope: str, uid: str) -> Iterator[Reader]:
        """The same without those who read all scopes."""
        yield from self._of_scope.get(scope, ())
        yield from self._of_fetch.get((scope, uid), ())

    def of_all(self) -> Collection[Reader]:
        """Those who read all scopes."""
        return self._all

    def client(self, name: str) -> Reader | None:
        """The reader with this name."""
        return self._clients.get(name)

    def scopes(self) -> set[str]:
        """Scopes that somebody reads, or is about to."""
        return {scope for scope in self._expected if scope is not None}

    def has_whole(self, scope: str) -> bool:
        """Whether somebody reads all fetches of a scope."""
        return scope in self._of_scope

    def watched(self, scope: str) -> set[str]:
        """The fetches of a scope that are read alone."""
        return {uid for of, uid in self._of_fetch if of == scope}
