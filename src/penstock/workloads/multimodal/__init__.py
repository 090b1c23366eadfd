"""Chest radiographs, notes and vital signs to training shards, written once, in a fixed memory budget.

tables -> join -> plan_splits -> shards
"""
