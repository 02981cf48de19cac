"""``bgfetch doctor``: every setting with its source, and whether all is well here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from broker.cli.exits import ExitCode
from broker.cli.options import JSON, AllowNetworks, RedisURL, Store
from broker.cli.output import put, put_json, say, table
from broker.cli.running import configured, networks, run

if TYPE_CHECKING:
    from broker.settings import Settings


class SettingRow(NamedTuple):
    """One setting as it is in force."""

    name: str
    value: Any
    source: str
    meaning: str


def doctor(
    context: typer.Context,
    redis_url: RedisURL = None,
    store: Store = None,
    allow_network: AllowNetworks = None,
    json: JSON = False,
) -> int:
    """Print every setting; check what it names.

    Looked at are Redis or Valkey, the store, the disk, queues and workers. Exits 4 if
    Redis cannot be reached, 1 if something else is wrong. A warning is no error.
    """
    from broker.cli.checks import all_checks
    from broker.cli.server_checks import Verdict

    settings = configured(
        redis_url=redis_url, store=store, allow_networks=networks(allow_network) or None
    )
    rows = list(settings_in_force(settings, _by_option(context)))
    checks = run(all_checks(settings))
    wrong = [check for check in checks if check.verdict is Verdict.FAIL]
    if json:
        told = [row._asdict() for row in rows]
        found = [check.as_json() for check in checks]
        put_json({"ok": not wrong, "settings": told, "checks": found})
    else:
        table(("setting", "value", "source"), [_shown(row) for row in rows])
        put("")
        table(("", "check", "finding"), [check.shown() for check in checks])
        for check in wrong:
            say(check.finding)
    if any(check.name == "redis" for check in wrong):
        return ExitCode.REDIS
    return ExitCode.NO if wrong else ExitCode.OK


def _by_option(context: typer.Context) -> dict[str, str]:
    """The settings that options have set, not the variables behind the options."""
    parameters = {
        "redis_url": "redis_url",
        "store": "store",
        "allow_network": "allow_networks",
    }
    return {
        setting: "option"
        for parameter, setting in parameters.items()
        if str(context.get_parameter_source(parameter)).endswith("COMMANDLINE")
    }


def settings_in_force(
    settings: Settings, options: Mapping[str, str]
) -> Iterable[SettingRow]:
    """Tell every setting, with a source where an option set it; passwords masked."""
    for name, field in type(settings).model_fields.items():
        variable = f"BGFETCH_{name.upper()}"
        source = options.get(name, "default")
        if source == "default" and name in settings.model_fields_set:
            source = "environment"
        value = _plain(getattr(settings, name))
        yield SettingRow(variable, value, source, field.description or "")


def _plain(value: object) -> object:
    from broker.connection import masked
    from schemas.addresses import AddressPolicy

    match value:
        case timedelta():
            return value.total_seconds()
        case AddressPolicy():
            return [str(network) for network in value.allow]
        case str():
            return masked(str(value)) if "://" in value else str(value)
        case int() | None:
            return value
    return str(value)


def _shown(row: SettingRow) -> tuple[str, ...]:
    value = row.value
    if isinstance(value, float):
        value = f"{value:g} s"
    elif isinstance(value, list):
        value = ", ".join(value)
    return (row.name, "" if value is None else str(value), row.source)
