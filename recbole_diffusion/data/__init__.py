"""The data pipeline: atomic files to data sets, splits and batches."""
