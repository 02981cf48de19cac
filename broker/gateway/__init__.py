"""The gateway: Background Fetch over HTTP, for any language and for people.

It fetches nothing and holds no state: any number of processes may run it.
"""

from broker.gateway.app import create_app
from broker.gateway.gateway import Gateway
from broker.gateway.server import Server

__all__ = ["Gateway", "Server", "create_app"]
