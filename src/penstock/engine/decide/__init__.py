"""Pure decisions: state, readings and ``now`` in, what to do out. No clock, thread, process or file.

Bottom up: ``footprint`` learns bytes per item, ``governor`` says who is paused or killed, ``plan`` sizes
workers and calls, ``cursors`` and ``schedule`` give out items and requeue them by the recovery ladder,
``estimate`` plans from what was seen, ``explain`` words why an item was given up.
"""
