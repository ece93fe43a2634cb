"""The decoders of untrusted files. Only the child process of `scenegen.image` runs them."""
