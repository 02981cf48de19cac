"""Every key and channel in Redis, with its type and lifetime. Spelled here alone.

``member`` names a background fetch in structures that span scopes: ``<scope>/<uid>``.
Keys below a fetch live until its retention ends; the rest as long as the scope.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.fetches import Priority
from schemas.queries import ListedState

PREFIX = "bgfetch:"
SCOPES = PREFIX + "scopes"  # SET of scope names
FETCHES = PREFIX + "fetches"  # ZSET member -> us at which it was registered
AGENDA = PREFIX + "agenda"  # ZSET member -> ms at which a reclaimer looks at the fetch
RECLAIM = PREFIX + "reclaim"  # HASH time, run_id, grace_until of take-over passes (R15)
LEAVING = PREFIX + "leaving"  # SET <scope>/<subscriber>: removed, deliveries still open
PRESENCE = PREFIX + "presence"  # ZSET <scope>/<subscriber> -> ms to look: is it there?
PULLED = PREFIX + "pulled"  # SET <scope>/<subscriber>: read over HTTP
PROCESSES = PREFIX + "processes"  # ZSET process -> ms at which it counts as dead
REMOVING = PREFIX + "removing"  # SET of scopes whose removal is under way (R25)
REMOVED = PREFIX + "removed"  # ZSET scope -> ms when it was removed, for a retention
CLEARED = PREFIX + "cleared"  # ZSET member of a removed scope -> ms to look; see AGENDA
STORES = PREFIX + "stores"  # HASH store id -> where it was last opened (R4)
IDENTITY = PREFIX + "identity"  # STRING: this Redis's own random name, for stores (R16)
ABORTS = PREFIX + "aborts"  # channel: uid of a fetch that ended or was paused
ORIGINS = PREFIX + "origins"  # ZSET origin -> ms when it is forgotten
AUDIT = PREFIX + "audit"  # STREAM who, address, method, path, status of writes
ORIGIN_NEWS = PREFIX + "origin-news"  # channel: ``<nonce> <origin>`` of who changed it


@dataclass(frozen=True, slots=True)
class OriginKeys:
    """The keys of one origin, as ``https://host:port``; forgotten when it is idle."""

    origin: str

    @property
    def origin_hash(self) -> str:
        """HASH: limit, base, rate, loweredAt, pausedUntil, reason, for people too."""
        return f"{PREFIX}origin:{self.origin}"

    @property
    def holders(self) -> str:
        """ZSET process nonce -> ms when its grant ends (R25)."""
        return self.origin_hash + ":holders"

    @property
    def grants(self) -> str:
        """HASH process nonce -> ``<held> <wanted> <used> <requests per 10^6 s>``."""
        return self.origin_hash + ":grants"

    def all(self) -> tuple[str, str, str]:
        """Every key of this origin."""
        return (self.origin_hash, self.holders, self.grants)


def windows(process: str) -> str:
    """Channel: windows for the clients of one gateway process."""
    return f"{PREFIX}windows:{process}"


def listed(state: ListedState) -> str:
    """ZSET like ``FETCHES``: the fetches of all scopes that are in this state."""
    return f"{FETCHES}:{state}"


def bulk(digest: str) -> str:
    """HASH fingerprint, step, progress of an action on many fetches. Has a TTL."""
    return f"{PREFIX}bulk:{digest}"


def orphans(store: str) -> str:
    """ZSET blob name -> ms when a sweep of the store first saw it unnamed (R16)."""
    return f"{PREFIX}orphans:{store}"


def sweeping(store: str) -> str:
    """STRING with a TTL: somebody has swept the store lately."""
    return f"{PREFIX}sweeping:{store}"


def call(digest: str) -> str:
    """HASH of a call with an idempotency key; see ``lua/once.lua``. Has a TTL."""
    return f"{PREFIX}call:{digest}"


