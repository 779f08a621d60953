"""What listens to one stream: nets with their detectors (`listener`), at work (`runner`), driven block by block (`pipeline`).

`reports` makes events of what they decide.
"""
