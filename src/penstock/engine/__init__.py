"""Private. The engine: one stage of a run, in three packages, and their messages (``messages``, ``apart``).

``decide`` is pure: what to do. ``parent`` does it, with clocks, threads and processes. ``worker`` is what
a worker process loads. The engine meets a source, sink, reducer, backend or limit only through
``penstock.abc``.
"""