@dataclass(frozen=True, slots=True)
class ScopeKeys:
    """The keys of one scope."""

    scope: str

    @property
    def _prefix(self) -> str:
        return f"{PREFIX}{self.scope}:"

    @property
    def scope_hash(self) -> str:
        """HASH: seq, policy, quota, used, published; version, count, filters (R11).

        And what was counted since the scope began, for ``broker.measures``.
        """
        return f"{PREFIX}{self.scope}"

    @property
    def active(self) -> str:
        """HASH id -> ``<seq>:<uid>``: the map of active background fetches."""
        return self._prefix + "active"

    @property
    def latest(self) -> str:
        """HASH id -> uid of the newest retained fetch with that id."""
        return self._prefix + "latest"

    @property
    def fetches(self) -> str:
        """ZSET uid -> seq: every retained fetch, active and settled."""
        return self._prefix + "fetches"

    def listed(self, state: ListedState) -> str:
        """ZSET like ``fetches``: those in this state; see ``lua/_lists.lua``."""
        return f"{self.fetches}:{state}"

    @property
    def subscribers(self) -> str:
        """HASH name -> its versions of the set, with its filter (R11).

        See ``lua/_membership.lua``.
        """
        return self._prefix + "subscribers"

    @property
    def events(self) -> str:
        """STREAM of event messages, and the channel with the same bytes (R9).

        Fields: delivery, message, id, version of the set, number in the scope.
        """
        return self._prefix + "events"

    @property
    def progress(self) -> str:
        """Channel: registration snapshots, best effort."""
        return self._prefix + "progress"

    @property
    def clients(self) -> str:
        """Channel: windows that listeners asked for."""
        return self._prefix + "clients"

    def places(self, priority: Priority) -> str:
        """ZSET lane job -> ms when its right to be in RQ expires (R25)."""
        return f"{self._prefix}places:{priority}"

    def waiting(self, priority: Priority) -> str:
        """ZSET lane job -> seq of its fetch: jobs that wait in line for a place."""
        return f"{self._prefix}waiting:{priority}"

    def lines(self) -> tuple[str, ...]:
        """The lines for places, of every priority."""
        return tuple(map(self.waiting, Priority))

    def rest(self) -> tuple[str, ...]:
        """What is left of a scope without fetches and subscribers, its hash apart."""
        return (
            self.active,
            self.latest,
            self.events,
            *map(self.places, Priority),
            *self.lines(),
        )

    def fetch(self, uid: str) -> FetchKeys:
        """The keys of one background fetch."""
        return FetchKeys(self.scope, uid)

    def subscriber(self, name: str) -> SubscriberKeys:
        """The keys of one subscriber."""
        return SubscriberKeys(self.scope, name)


