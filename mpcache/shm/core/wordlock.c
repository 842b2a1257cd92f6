/* The word lock: a mutex of 32 bits that outlives its owner.
 *
 *     | waiters:1 | incarnation:20 | slot + 1: 11 |        0: free
 *
 * Taken and given back by compare-and-swap.  A waiter sets the waiters bit and sleeps on the word; each time that
 * MPC_TAKEOVER_NS have passed with one and the same owner it asks whether that owner is dead, and steals the exact
 * word of a dead one.  No owner that lives is ever robbed.  What the lock guards is consistent after every single
 * store, so that a thief has nothing to repair.
 *
 * A waiter gives up when the owner makes no progress, not when time has passed: a long copy, or a queue of other
 * writers, is progress.  The owner shows it in its process slot: `steps` moves at each unlock, and every so often in
 * what takes long.  An owner without progress that wants a core is slow, and is waited for; one that is stopped is not.
 * Nor is an owner that unlocks again and again, for long, while the word never changes: a damaged word names a process
 * that is at work elsewhere.  An owner that a process has given up on is given up on at once until it moves, and soon
 * for a while after: a call of many keys shall not wait for it with each of them.
 *
 * The holder of a word lock runs C only: no Python, no malloc, no page that could fault for want of memory.  Waiters
 * judge by elapsed monotonic time, never by errno: with a timer every 2 ms each sleep ends in EINTR. */
#include "engine.h"

#include <sched.h>

#define WAITERS 0x80000000u
#define SLOT_BITS 11
#define SLOT_MASK ((1u << SLOT_BITS) - 1)
#define INCARNATION_MASK 0xfffffu
#define SPINS 200
#define SLOW_NS MPC_NS_PER_S /* so much longer an owner is waited for that does nothing but wants a core */
#define MOMENT_NS (5 * MPC_NS_PER_MS) /* of waiting for an owner that was given up on lately, and has moved since */
#define ELSEWHERE_NS MPC_NS_PER_S /* of unlocks by an owner whose word stays: it holds something else */

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

/* -- patience ----------------------------------------------------------------------------------------------------- */

/* What a waiter saw when it last looked, and for how long the owner has done nothing since. */
struct watch {
    u32 word;
    u64 steps, looked_ns;
    u64 idle_ns, judged_ns; /* judged_ns: how idle the owner was when it was last judged */
    u64 elsewhere_ns;       /* for how long it has unlocked something, and not this */
};

static u64 steps_of(const mpc_ctx *ctx, u32 word)
{
    u32 slot = slot_of(word);
    return slot < ctx->geometry.slots ? mpc_load(&mpc_slot_at(ctx, slot)->steps) : 0;
}

/* Whether the owner has moved since the last look.  A waiter that was stopped itself, or got no core, has not watched
 * meanwhile: one look counts one slice at most. */
static bool watch(const mpc_ctx *ctx, struct watch *watch, u32 seen)
{
    u64 now = mpc_mono_ns(), steps = steps_of(ctx, seen), passed = now - watch->looked_ns;
    u32 word = seen & ~WAITERS;
    watch->looked_ns = now;
    if (passed > MPC_TAKEOVER_NS)
        passed = MPC_TAKEOVER_NS;
    if (word == watch->word && steps == watch->steps) {
        watch->idle_ns += passed;
        return false;
    }
    bool unlocked = word == watch->word && steps / MPC_UNLOCKED != watch->steps / MPC_UNLOCKED;
    *watch = (struct watch){.word = word, .steps = steps, .looked_ns = now,
                            .elsewhere_ns = word == watch->word ? watch->elsewhere_ns + (unlocked ? passed : 0) : 0};
    return true;
}

static bool is_time_to_judge(struct watch *watch, u32 seen)
{
    if (seen == 0 || watch->idle_ns - watch->judged_ns < MPC_TAKEOVER_NS)
        return false;
    watch->judged_ns = watch->idle_ns;
    return true;
}

static bool is_worth_waiting(mpc_ctx *ctx, const struct watch *watch, u32 seen, u64 patience_ns, bool was_given_up)
{
    if (watch->elsewhere_ns >= (was_given_up ? patience_ns : ELSEWHERE_NS))
        return false;
    if (seen == 0 || watch->idle_ns < patience_ns)
        return true;
    if (was_given_up)
        return false;
    return watch->idle_ns < patience_ns + SLOW_NS && mpc_wants_to_run(ctx, owner_of(ctx, seen));
}

