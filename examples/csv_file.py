"""Appends confirmed detections to a CSV file, and goes on where it was when it is started again.

python examples/csv_file.py detections.csv [tcp://127.0.0.1:5556]
"""

import csv
import sys

import streamcnn

endpoint = sys.argv[2] if len(sys.argv) > 2 else "tcp://127.0.0.1:5556"
with (
    open(sys.argv[1], "a", newline="", encoding="utf-8") as file,
    streamcnn.Subscriber(endpoint, topics=["detection."], cursor=sys.argv[1] + ".cursor") as events,
):
    rows = csv.writer(file)
    for event in events:
        if event.phase == "confirmed":
            rows.writerow([event.time, event.stream, event.label, event.position, event.score, event.id])
            file.flush()