@dataclass(frozen=True, slots=True)
class FetchKeys:
    """The keys of one background fetch."""

    scope: str
    uid: str

    @property
    def member(self) -> str:
        """The name of this fetch in structures that span scopes."""
        return f"{self.scope}/{self.uid}"

    @property
    def fetch(self) -> str:
        """HASH: the registration, one readable field per attribute."""
        return f"{PREFIX}{self.scope}:fetch:{self.uid}"

    @property
    def staged(self) -> str:
        """HASH like ``requests``, with a TTL, until the fetch is registered (R22)."""
        return self.fetch + ":staged"

    @property
    def requests(self) -> str:
        """HASH index -> request message."""
        return self.fetch + ":requests"

    @property
    def bodies(self) -> str:
        """HASH index -> ``<store>/<blob>`` of a stored request body (R16)."""
        return self.fetch + ":bodies"

    @property
    def states(self) -> str:
        """HASH index -> ``<lane>:<nonce> <stored> <uploaded> <result>`` (R14, R18)."""
        return self.fetch + ":states"

    @property
    def records(self) -> str:
        """HASH index -> record state message, written under the lane's fence."""
        return self.fetch + ":records"

    @property
    def pool(self) -> str:
        """ZSET index -> ms when due: records given back by lanes."""
        return self.fetch + ":pool"

    @property
    def lanes(self) -> str:
        """HASH lane number -> ``<nonce> <deadline ms> <job id>`` (R2)."""
        return self.fetch + ":lanes"

    @property
    def claims(self) -> str:
        """ZSET index -> lane number: records that lanes work on."""
        return self.fetch + ":claims"

    @property
    def jobs(self) -> str:
        """HASH lane slot -> id of the RQ job last wanted for it (R1)."""
        return self.fetch + ":jobs"

    @property
    def events(self) -> str:
        """HASH of what happened to this fetch's events (R10, R11).

        ``<event>`` -> ``<entry id> <version> <owed> <settled> <predecessor or ->``,
        owed being - where the set was empty;
        ``<event>|<name>`` -> ``<status> <failures> <attempt> <nonce> <consumer>``, and
        the standing where it is not owed (any more): extra, or its outcome;
        ``<event>|<name>|history`` -> how its attempts ended, until it is settled;
        ``<event>|<name>|once|<step>`` -> ``<attempt> <ms>`` in which it was done;
        ``||awaited`` is there once somebody waited for a click to be settled.
        """
        return self.fetch + ":events"

    @property
    def readers(self) -> str:
        """ZSET reader -> ms when its lease ends (R17)."""
        return self.fetch + ":readers"

    @property
    def tokens(self) -> str:
        """HASH call token -> answer, so that a repeated call repeats it (R23)."""
        return self.fetch + ":tokens"

    @property
    def journal(self) -> str:
        """LIST of what happened to this fetch, see ``lua/_journal.lua``; bounded."""
        return self.fetch + ":journal"

    @classmethod
    def naming(cls) -> tuple[str, tuple[str, ...]]:
        """A pattern, and ends that tell which of its keys can name a blob (R16)."""
        each = cls("*", "*")
        naming = (each.staged, each.requests, each.bodies, each.records)
        return f"{each.fetch}:*", tuple(key.removeprefix(each.fetch) for key in naming)

    def all(self) -> tuple[str, ...]:
        """Every key of this fetch."""
        return (
            self.fetch,
            self.staged,
            self.requests,
            self.bodies,
            self.states,
            self.records,
            self.pool,
            self.lanes,
            self.claims,
            self.jobs,
            self.events,
            self.readers,
            self.tokens,
            self.journal,
        )


@dataclass(frozen=True, slots=True)
class SubscriberKeys:
    """The keys of one subscriber; a delivery is ``<entry id>/<uid>/<event>``."""

    scope: str
    name: str

    @property
    def _prefix(self) -> str:
        return f"{PREFIX}{self.scope}:subscriber:{self.name}:"

    @property
    def due(self) -> str:
        """ZSET delivery -> ms when due: deliveries that nobody holds (R20)."""
        return self._prefix + "due"

    @property
    def leases(self) -> str:
        """ZSET delivery -> ms when its holder's lease ends."""
        return self._prefix + "leases"

    @property
    def consumers(self) -> str:
        """ZSET consumer -> ms when it counts as dead."""
        return self._prefix + "consumers"

    @property
    def dead(self) -> str:
        """HASH delivery -> dead letter message; of an unreadable entry, its id."""
        return self._prefix + "dead"

    @property
    def copies(self) -> str:
        """ZSET delivery -> ms when the dead letter of an expired one is forgotten."""
        return self._prefix + "copies"

    @property
    def state(self) -> str:
        """HASH: paused, ms since when; excluded, how many by its filter; seen, ms."""
        return self._prefix + "state"

    @property
    def arrived(self) -> str:
        """HASH consumer -> number of its last hand-over known to have come (R20)."""
        return self._prefix + "arrived"

    @property
    def member(self) -> str:
        """The name of this subscriber in structures that span scopes."""
        return f"{self.scope}/{self.name}"

    def all(self) -> tuple[str, ...]:
        """Every key of this subscriber."""
        return (
            self.due,
            self.leases,
            self.consumers,
            self.dead,
            self.copies,
            self.state,
            self.arrived,
        )
