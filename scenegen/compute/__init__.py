"""Where numbers are computed: the devices and who holds one, the threads, and the networks that a process has loaded."""
