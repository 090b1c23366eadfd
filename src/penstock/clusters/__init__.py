"""Clusters: many nodes, each a whole Penstock with a budget of its own (:mod:`penstock.abc.cluster`)."""