/* Remember the owner that was waited for in vain. */
static bool give_up(struct mpc_given_up *on, const struct watch *watch)
{
    if (on) {
        mpc_store(&on->steps, watch->steps);
        mpc_store(&on->until_ns, mpc_mono_ns() + ELSEWHERE_NS);
        mpc_store(&on->word, watch->word);
    }
    return false;
}

/* Whether that owner seems to have the lock still, */
static bool is_given_up(const struct mpc_given_up *on, u32 seen)
{
    return on && seen != 0 && mpc_load(&on->word) == (seen & ~WAITERS);
}

/* and if so, for how long it is worth to be waited for again. */
static u64 patience_left(const mpc_ctx *ctx, const struct mpc_given_up *on, u32 seen, u64 patience_ns)
{
    if (mpc_load(&on->steps) == steps_of(ctx, seen))
        return 0;
    bool lately = mpc_mono_ns() < mpc_load(&on->until_ns);
    return lately && patience_ns > MOMENT_NS ? MOMENT_NS : patience_ns;
}

static bool take(mpc_ctx *ctx, a32 *lock, u64 patience_ns, bool nested, struct mpc_given_up *on)
{
    u32 me = mpc_load(&ctx->self->word), seen = 0;
    MPC_POINT();
    if (mpc_cas32(lock, &seen, me) || spin(lock, me))
        return true;
    if (patience_ns == 0)
        return false;
    seen = mpc_load(lock);
    u64 patience = is_given_up(on, seen) ? patience_left(ctx, on, seen, patience_ns) : patience_ns;
    if (patience == 0)
        return take_or_steal(ctx, lock, seen, me, true);
    struct watch watched = {0};
    for (;;) {
        seen = mpc_load(lock);
        if (watch(ctx, &watched, seen) && nested && watched.word != me)
            mpc_step(mpc_steps_of(ctx));
        if (take_or_steal(ctx, lock, seen, me, is_time_to_judge(&watched, seen)))
            return true;
        if (!is_worth_waiting(ctx, &watched, seen, patience, patience < patience_ns))
            return give_up(on, &watched);
        if (seen != 0)
            sleep_on(lock, seen, MPC_TAKEOVER_NS < patience ? MPC_TAKEOVER_NS : patience);
    }
}

/* Take the lock.  False: its owner made no progress for `patience_ns` and is stopped, as far as is known; 0 only tries
 * and spins a little.  The caller is registered.  Every look is followed by an attempt, the last one, too. */
bool mpc_lock(mpc_ctx *ctx, a32 *lock, u64 patience_ns)
{
    return take(ctx, lock, patience_ns, false, NULL);
}

/* The same for a shard, whose owner is not waited for again after it was waited for in vain. */
bool mpc_lock_shard(mpc_ctx *ctx, struct mpc_shard *shard, u64 patience_ns)
{
    u64 which = (u64)((u8 *)shard - ctx->base - ctx->geometry.shards_at) / ctx->geometry.shard_bytes;
    return take(ctx, &shard->lock, patience_ns, false, &ctx->given_up[which % MPC_MAX_SHARDS]);
}

/* The same for a caller that holds another word lock: the progress of the owner that it waits for is its own progress in
 * the eyes of those who wait for that other lock. */
bool mpc_lock_nested(mpc_ctx *ctx, a32 *lock, u64 patience_ns)
{
    return take(ctx, lock, patience_ns, true, NULL);
}

/* One waiter is woken; should it die or be stopped before it takes the lock, the others wake by themselves.  The yield
 * is for fairness: a process that sets one value after the other has the lock nearly always, and would take it again
 * before any waiter has a core (with 16 writers on 2 busy cores the longest set went from 3 s to 0.3 s). */
void mpc_unlock(mpc_ctx *ctx, a32 *lock)
{
    u32 seen = mpc_load(&ctx->self->word);
    a64 *steps = mpc_steps_of(ctx);
    mpc_store(steps, mpc_load(steps) + MPC_UNLOCKED);
    MPC_POINT();
    if (mpc_cas32(lock, &seen, 0))
        return;
    if ((seen & ~WAITERS) == mpc_load(&ctx->self->word) && mpc_cas32(lock, &seen, 0)) {
        mpc_futex_wake(lock, 1);
        sched_yield();
    }
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
