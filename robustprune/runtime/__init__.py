"""The process and the machine: files, seeds, devices, threads, groups of processes."""
