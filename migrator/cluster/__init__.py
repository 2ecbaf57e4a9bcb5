"""The items of a run finished on other processes and machines: Dask connects them, `run.item` does the work."""
