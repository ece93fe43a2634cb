"""The store of results, the folders and files that it is made of, and who may write there."""
