/* The word lock by itself: three processes take it for ever, one may die, and its slot gets another owner.
 *
 * Shown: no two living processes are inside; no living process is robbed; what a dead process holds is taken from it. */
#define DEATH d_step { killed = true; living[0] = 0; life[0] = false; inside[0] = false }
#include "living.pml"

byte lock;
#define WORK(me) \
    lock_word(lock, self); \
    atomic { GO_INSIDE(me); assert(!two_inside) }; \
    inside[me] = false; \
    unlock_word(lock, self)

/* mpc_occupy_slot: the byte first, the id last. */
inline attach(me)
{
#ifndef FAULT_ID_BEFORE_BYTE
    life[me] = true;
#endif
    id[me] = 0;
    free_word(lock, me);
    atomic { generation[me]++; self = generation[me] << 2 | me; id[me] = self; living[me] = self };
#ifdef FAULT_ID_BEFORE_BYTE
    WORK(me);
    life[me] = true
#endif
}

/* mpc_unregister. */
inline detach(me)
{
    d_step { id[me] = 0; living[me] = 0; self = 0 };
    life[me] = false
}

#define INCARNATIONS 3

proctype mortal()
{
    LOCALS;
    byte self;
    {
        attach(0);
        do
        :: WORK(0)
        :: generation[0] < INCARNATIONS - 1 -> detach(0); attach(0)
        od
    } unless { killed };
    atomic { seen = 0; dead = false; locked = false; self = 0 };
    if
    :: true /* no process comes after it; or a newcomer finds the slot free */
    :: attach(0);
        do
        :: WORK(0)
        od
    fi
}

proctype steady(byte me)
{
    LOCALS;
    byte self = 1 << 2 | me;
    do
    :: WORK(me)
    od
}

init {
    atomic { be_born(1); be_born(2); run mortal(); run steady(1); run steady(2); run reaper() }
}

#define held_by_the_dead (lock != 0 && !OF_THE_LIVING(lock))

ltl taken_over { [] (held_by_the_dead -> <> !held_by_the_dead) }
