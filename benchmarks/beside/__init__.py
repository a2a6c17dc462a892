"""One scenario in trioflow and in other libraries, each installed from PyPI in an environment of its own.

Forty groups of four fetches and a join, 16 at once, are 200 jobs. Eight fetches (5 %) fail: six once, so that a retry
mends them, and two always, so that 38 joins can be done. Each program is written as the documentation of its library
would write it. Measured are the program's length, the time to install and import, the overhead of a job, memory, and
what a failure leaves and prints; then the program is killed in the middle (SIGKILL) and started again.
"""
