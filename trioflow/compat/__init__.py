"""The interfaces of older libraries, implemented on trioflow: scripts for these libraries need only a new import."""
