"""Detectors: scores in, detections out; all their times are counted in frames and samples."""
