"""Supervision of a command that knows nothing of us: what its whole tree holds, who ended it, what it needed.

In reading order: ``command`` (start it, signal it, end it), ``tree`` (what each process holds),
``group`` (its control group, where that is ours alone), ``watch`` (how much, how often, the peak),
``verdict`` (who ended it) and ``advice`` (what to ask for), both pure, ``record`` (the run folder),
``supervisor`` (the loop).
"""
