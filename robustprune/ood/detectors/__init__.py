"""One detector a file; near relatives share one."""
