"""Measurements of calls on nodes: passed to nodes that join later, and kept for later runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from penstock.engine.decide.learnt import from_json
from penstock.engine.parent.options import Options


class NodeLearning:
    """What the nodes of a stage have learnt of the memory of its calls.

    Args:
        options: of the stage: what earlier runs learnt, and who keeps what this one does.
    """

    def __init__(self, options: Options) -> None:
        self._keep = options.keep
        self._learnt: Mapping[str, Any] | None = None if options.before is None else options.before.as_json()
        self._news = False
        self._uninformed: set[str] = set()

    def join(self, node: str) -> None:
        """A node is there, which has not been told anything."""
        self._uninformed.add(node)

    def leave(self, node: str) -> None:
        """A node is gone."""
        self._uninformed.discard(node)

    def for_lease(self, node: str) -> Mapping[str, Any] | None:
        """What to send along with a lease: with a node's first, what is known so far."""
        if node not in self._uninformed:
            return None
        self._uninformed.discard(node)
        return self._learnt

    def take(self, learnt: Mapping[str, Any]) -> None:
        """Take what a node has learnt."""
        self._learnt, self._news = learnt, True

    def keep(self) -> None:
        """Save what is new, if somebody keeps it."""
        told, self._news = self._learnt if self._news else None, False
        if self._keep is not None and told is not None:
            with suppress(ValueError):  # numbers that nothing can have
                self._keep(from_json(told))
