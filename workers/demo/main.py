"""The entry of the demo: how it is told, and where it keeps its state."""

from __future__ import annotations


def main(
    *,
    once: bool = False,
    redis_url: str | None = None,
    color: bool | None = None,
    keep: bool = False,
) -> int:
    """Tell the story and check how it came out; return 0, or 1 if a check failed.

    It needs nothing on this machine and leaves nothing there: the server, the origin,
    the workers and all files are the demo's own. ``redis_url`` names a database to use
    instead of a server of its own; the environment is not asked. ``once`` tells it
    without pauses. ``color`` False means plain lines; None asks terminal and
    environment. ``keep`` leaves files and logs where they are, and says where.

    Raises:
        ConfigError: the database at ``redis_url`` is in use.
        Unreachable, StartError: there is no server to work with.
        Interrupted: a signal ended it; everything that it started has ended.
    """
    # The service worker's process imports this package too, and needs none of these.
    from broker.cli.running import run
    from workers.demo.performance import perform
    from workers.demo.stage import FOR_PEOPLE, UNATTENDED
    from workers.demo.terminal import screen_for

    pace = UNATTENDED if once else FOR_PEOPLE
    return run(perform(screen_for(color), pace, redis_url, keep=keep))
