"""Supervises any command: the memory of its whole tree, who ended it, what it needed.

In reading order: ``command`` (start it, signal it, end it), ``tree`` (what each process holds),
``group`` (its control group, where that is ours alone), ``cadence`` (when to look again), ``common_pages``
(what must not count twice), ``kernel_kills`` (ceilings and counters), ``watch`` (how much, and the peak),
``verdict`` (who ended it) and ``advice`` (what to ask for), both pure, ``record`` (the run folder),
``supervisor`` (the loop).
"""
