"""A worker's side: all that a worker process loads of the engine.

``main`` answers the parent's messages, ``calling`` calls the function, ``writing`` gives results to the
sinks and reducers. Nothing here knows the parent or what it decides.
"""
