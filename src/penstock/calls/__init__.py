"""Calls of an executor on their way to a worker and back.

``spool`` keeps what is large in files, ``pickling`` packs calls, ``work`` has what a worker does with
them. Nothing here decides anything about memory or order, and little is imported: every worker has it.
"""
