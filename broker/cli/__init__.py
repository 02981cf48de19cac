"""The command line of producers and people; ``workers.cli`` mounts it as ``bgfetch``.

Data goes to stdout, talk to stderr. Modules here import what a verb needs inside it, so
that help and completion start fast.
"""
