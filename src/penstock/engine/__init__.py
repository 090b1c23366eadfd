"""Private. In reading order: discover, footprint, plan, schedule, governor, worker, journal, report,
stage, failures, loop.

``footprint``, ``plan``, ``schedule`` and ``governor`` are pure: state, readings and ``now`` in,
decisions out. Clocks, processes and files live in ``watch``, ``ledger``, ``upkeep``, ``loop``, the backends
and the rooms.
The engine meets a source, sink, reducer, backend or limit only through ``penstock.abc``.
"""
