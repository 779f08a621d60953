"""Stores each confirmed detection exactly once, however often this program or the daemon is killed.

python examples/exactly_once.py detections.db [tcp://127.0.0.1:5556]

The event and the place up to which everything was stored go into one transaction: either both are there or none.
"""

import sqlite3
import sys

import streamcnn

database = sqlite3.connect(sys.argv[1])
endpoint = sys.argv[2] if len(sys.argv) > 2 else "tcp://127.0.0.1:5556"
with database:
    database.execute("CREATE TABLE IF NOT EXISTS detections (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, sample INTEGER)")
    database.execute("CREATE TABLE IF NOT EXISTS place (seq INTEGER)")
    database.execute("INSERT INTO place SELECT 0 WHERE NOT EXISTS (SELECT * FROM place)")
(since,) = database.execute("SELECT seq FROM place").fetchone()

with streamcnn.Subscriber(endpoint, topics=["detection."], since=since) as events:
    for event in events:
        with database:
            if event.phase == "confirmed":
                database.execute("INSERT INTO detections VALUES (?, ?, ?)", (event.seq, event.id, event.sample))
            database.execute("UPDATE place SET seq = ?", (event.seq,))
