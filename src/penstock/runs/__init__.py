"""Runs: the description of a job, the steps and stages of a run, and the verbs that execute them.

Bottom up: ``spec`` describes a job, ``step`` is a stage of one item, ``stage_run`` the state of one stage
while it runs, ``run`` the folder in use, ``job`` a description that can be planned and run.
"""
