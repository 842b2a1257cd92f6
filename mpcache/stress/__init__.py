"""The stress tool: can this mutex or store be trusted, on this machine, with these settings?

Depends on no other module of the package.  A *run* of a *scenario* is a series of *rounds*.  In a round, *workers*
(processes), each with some *actors* (threads), repeat the scenario's operation, while signals kill and stop workers.
Each actor records its operations in a *log*; the logs of a round are its *history*, and the *checker* searches it for
violations::

    settings      what a run is to do                   environment   its store, mutex and servers
                                                        run_folder    its files, and those of killed runs
    scenarios/    the questions, one a file             operations    what several scenarios do to a store

    run           the rounds of a run, its verdict      progress      what is shown while it runs
    round_plan    what the processes of a round share   round_runner  spawns and reaps the workers of a round
    worker        a worker's process                    signal_injector   when which worker is killed or stopped
    actor         a worker's thread                     scoreboard    counters that all processes of a round see

    actor_log     the log of an actor                   history       the logs and signals of a round
    checker       the exclusion check of a mutex        creation_checks, register_checks, staleness_checks,
                                                        timing_checks: the checks of a store

    faults/       known bugs that must be found         builds        engines with a bug, or with pauses
    report/       the report: data, page, charts        console       what a run prints
    commands      the command line

Start with a scenario (scenarios/exclusion), then actor.hold, then checker.
"""
