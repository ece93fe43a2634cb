"""Scenes and their objects on the machines of a Ray cluster.

They read and write the store, so every machine must see the same one: a shared disk under the same path, or a mirror in a
bucket, for which each machine keeps copies in its own cache folder.
"""
