/* One lease and the lock of its bucket: three processes want it, one may die, and slots get other owners.
 * After lease.c and lease_table.c.
 *
 *     bucket:  word lock | owner, fence, unstored         header:  fence, the last that was given out
 *
 * The bucket's lock is here what wordlock.pml has shown the word lock to be: taken in one step, when free or from a
 * dead owner.  A release that cannot have it goes on without it.
 *
 * Shown: no two living processes hold it; no living process is robbed; a fence never comes again; a waiter that learns
 * that nothing was stored waited for a hold that stored nothing; and all living processes end their work, whichever
 * process died with whatever it held. */
#define DEATH \
    d_step { \
        killed = true; \
        inside[0] = false; \
        if \
        :: slot_of_mortal < 3 -> living[slot_of_mortal] = 0; life[slot_of_mortal] = false; slot_of_mortal = 3 \
        :: else \
        fi \
    }
byte slot_of_mortal = 3; /* 3: it has none */
#include "living.pml"

byte bucket;
byte owner, fence, unstored;
byte fences;

byte last_fence, ended_unstored;   /* the latter: a bit for each fence */
bool fence_came_again, wrongly_told;
byte old_token;                    /* of process 1 */
byte done;

inline give_out_fence(into)
{
#ifdef FAULT_FENCE_IN_TWO_STEPS
    into = fences + 1;
    d_step { fences = into; fence_came_again = (into <= last_fence); last_fence = into };
#else
    d_step { fences++; into = fences; fence_came_again = (into <= last_fence); last_fence = into };
#endif
    assert(!fence_came_again)
}

/* mpc_lease_take_locked: an entry that is taken from the dead has no owner in between; the owner is stored last. */
inline take(me)
{
    d_step {
        robbed_the_living = (owner != 0 && LIVES(owner));
#ifdef FAULT_OWNER_FIRST
        owner = self
#else
        owner = 0
#endif
    };
    assert(!robbed_the_living);
    give_out_fence(token);
    fence = token;
    atomic {
#ifndef FAULT_OWNER_FIRST
        owner = self;
#endif
        GO_INSIDE(me);
        assert(!two_inside)
    }
}

#ifdef FAULT_STALE_VERDICT
#define WAS_JUDGED_DEAD its_dead
#else
#define WAS_JUDGED_DEAD (its_dead && owner == its_owner && fence == its_fence)
#endif

/* Owner and fence in one step: while the bucket is locked only an owner can go away. */
inline note_holder()
{
    d_step {
        its_dead = (its_dead && its_owner == owner && its_fence == fence);
        its_owner = owner;
        its_fence = fence
    }
}

#define IS_DEAD(who) (id[SLOT_OF(who)] != who || !life[SLOT_OF(who)])

inline lock()
{
    d_step { bucket == 0 || IS_DEAD(bucket) -> bucket = self }
}

inline unlock()
{
    d_step { assert(bucket == self); bucket = 0 }
}

#ifdef FAULT_UNSTORED_IS_A_FLAG
#define TOLD_UNSTORED (unstored != 0)
#define TELL_STORED unstored = 0
#else
#define TOLD_UNSTORED (unstored == its_fence)
#define TELL_STORED skip
#endif

/* mpc_lease_try, and mpc_lease_wait with what it tells, until it is got. */
inline acquire(me)
{
    do
    :: lock();
        if
        :: owner == 0 -> take(me)
        :: owner != 0 ->
            if
            :: WAS_JUDGED_DEAD -> take(me)
            :: else -> note_holder()
            fi
        fi;
        unlock();
        if
        :: token != 0 -> break
        :: token == 0
        fi;
#ifndef FAULT_NEVER_JUDGED
        judge(its_owner);
        d_step { its_dead = dead; dead = false };
#endif
        if
        :: d_step { !its_dead && (owner != its_owner || fence != its_fence) -> /* holder_left */
               wrongly_told = (TOLD_UNSTORED && (ended_unstored & (1 << its_fence)) == 0);
               its_owner = 0;
               its_fence = 0 };
            assert(!wrongly_told)
        :: else
        fi
    od;
    atomic { its_owner = 0; its_fence = 0; its_dead = false }
}

