/* Liveness, and the word lock: what the models of this folder share.  After liveness.c, registry.c and wordlock.c.
 *
 *     slot:       | id | generation |      and the kernel's lock on its liveness byte
 *     word lock:  waiters:1 | id           0: free
 *
 * An id is incarnation << 2 | slot.  An atomic or d_step block has one access of shared memory in it, and a process
 * may die between any two: `killed` is the escape of all that it does, and at that instant the kernel frees its byte.
 *
 * A futex wait ends by a wake, a signal or its slice; so here it ends at once, always, and no wake is sent: what is
 * shown holds if every wake is lost.  A process that finds the waiters bit set has slept on the word,
 * and judges its owner. */

#define WAITERS 128
#define SLOT_OF(word) ((word) & 3)
#define OWNER_OF(word) ((word) & 127)

byte id[3];
byte generation[3];
bool life[3];

/* What is so, and no process can see. */
byte living[3]; /* id of the process that lives in the slot */
bool killed;    /* process 0 died: there is one death, and since all are alike it may be this one's */
bool inside[3]; /* which processes hold what is to be exclusive */
bool two_inside, robbed_the_living;

#define LIVES(owner) (living[SLOT_OF(owner)] == (owner))

/* A word that named the slot alone could not tell a newcomer in it from the dead one. */
#ifdef FAULT_SLOT_ONLY
#define WORD_OF(owner) (SLOT_OF(owner) + 1)
#define WORD_SLOT(word) (OWNER_OF(word) - 1)
#define WORD_ID(word) id[WORD_SLOT(word)]
#define OF_THE_LIVING(word) (living[WORD_SLOT(word)] != 0)
#else
#define WORD_OF(owner) (owner)
#define WORD_SLOT(word) SLOT_OF(word)
#define WORD_ID(word) OWNER_OF(word)
#define OF_THE_LIVING(word) LIVES(OWNER_OF(word))
#endif

/* Locals of each process: what it saw in a word, a verdict, whether it got the lock. */
#define LOCALS byte seen; bool dead, locked

/* mpc_is_dead: the slot is another's, or its byte is free.  That the slot is another's by now, which the engine asks
 * last, adds nothing here: a process that no longer has this id is dead by that. */
inline judge(owner)
{
    d_step { dead = ((owner) == 0 || id[SLOT_OF(owner)] != (owner)) };
    d_step { dead = (dead || !life[SLOT_OF(owner)]) }
}

/* mpc_lock, with time without end: to give up and to begin again is to go on. */
inline lock_word(word, self)
{
    do
    :: d_step { word == 0 -> word = WORD_OF(self); locked = true }; break
    :: d_step { word != 0 -> seen = word };
        if
        :: d_step { (seen & WAITERS) == 0 ->
               if
               :: word == seen -> word = seen | WAITERS /* and sleep */
               :: else
               fi;
               seen = 0 }
        :: (seen & WAITERS) != 0 ->
            judge(WORD_ID(seen));
            steal(word, self);
            if
            :: locked -> break
            :: !locked
            fi
        fi
    od
}

/* By the exact word that was judged. */
inline steal(word, self)
{
    d_step {
        if
#ifdef FAULT_STEAL_INEXACT
        :: dead ->
#else
        :: dead && word == seen ->
#endif
            robbed_the_living = (word != 0 && OF_THE_LIVING(word));
            word = WORD_OF(self) | WAITERS;
            locked = true
        :: else
        fi;
        dead = false;
        seen = 0
    };
    assert(!robbed_the_living)
}

/* From me to free; or from me with waiters to free.  A third word there cannot be. */
inline unlock_word(word, self)
{
    d_step {
        locked = false;
        if
        :: word == WORD_OF(self) -> word = 0
        :: else -> locked = true
        fi
    };
    if
    :: d_step { locked -> assert(word == (WORD_OF(self) | WAITERS)); word = 0; locked = false }
    :: !locked
    fi
}

/* mpc_free_word_of: what an earlier incarnation of this slot left locked. */
inline free_word(word, slot)
{
    do
    :: atomic { word != 0 && WORD_SLOT(word) == slot -> seen = word };
        d_step {
            if
            :: word == seen -> word = 0
            :: else
            fi;
            seen = 0 }
    :: atomic { word == 0 || WORD_SLOT(word) != slot -> break }
    od
}

/* To hold what is exclusive; the caller is in a block of its own. */
#define GO_INSIDE(me) two_inside = (inside[(me + 1) % 3] || inside[(me + 2) % 3]); inside[me] = true

inline be_born(slot)
{
    d_step { life[slot] = true; generation[slot] = 1; id[slot] = 1 << 2 | slot; living[slot] = 1 << 2 | slot }
}

/* Process 0 may die, once, wherever it is. */
proctype reaper()
{
    if
    :: true
    :: DEATH
    fi
}
