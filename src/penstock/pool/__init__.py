"""The executor: calls are submitted one by one, batched, and run inside the budget.

``executor`` is what users see, ``service`` runs the engine's loop on a thread for it, ``calls`` packs what is
submitted; ``warm`` keeps executors whose workers outlive their user.
"""
