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
 * Nor is an owner that unlocks for a second, but not this lock: a damaged word names a process that is at work
 * elsewhere.  Each shard counts its own moves for that, in which other threads of its owner have no part: its unlocks,
 * and the steps of long work under its lock.  An owner that a process has given up on is given up on at once until it
 * moves, or wants to: a call of many keys shall not wait for it with each of them.
 *
 * The holder of a word lock runs C only: no Python, no malloc, no page that could fault for want of memory.  Waiters
 * judge by elapsed monotonic time, never by errno: with a timer every 2 ms each sleep ends in EINTR. */
#include "wordlock.h"

#include "liveness.h"

#include <sched.h>

#define WAITERS 0x80000000u
#define SLOT_BITS 11
#define SLOT_MASK ((1u << SLOT_BITS) - 1)
#define INCARNATION_MASK 0xfffffu
#define SPINS 200
#define SLOW_NS MPC_NS_PER_S /* so much longer an owner is waited for that does nothing but wants a core */
#define UNWATCHED_NS (5 * MPC_TAKEOVER_NS) /* counted of a look that came late, of an owner at work meanwhile */
#define ELSEWHERE_NS MPC_NS_PER_S /* for which an owner may unlock other locks, and never this one */

static u32 mpc_word_slot(u32 word)
{
    return (word & SLOT_MASK) - 1;
}

/* How word locks name the process with this id. */
u32 mpc_word_of(u64 owner)
{
    return (u32)(owner >> 16 & INCARNATION_MASK) << SLOT_BITS | ((u32)(owner & 0xffff) + 1);
}

/* The owner's id as its slot has it now, or 0 when that slot is another incarnation's. */
static u64 mpc_word_owner(const mpc_ctx *ctx, u32 word)
{
    u32 slot = mpc_word_slot(word);
    if (slot >= ctx->geometry.slots)
        return 0;
    u64 id = mpc_load_acquire(&mpc_slot_at(ctx, slot)->id);
    u32 incarnation = (word & ~WAITERS) >> SLOT_BITS;
    return ((id >> 16) & INCARNATION_MASK) == incarnation ? id : 0;
}

static bool mpc_word_owner_is_dead(mpc_ctx *ctx, u32 word)
{
    u64 id = mpc_word_owner(ctx, word);
    return id == 0 || mpc_is_dead(ctx, id);
}

static bool mpc_spin(a32 *lock, u32 me)
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
static bool mpc_take_or_steal(mpc_ctx *ctx, a32 *lock, u32 seen, u32 me, bool judge)
{
    if (seen == 0)
        return mpc_cas32(lock, &seen, me | WAITERS);
    if (!judge || !mpc_word_owner_is_dead(ctx, seen))
        return false;
    MPC_POINT();
    if (!mpc_cas32(lock, &seen, me | WAITERS))
        return false;
    mpc_count(ctx, MPC_COUNT_OWNER_DEATHS);
    return true;
}

static void mpc_sleep_on(a32 *lock, u32 seen, u64 ns)
{
    if ((seen & WAITERS) == 0 && !mpc_cas32(lock, &seen, seen | WAITERS))
        return;
    mpc_futex_wait(lock, seen | WAITERS, ns);
}

/* -- patience ----------------------------------------------------------------------------------------------------- */

/* A lock as its waiters see it.  A shard counts its moves, and each process remembers on whom it gave up there. */
struct mpc_lock_view {
    a32 *word, *moves;
    struct mpc_given_up *given_up;
};

/* What a waiter saw when it last looked, and for how long the owner has done nothing since. */
struct mpc_watch {
    u32 word, moves;
    u64 steps, looked_ns;
    u64 idle_ns, judged_ns; /* judged_ns: how idle the owner was when it was last judged */
    u64 elsewhere_ns;       /* for how long it has unlocked other locks, now and then, and not this one */
};

/* An owner that is gone makes no steps: its slot may be another process's by now, which is at work. */
static u64 mpc_owner_steps(const mpc_ctx *ctx, u32 word)
{
    return mpc_word_owner(ctx, word) != 0 ? mpc_load(&mpc_slot_at(ctx, mpc_word_slot(word))->steps) : 0;
}

static u32 mpc_lock_moves(const struct mpc_lock_view *lock)
{
    return lock->moves ? mpc_load(lock->moves) : 0;
}

/* Look again; whether the owner has moved.  A waiter that was stopped itself, or got no core, has not watched
 * meanwhile: one look counts one slice at most. */
static bool mpc_watch_owner(const mpc_ctx *ctx, const struct mpc_lock_view *lock, struct mpc_watch *watch, u32 seen)
{
    struct mpc_watch now = {.word = seen & ~WAITERS,
                            .moves = mpc_lock_moves(lock),
                            .steps = mpc_owner_steps(ctx, seen),
                            .looked_ns = mpc_mono_ns()};
    u64 unwatched = now.looked_ns - watch->looked_ns;
    u64 passed = unwatched < MPC_TAKEOVER_NS ? unwatched : MPC_TAKEOVER_NS;
    bool is_same = now.word == watch->word && now.moves == watch->moves;
    if (is_same && now.steps == watch->steps) {
        watch->looked_ns = now.looked_ns;
        watch->idle_ns += passed;
        return false;
    }
    if (is_same) /* a shard's moves tell of the time that was not watched, too */
        now.elsewhere_ns = watch->elsewhere_ns;
    if (is_same && now.steps / MPC_UNLOCKED != watch->steps / MPC_UNLOCKED)
        now.elsewhere_ns += watch->idle_ns + (unwatched < UNWATCHED_NS ? unwatched : UNWATCHED_NS);
    *watch = now;
    return true;
}

