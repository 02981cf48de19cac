"""Faults put into the scripts on purpose: a judge that finds nothing proves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

from broker import scripts


@dataclass(frozen=True)
class Mutant:
    """A script, or a part that scripts include, with one thing wrong."""

    name: str
    script: str
    right: str
    wrong: str

    @contextmanager
    def at_large(self) -> Iterator[None]:
        """Let every process of this test run the wrong script."""
        read = scripts._read

        def mutated(name: str) -> str:
            text = read(name)
            if name != self.script:
                return text
            assert text.count(self.right) == 1, f"{self.name}: not there once"
            return text.replace(self.right, self.wrong)

        scripts.script.cache_clear()
        with mock.patch.object(scripts, "_read", mutated):
            yield
        scripts.script.cache_clear()


_NEVER, _ALWAYS = "if false then", "if true then"

MUTANTS = (
    # the active map
    Mutant("the id stays taken", "_fetch", "redis.call('HDEL', active, names[1])", ""),
    Mutant(
        "an id is taken twice",
        "register",
        "if redis.call('HEXISTS', active, fields.id) == 1 then",
        _NEVER,
    ),
    Mutant(
        "an abort does not look at the map",
        "abort",
        "if state[1] ~= '' or not mine then",
        _NEVER,
    ),
    Mutant("a repeated abort is a second one", "abort", "if answer then", _NEVER),
    Mutant("a repeated click is a second one", "click", "if event then", _NEVER),
    # lanes and records
    Mutant("lanes write to an ended fetch", "report", "if state[1] ~= '' then", _NEVER),
    Mutant("a dead lane goes on", "report", "if holder ~= nonce then", _NEVER),
    Mutant(
        "a record of another lane is written",
        "report",
        "if redis.call('ZSCORE', claims, index) ~= lane then",
        _NEVER,
    ),
    Mutant(
        "counts are added up",
        "report",
        "downloaded = downloaded + stored - had\n",
        "downloaded = downloaded + stored\n",
    ),
    Mutant(
        "the highest index gives the reason",
        "report",
        "index < fail_index)",
        "index > fail_index)",
    ),
    Mutant(
        "a quota is a failure like any",
        "report",
        "(quota and not known) or (quota == known and index < fail_index)",
        "index < fail_index",
    ),
    Mutant(
        "the total ends nothing",
        "report",
        "if over or open == 0 then",
        "if open == 0 then",
    ),
    Mutant(
        "records whose claim was not heard of are forgotten",
        "report",
        "if redis.call('ZCOUNT', claims, lane, lane) ~= held + #taken then",
        _NEVER,
    ),
    Mutant("a paused fetch hands out records", "report", "if not paused then", _ALWAYS),
    Mutant(
        "a resumed fetch is left alone",
        "resume_fetch",
        "local looked = want_work()",
        "local looked = {'wait', {}, {}}",
    ),
    Mutant(
        "the records of a dead lane are lost",
        "_lanes",
        "redis.call('ZADD', pool, now, index)",
        "",
    ),
    Mutant(
        "lanes have one number",
        "take",
        "redis.call('HINCRBY', fetch, 'fences', 1)",
        "1",
    ),
    Mutant(
        "a total is counted by several lanes",
        "_lanes",
        "if sizes[2] ~= '0' or (sizes[3] or '0') ~= '0' or sizes[4] == '1' then",
        _NEVER,
    ),
    # events and records' lives
    Mutant(
        "a result is told to nobody",
        "_fetch",
        "publish(type, type, announce())",
        "publish(type, type, snapshot())",
    ),
    Mutant(
        "an event is owed to one too many",
        "_fetch",
        "owed = number_owed(size, set[3], event, state.id)",
        "owed = number_owed(size, set[3], event, state.id) + 1",
    ),
    Mutant(
        "the first acknowledgement lets the records go",
        "_delivery",
        "if record.settled >= record.owed then",
        "if record.settled >= 1 then",
    ),
    Mutant(
        "a hold holds nothing",
        "_delivery",
        "if tonumber(ending[2]) <= now then",
        _ALWAYS,
    ),
    Mutant(
        "the end of a hold is not looked at",
        "unhold",
        "redis.call('ZADD', KEYS[2], 0, ARGV[1])",
        "",
    ),
    Mutant(
        "everybody adopts what nobody was owed",
        "_membership",
        "record.open and one.joined == version + 1",
        "record.open and one.joined > version",
    ),
    Mutant(
        "records are deleted without a grace",
        "look",
        "if state[8] + release_grace > now then",
        _NEVER,
    ),
    Mutant(
        "events outlive their fetch",
        "look",
        "redis.call('XDEL', stream, string.match(fields[i + 1], '^%S+'))",
        "",
    ),
    # deliveries
    Mutant(
        "a former holder acknowledges", "ack", "if holder ~= nonce or", "if false or"
    ),
    Mutant(
        "a former holder gives up",
        "nack",
        "elseif holder ~= ARGV[8] then",
        "elseif false then",
    ),
    Mutant(
        "a live handler loses its delivery",
        "_begin",
        "if status == 'held' and holder ~= nonce then",
        _NEVER,
    ),
    Mutant(
        "events overtake each other",
        "_begin",
        "if comes_later(record, id) then",
        _NEVER,
    ),
    Mutant(
        "what was handed back counts",
        "nack",
        "failures = failures + (failed and 1 or 0)",
        "failures = failures + 1",
    ),
    Mutant(
        "everybody's lease is extended",
        "extend",
        "if nonce == ARGV[at + 1] then",
        _ALWAYS,
    ),
    Mutant(
        "an acknowledgement is counted each time",
        "ack",
        "if status == 'held' then",
        _ALWAYS,
    ),
)
