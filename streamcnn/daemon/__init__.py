"""The daemon: streams that are heard, watched over, kept in the journal and published.

Each stream has a source that writes into a ring and an inference thread that drains it through a pipeline, in machine code
and without the GIL (`stream`). The caller's thread turns records into events and watches over the streams: their health, their
progress, their deadlines (`service`, `health`, `guard`). The outbox, a thread too, keeps events and publishes them (`outbox`).
Whatever ends a stream (a signal, the end of its input, an error) its pipeline is finished and its last events are published.
"""
