"""From frames to records, in machine code: engines, detectors, gaps, and the loop that runs them beside a sound card."""
