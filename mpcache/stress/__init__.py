"""stress: is this lock to be trusted, here, with these settings?  One question a scenario, one verdict a run.

Leans on nothing here; the parts stand in this order, each on those above it:

    settings   what is asked for                  diary, board   what workers write, and survives SIGKILL
    arena      where it is played                 judge          what histories prove
    scenarios  one question a file                play, worker   the processes: born, killed, stopped, buried
    trial      rounds of plays, and a verdict     view, report   what people see
    faults     known bugs that must be found      commands       what people type
"""
