"""The decoders of untrusted files. Only the child process of `scenegen.untrusted.decoding` runs them."""
