"""The worker's side: all of the engine that a worker process loads.

``main`` answers the parent's messages, ``calling`` calls the function, ``writing`` gives results to the
sinks and reducers. Nothing here knows the parent or what it decides.
"""
