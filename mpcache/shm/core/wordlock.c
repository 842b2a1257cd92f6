/* The word lock: a mutex of 32 bits that outlives its owner.
 *
 *     | waiters:1 | incarnation:20 | slot + 1: 11 |        0: free
 *
 * Taken and given back by compare-and-swap.  A waiter sets the waiters bit and sleeps on the word; each time that
 * MPC_TAKEOVER_NS have passed with one and the same owner it asks whether that owner is dead, and steals the exact
 * word of a dead one.  No owner that lives is ever robbed.  What the lock guards is consistent after every single
 * store, so that a thief has nothing to repair.
 *
 * Whoever holds one runs C only: no Python, no malloc, no page that could fault for want of memory.  Judged is by
 * elapsed monotonic time, never by errno: with a timer every 2 ms each sleep ends in EINTR. */
#include "engine.h"

#define WAITERS 0x80000000u
#define SLOT_BITS 11
#define SLOT_MASK ((1u << SLOT_BITS) - 1)
#define INCARNATION_MASK 0xfffffu
#define SPINS 200

static u32 slot_of(u32 word)
{
    return (word & SLOT_MASK) - 1;
}

/* How word locks name the process with this id. */
u32 mpc_word_of(u64 owner)
{
    return (u32)(owner >> 16 & INCARNATION_MASK) << SLOT_BITS | ((u32)(owner & 0xffff) + 1);
}

/* The owner's id as its slot has it now, or 0 when that slot is another incarnation's. */
static u64 owner_of(mpc_ctx *ctx, u32 word)
{
    u32 slot = slot_of(word);
    if (slot >= ctx->geometry.slots)
        return 0;
    u64 id = mpc_load_acquire(&mpc_slot_at(ctx, slot)->id);
    u32 incarnation = (word & ~WAITERS) >> SLOT_BITS;
    return ((id >> 16) & INCARNATION_MASK) == incarnation ? id : 0;
}

static bool owner_is_dead(mpc_ctx *ctx, u32 word)
{
    u64 id = owner_of(ctx, word);
    return id == 0 || mpc_is_dead(ctx, id);
}

static bool spin(a32 *lock, u32 me)
{
    for (int i = 0; i < SPINS; i++) {
        u32 seen = mpc_load(lock);
        if (seen == 0 && mpc_cas32(lock, &seen, me))
            return true;
        if (seen & WAITERS)
            return false; /* others sleep already: do not overtake them by force */
        mpc_pause();
    }
    return false;
}

/* One who slept keeps the waiters bit: others may sleep still, and he cannot know. */
static bool take_or_steal(mpc_ctx *ctx, a32 *lock, u32 seen, u32 me, bool judge)
{
    if (seen == 0)
        return mpc_cas32(lock, &seen, me | WAITERS);
    if (!judge || !owner_is_dead(ctx, seen))
        return false;
    MPC_POINT();
    if (!mpc_cas32(lock, &seen, me | WAITERS))
        return false;
    mpc_count(ctx, MPC_COUNT_OWNER_DEATHS);
    return true;
}

static void sleep_on(a32 *lock, u32 seen, u64 ns)
{
    if ((seen & WAITERS) == 0 && !mpc_cas32(lock, &seen, seen | WAITERS))
        return;
    mpc_futex_wait(lock, seen | WAITERS, ns);
}

/* Take the lock within `wait_ns`; 0 only tries and spins a little.  The caller is registered.  The last look comes after
 * the time is over: who was stopped himself has waited for nobody meanwhile. */
bool mpc_lock(mpc_ctx *ctx, a32 *lock, u64 wait_ns)
{
    u32 me = mpc_load(&ctx->self->word), seen = 0;
    MPC_POINT();
    if (mpc_cas32(lock, &seen, me) || spin(lock, me))
        return true;
    if (wait_ns == 0)
        return false;
    u64 start = mpc_mono_ns(), now = start, since = start;
    u32 watched = 0;
    for (;; now = mpc_mono_ns()) {
        seen = mpc_load(lock);
        if ((seen & ~WAITERS) != watched) {
            watched = seen & ~WAITERS;
            since = now;
        }
        bool judge = seen != 0 && now - since >= MPC_TAKEOVER_NS;
        if (take_or_steal(ctx, lock, seen, me, judge))
            return true;
        if (now - start >= wait_ns)
            return false;
        if (judge)
            since = now;
        if (seen != 0)
            sleep_on(lock, seen, MPC_TAKEOVER_NS < wait_ns ? MPC_TAKEOVER_NS : wait_ns);
    }
}

/* One waiter is woken; should it die or be stopped before it takes the lock, the others wake by themselves. */
void mpc_unlock(mpc_ctx *ctx, a32 *lock)
{
    u32 seen = mpc_load(&ctx->self->word);
    MPC_POINT();
    if (mpc_cas32(lock, &seen, 0))
        return;
    if ((seen & ~WAITERS) == mpc_load(&ctx->self->word) && mpc_cas32(lock, &seen, 0))
        mpc_futex_wake(lock, 1);
}

/* Give back what an earlier incarnation of `slot` left locked.  The caller holds that slot's liveness byte, so
 * nobody else can own the word rightfully. */
void mpc_free_word_of(a32 *lock, u32 slot)
{
    u32 seen = mpc_load(lock);
    while (seen != 0 && slot_of(seen) == slot) /* again when only the waiters bit came */
        if (mpc_cas32(lock, &seen, 0)) {
            mpc_futex_wake(lock, 1 << 30);
            return;
        }
}
