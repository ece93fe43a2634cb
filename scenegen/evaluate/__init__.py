"""Measuring a result against ground truth: metrics, the alignment they are taken under, the layouts they are read from."""
