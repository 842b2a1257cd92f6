/* A fill that another process forbids: one process creates and may die, one deletes, one sets.
 * After store.c and lease.c.
 *
 *     shard:  word lock | slot          bucket:  word lock | owner, fence, voided
 *
 * A value is the version of the database that its creator read, plus one; 0: the slot is empty.  A process that deletes
 * or sets has changed the database before.  The locks are what wordlock.pml has shown word locks to be, one step.
 *
 * Shown: when a delete or a set has returned, the key has no older value: at no moment, also if the filler died anywhere
 * (and settle waits); or, where a filler may be stopped for so long that settle gives up (STOP), at no moment but
 * between its two looks.  A filler that is first stopped there and then killed there (BOTH) leaves the older value. */
#ifdef STOP
#define MAY_GIVE_UP true
#define EXCUSED true
#else
#define MAY_GIVE_UP false
#define EXCUSED false
#endif
#if defined STOP && !defined BOTH
#define DEATH skip
#else
#define DEATH d_step { killed = true; living[0] = 0; life[0] = false }
#endif
#include "living.pml"

byte shard, bucket;            /* locks */
byte slot;                     /* number of a record; 0: empty */
byte owner, fence, fences, voided;
byte records;                  /* how many were appended; no number comes twice */

byte database;                 /* its version */
byte made_from[4];             /* of each record: the version; NEW where a set brought it */
byte least;                    /* the version that the last change left when it returned */
bool filling;                  /* a filler has looked, and has not yet looked again */
bool stale_value;

#define NEW 255
#define IS_DEAD(who) (id[SLOT_OF(who)] != who || !life[SLOT_OF(who)])

inline lock(word)
{
    d_step { word == 0 || IS_DEAD(word) -> word = self }
}

inline unlock(word)
{
    d_step { assert(word == self); word = 0 }
}

#define LOOK stale_value = (slot != 0 && made_from[slot] < least && !(EXCUSED && filling))

/* mpc_put_locked: no other process can publish meanwhile; a deleter in between leaves an empty slot. */
inline publish(version)
{
    d_step { records++; record = records; made_from[record] = version };
    d_step { slot = record; LOOK };
    assert(!stale_value)
}

#define MINE (owner == self && fence == token)
#define VOIDED (voided == token)

inline second_look()
{
#ifndef FAULT_NO_SECOND_LOOK
    if
    :: VOIDED -> d_step { if :: slot == record -> slot = 0 :: else fi }
    :: else
    fi;
#endif
    d_step { filling = false; LOOK };
    assert(!stale_value)
}

#ifdef FAULT_FILL_UNCHECKED
#define LOOKED true
#else
#define LOOKED (MINE && !VOIDED)
#endif

/* The lease is taken, here in one step, before the database is read; then mpc_fill, and the lease is given back. */
inline create_and_fill()
{
    d_step { owner == 0 || IS_DEAD(owner) -> fences++; fence = fences; token = fences; owner = self };
    version = database;
    if
    :: MINE && !VOIDED ->
        lock(shard);
        lock(bucket);
        if
        :: d_step { LOOKED -> filling = true };
            publish(version);
            unlock(bucket);
            second_look()
        :: d_step { !LOOKED -> assert(bucket == self); bucket = 0 }
        fi;
        unlock(shard)
    :: else
    fi;
    d_step { if :: MINE -> owner = 0 :: else fi }
}

inline attach()
{
    d_step { generation[0]++; self = generation[0] << 2; life[0] = true; id[0] = self; living[0] = self }
}

proctype filler()
{
    byte self, token, version, record;
    {
        attach();
        create_and_fill()
    } unless { killed };
    if
    :: killed ->
        d_step { filling = false; LOOK };
        assert(!stale_value);
        if
        :: true
        :: attach(); create_and_fill()
        fi
    :: else
    fi
}

/* A void that comes late may not take back one of a later hold. */
#ifdef FAULT_VOID_OVERWRITES
#define RAISE_VOIDED voided = seen
#else
#define RAISE_VOIDED d_step { if :: voided < seen -> voided = seen :: else fi }
#endif

inline void()
{
    found = (owner != 0);
    if
    :: found -> seen = fence; RAISE_VOIDED
    :: !found
    fi
}

inline settle()
{
    if
    :: found && bucket != 0 -> lock(bucket); unlock(bucket)
    :: !found || bucket == 0 || MAY_GIVE_UP
    fi
}

inline clear()
{
    do
    :: slot != 0 ->
        seen = slot;
        d_step { if :: slot == seen -> slot = 0 :: else fi }
    :: slot == 0 -> break
    od
}

inline has_returned()
{
    d_step { if :: least < mine -> least = mine :: else fi; LOOK };
    assert(!stale_value)
}

proctype deleter()
{
    byte self = 1 << 2 | 1, mine, seen;
    bool found;
    d_step { database++; mine = database };
#ifdef FAULT_VOID_LAST
    clear();
    void();
#elif defined FAULT_NO_SETTLE
    void();
    clear();
#else
    void();
    settle();
    clear();
#endif
    has_returned()
}

proctype setter()
{
    byte self = 1 << 2 | 2, mine, seen, record;
    bool found;
    d_step { database++; mine = database };
#ifndef FAULT_SET_WITHOUT_VOID
    void();
#endif
    lock(shard);
    publish(NEW);
    unlock(shard);
    has_returned()
}

init {
    atomic { be_born(1); be_born(2); run filler(); run deleter(); run setter(); run reaper() }
}
