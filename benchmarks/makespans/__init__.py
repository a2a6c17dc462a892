"""How long runs take under each policy, next to the best makespans that are known.

    python -m benchmarks.makespans                                the small invented set, which is kept here
    python -m benchmarks.makespans FOLDER                         whatever of the sets below is found in a folder
    python -m benchmarks.makespans FOLDER --real 20 --window 16   real runs of workflows, compared with simulated ones

All makespans but those of real runs are found by `simulate`, that is, by the engine on a virtual clock. These sets can
be read; fetch those that you want, and put them into one folder, or into folders of it:

- PSPLIB, projects whose jobs need resources: the sets j30, j60 and j120 in single mode, unpacked, and the tables
  `j30opt.sm`, `j60hrs.sm` and `j120hrs.sm`, from https://www.om-db.wi.tum.de/psplib/data.html. See `psplib`.
- The Standard Task Graph Set, task graphs for a number of processors: the sets without communication costs, unpacked,
  from https://www.kasahara.cs.waseda.ac.jp/schedule/. See `stg`.
- Sets that are drawn in the same way as these two: see `drawn`.
- Workflows that were measured, converted from https://github.com/wfcommons/WfInstances. See `workflows`.
"""
