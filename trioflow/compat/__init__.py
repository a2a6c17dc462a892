"""The interfaces of older libraries, implemented on trioflow: scripts written for those run with another import."""
