"""The parent's side: the event loop over messages, deaths and clocks that carries out what ``decide`` says.

Top down: ``loop`` polls, ``failed_batches`` handles what did not end, ``periodic`` does what is due,
``stage`` holds the parts of one stage: ``admission``, ``workers``, ``governor_thread``, ``ledger``,
``set_aside``.
"""