static bool mpc_is_time_to_judge(struct mpc_watch *watch, u32 seen)
{
    if (seen == 0 || watch->idle_ns - watch->judged_ns < MPC_TAKEOVER_NS)
        return false;
    watch->judged_ns = watch->idle_ns;
    return true;
}

static bool mpc_is_worth_waiting(mpc_ctx *ctx, const struct mpc_watch *watch, u32 seen, u64 patience_ns)
{
    if (seen == 0)
        return true;
    if (watch->elsewhere_ns >= ELSEWHERE_NS)
        return false;
    if (watch->idle_ns < patience_ns)
        return true;
    return watch->idle_ns < patience_ns + SLOW_NS && mpc_wants_to_run(ctx, mpc_word_owner(ctx, seen));
}

/* -- giving up --------------------------------------------------------------------------------------------------- */

/* Remember the owner that was waited for in vain. */
static bool mpc_give_up(const struct mpc_lock_view *lock, const struct mpc_watch *watch)
{
    if (lock->given_up) {
        mpc_store(&lock->given_up->moves, watch->moves);
        mpc_store(&lock->given_up->steps, watch->steps);
        mpc_store(&lock->given_up->idle_ns, watch->idle_ns);
        mpc_store(&lock->given_up->elsewhere_ns, watch->elsewhere_ns);
        mpc_store(&lock->given_up->word, watch->word);
    }
    return false;
}

/* Whether this process has given up on that owner, under which the lock has not moved since. */
static bool mpc_was_given_up(const struct mpc_lock_view *lock, u32 seen)
{
    return lock->given_up && seen != 0 && mpc_load(&lock->given_up->word) == (seen & ~WAITERS) &&
           mpc_load(&lock->given_up->moves) == mpc_lock_moves(lock);
}

/* -- taking ------------------------------------------------------------------------------------------------------- */

static bool mpc_watch_and_take(mpc_ctx *ctx, const struct mpc_lock_view *lock, struct mpc_watch *watched,
                               u64 patience_ns, bool nested)
{
    u32 me = mpc_load(&ctx->self->word);
    for (;;) {
        u32 seen = mpc_load(lock->word);
        if (mpc_watch_owner(ctx, lock, watched, seen) && nested && watched->word != me)
            mpc_step(mpc_steps_of(ctx));
        if (mpc_take_or_steal(ctx, lock->word, seen, me, mpc_is_time_to_judge(watched, seen)))
            return true;
        if (!mpc_is_worth_waiting(ctx, watched, seen, patience_ns))
            return mpc_give_up(lock, watched);
        if (seen != 0)
            mpc_sleep_on(lock->word, seen, MPC_TAKEOVER_NS < patience_ns ? MPC_TAKEOVER_NS : patience_ns);
    }
}

/* Every look is followed by an attempt, the last one, too.  An owner that this process has given up on is watched from
 * where it was left: if it is still stopped that ends at once, and if it wants a core by now it is waited for. */
static bool mpc_take_word(mpc_ctx *ctx, const struct mpc_lock_view *lock, u64 patience_ns, bool nested)
{
    u32 me = mpc_load(&ctx->self->word), seen = 0;
    struct mpc_watch watched = {0};
    MPC_POINT();
    if (mpc_cas32(lock->word, &seen, me) || mpc_spin(lock->word, me))
        return true;
    if (patience_ns == 0)
        return false;
    seen = mpc_load(lock->word);
    if (mpc_was_given_up(lock, seen))
        watched = (struct mpc_watch){.word = seen & ~WAITERS,
                                     .moves = mpc_lock_moves(lock),
                                     .looked_ns = mpc_mono_ns(),
                                     .steps = mpc_load(&lock->given_up->steps),
                                     .idle_ns = mpc_load(&lock->given_up->idle_ns),
                                     .elsewhere_ns = mpc_load(&lock->given_up->elsewhere_ns)};
    return mpc_watch_and_take(ctx, lock, &watched, patience_ns, nested);
}

/* Take the lock.  False: its owner made no progress for `patience_ns` and is stopped, as far as is known; 0 only tries
 * and spins a little.  The caller is registered. */
bool mpc_lock(mpc_ctx *ctx, a32 *word, u64 patience_ns)
{
    return mpc_take_word(ctx, &(struct mpc_lock_view){.word = word}, patience_ns, false);
}

/* The same for a caller that holds another word lock: the progress of the owner that it waits for is its own progress in
 * the eyes of those who wait for that other lock. */
bool mpc_lock_nested(mpc_ctx *ctx, a32 *word, u64 patience_ns)
{
    return mpc_take_word(ctx, &(struct mpc_lock_view){.word = word}, patience_ns, true);
}

/* The same for a shard. */
bool mpc_take_shard(mpc_ctx *ctx, struct mpc_shard *shard, u64 patience_ns)
{
    u64 which = (u64)((u8 *)shard - ctx->base - ctx->geometry.shards_at) / ctx->geometry.shard_bytes;
    const struct mpc_lock_view lock = {&shard->lock, &shard->moves, &ctx->given_up[which % MPC_MAX_SHARDS]};
    return mpc_take_word(ctx, &lock, patience_ns, false);
}

void mpc_unlock_shard(mpc_ctx *ctx, struct mpc_shard *shard)
{
    mpc_store(&shard->moves, mpc_load(&shard->moves) + 1);
    mpc_unlock(ctx, &shard->lock);
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
    while (seen != 0 && mpc_word_slot(seen) == slot) /* again when only the waiters bit came */
        if (mpc_cas32(lock, &seen, 0)) {
            mpc_futex_wake(lock, 1 << 30);
            return;
        }
}
