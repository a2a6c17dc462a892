"""How long workflows take beside gather-based scheduling: makespan, latency, cancellation, memory and CPU.

    python -m benchmarks.elapsed                     # what fits into three minutes
    python -m benchmarks.elapsed --workflows FOLDER  # recorded ones too, such as WfCommons' WfInstances

Every way runs the same graphs, with the same window and the same bodies, and takes turns with the others. On a virtual
clock a makespan is exact, and the same on each machine; with real sleeps and real HTTP requests the overhead counts.
"""
