"""The journal: the durable record of events, from which is answered what a subscriber has missed.

Rules.

- An event is in the journal before it is published. Its number, `seq`, rises for ever and is never used twice: numbers are
  reserved in the journal ahead of their use, and a new journal begins at the time of its making in milliseconds, so that it
  is ahead of any journal or process before it.
- One process writes a journal, one thread of it; any number of readers read.
- What was written survives the end of the process at once (SQLite's write-ahead log), and the end of the power once it was
  synced, each second, by a thread of its own: a slow disk does not hold up who writes.
- Where the disk is full, or fails, events wait in memory, in order and up to a limit, until they can be written; who asks for
  them gets them from there.
- A journal whose pages do not hang together is set aside and a new one begun. An index that does not fit its rows is made anew.
- Each row has a checksum. A row that is not as it was written is left out, counted, and told; the others are read.
- Events go by age, on the host's clock. After a jump of that clock none goes by age for a day: it may be set right again.
- Health is not kept: it would be most of the journal, and each one is outdated by the next.

`journal` numbers, keeps and finds events; `rows` is what a row is and how rows are found; `damage` tells what is wrong with a
file; `claim` is the lock and the numbers beside it; `syncing` is the thread; `reading` is for who reads a file from outside.
"""
