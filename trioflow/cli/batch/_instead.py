"""What GNU parallel has and `trioflow batch` has not, and what to do instead."""

from __future__ import annotations

from typing import Final

PIPED: Final = "data cut into blocks is GNU parallel's own; cut it with split(1), and run a command for each part"
ELSEWHERE: Final = {
    "--pipe --spreadstdin --pipe-part --pipepart --block --block-size --block-timeout --recstart --recend": PIPED,
    "--remove-rec-sep --removerecsep --rrs --regexp --roundrobin --round-robin --round --tee --fifo --cat": PIPED,
    "--group-by --groupby --bin --shard": PIPED,
    "--transferfile --transfer --tf --return --trc --cleanup --basefile --bf --template --tmpl": (
        "a batch copies no files to or from nodes; SshJob with Push and Pull does, or trioflow ssh --push, --pull"
    ),
    "--rpl --parens": "Perl is for GNU parallel only; let a shell change it, as in 'a={}; echo ${a%.*}'",
    "--filter": "Perl is for GNU parallel only; let a shell decide, as in 'if [ {1} -lt {2} ]; then echo {1} {2}; fi'",
    "--plus": "let a shell change the argument, as in 'a={}; echo ${a%.gz} ${a##*/}'",
    "-L -l --max-lines": "write -N NUMBER, which gives each command that many lines",
    "-m -X --xargs -s --max-chars -x --exit": (
        "to give a command several arguments, write -N 100, say; to give it as many as fit, use xargs -P"
    ),
    "--sql --sqlmaster --sqlworker --sqlandworker --sqlandwork": (
        "databases are GNU parallel's own; --journal FILE keeps what has succeeded, and --results FILE.jsonl everything"
    ),
    "--tty --tmux --tmuxpane --interactive -p --open-tty --ctrlc": (
        "commands have no terminal and no input here; run them one by one, in a loop of the shell"
    ),
    "--onall --nonall": "to run a command on every node, write trioflow ssh -H NODES COMMAND",
    "--number-of-cpus --number-of-cores --number-of-sockets --number-of-threads": "ask nproc",
    "--version -V --minversion": "ask trioflow --version",
    "--max-line-length-allowed --show-limits": "ask getconf ARG_MAX",
    "--shellquote": "bash quotes arguments with printf %q",
    "--shell-completion": 'trioflow completes its own options: eval "$(_TRIOFLOW_COMPLETE=bash_source trioflow)"',
    "--embed": "there is nothing to embed; a script calls trioflow batch",
    "--csv": "--colsep , cuts at each comma; columns with quotes are cut by a program that knows them",
    "--profile -J": "write the options into an alias, or into a function of the shell",
    "--env --record-env": "commands here have all variables; for nodes, write NAME=VALUE before the command",
    "--workdir --wd": "begin the command with cd DIR &&",
    "--files": "--results DIR saves the outputs in files",
    "--tmpdir --tempdir": "set the variable TMPDIR",
    "--termseq": "a command that is ended gets SIGTERM, and 5 seconds later SIGKILL",
    "--noswap --memsuspend": "--memfree SIZE starts no command while less memory is free",
    "--limit": "--load and --memfree hold starts; anything else can be asked in the command itself",
    "--ssh": "name a jump host, a program or options in a configuration of ssh, and give that with -F",
    "--sshdelay": "each node has a single connection; --delay TIME waits between two starts",
    "--filter-hosts": "a node that cannot be reached is left out without it",
    "--hostgroups --hostgroup --hgrp": "run a batch for each group of nodes",
    "--semaphore": "flock(1) lets one command at a time run, whoever starts it",
    "--bg": "end the line with & to go on at once; to have one command at a time run, whoever starts it, use flock(1)",
    "--fg": "leave it out: a batch ends when its commands have ended",
    "--latest-line --ll": "--line-buffer prints every line as it comes",
    "--color --ctag": "--tag says whose line it is",
    "--color-failed": "the last lines say which commands failed",
    "--skip-first-line": "drop the line with tail -n +2, or take it for names of columns with --header :",
    "--total-jobs": "leave it out; the total is known as soon as all arguments have been read",
    "--shebang": "write exec trioflow batch COMMAND :::: FILE into the script",
    "--wait": "leave it out; a batch ends when its commands have ended",
    "-i": "-I TEXT says what stands for the argument",
    "--zero": "write --null",
}
"""The options, and what to do instead; NUMBER is what was given."""
INSTEAD: Final = {name: remedy for names, remedy in ELSEWHERE.items() for name in names.split()}
