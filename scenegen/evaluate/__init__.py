"""Measures a result against ground truth: metrics, alignments, and the layouts of the data."""