#if defined FAULT_RELEASE_UNCHECKED
#define IS_MINE(what) true
#elif defined FAULT_RELEASE_WITHOUT_FENCE
#define IS_MINE(what) (owner == self)
#else
#define IS_MINE(what) (owner == self && fence == what)
#endif

#ifdef FAULT_RELEASE_UNCHECKED
#define give_back(from) owner = 0
#else
#define give_back(from) d_step { if :: owner == from -> owner = 0 :: else fi }
#endif

/* mpc_lease_release.  A holder that cannot get the lock releases the lease without it. */
inline release(me, what, stored)
{
    if
    :: IS_MINE(what) ->
        if
        :: lock(); locked = true
        :: bucket != 0
        fi;
        if
        :: !stored -> d_step { unstored = what; ended_unstored = ended_unstored | 1 << what }
        :: else -> TELL_STORED
        fi;
        give_back(self);
        if
        :: locked -> unlock(); locked = false
        :: !locked
        fi
    :: else
    fi
}

inline hold(me)
{
    acquire(me);
    inside[me] = false; /* from here on it wants it no more */
    if
    :: stored = true
    :: stored = false
    fi;
    release(me, token, stored);
    stored = false
}

/* mpc_lease_free_slot: by the slot alone, so it must be one's own. */
inline free_leases(slot)
{
    d_step { if :: SLOT_OF(bucket) == slot && bucket != 0 -> bucket = 0 :: else fi };
    if
    :: owner != 0 && SLOT_OF(owner) == slot -> d_step { if :: SLOT_OF(owner) == slot -> owner = 0 :: else fi }
    :: else
    fi
}

/* The first slot whose byte can be had; process 1 has slot 1. */
inline attach(slot, mortal)
{
    atomic {
        if
        :: !life[0] -> slot = 0
        :: life[0] -> slot = 2
        fi;
        life[slot] = true;
        if
        :: mortal -> slot_of_mortal = slot
        :: else
        fi
    };
    id[slot] = 0;
    free_leases(slot);
    atomic { generation[slot]++; self = generation[slot] << 2 | slot; id[slot] = self; living[slot] = self }
}

#define free_byte(slot) life[slot] = false; if :: slot_of_mortal == slot -> slot_of_mortal = 3 :: else fi

/* mpc_unregister: what it holds, its id, and the byte last. */
inline detach(slot)
{
#ifdef FAULT_BYTE_BEFORE_LEASES
    d_step { living[slot] = 0; free_byte(slot) };
    free_leases(slot);
    d_step { if :: id[slot] == self -> id[slot] = 0 :: else fi };
#else
    free_leases(slot);
    d_step { id[slot] = 0; living[slot] = 0 };
    d_step { free_byte(slot) };
#endif
    self = 0
}

#define HOLDER byte self, token, slot, its_owner, its_fence; bool its_dead, stored, dead, locked

proctype mortal()
{
    HOLDER;
    {
        attach(slot, true);
        acquire(0);
        inside[0] = false;
        if
        :: release(0, token, true)
        :: true /* it goes with the lease */
        fi;
        detach(slot)
    } unless { killed };
    if
    :: killed ->
        atomic { dead = false; locked = false; token = 0; its_owner = 0; its_fence = 0; its_dead = false };
        if
        :: true
        :: attach(slot, false); hold(0)
        fi
    :: else
    fi;
    done++
}

proctype steady()
{
    HOLDER;
    self = 1 << 2 | 1;
    hold(1);
#ifdef TOKENS
    atomic { old_token = token; token = 0 };
    hold(1);
#endif
    done++
}

#ifdef TOKENS
/* A thread of the steady process gives its first hold back once more, whenever it likes. */
proctype sloppy()
{
    bool locked;
    byte self = 1 << 2 | 1;
    old_token != 0;
    release(1, old_token, true)
}

/* The lease of another bucket is taken. */
proctype elsewhere()
{
    byte token;
    give_out_fence(token)
}

#define THIRD run sloppy(); run elsewhere()
#define ALL 2
#else
/* It comes when it likes, perhaps into a slot that was another's. */
proctype late()
{
    HOLDER;
    attach(slot, false);
    hold(2);
    done++
}

#define THIRD run late()
#define ALL 3
#endif

init {
    atomic { be_born(1); run mortal(); run steady(); THIRD; run reaper() }
}

ltl all_end { <> (done == ALL) }
