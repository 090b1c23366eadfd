"""Limits: the places where someone may have set a ceiling on memory, one file each.

Each is built with the ``root`` under which ``/proc`` and ``/sys`` lie and the ``environ`` to look at,
so that tests can put a made-up machine under it (``penstock.testing.machine``).
"""
