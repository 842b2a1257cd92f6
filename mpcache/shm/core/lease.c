/* Leases: acquiring, waiting for and releasing the hold of a key, and the guard of a fill.
 *
 *     acquire      lock bucket; no entry of the key: write key, fence = ++F, and *owner last*
 *     take over    an entry whose owner was judged dead, if owner and fence are still those that were judged
 *     wait         has_waiters = 1; unlock; sleep on seq, at most 20 ms; check, judge, again
 *     release      lock bucket; token matches; seq++; owner = 0; wake all
 *     void         any other change of the key: voided = fence, if that is more; one atomic word, no lock
 *
 * There is no count of waiters: a waiter that was killed could not subtract itself.  The table is in lease_table.c. */
#include "lease.h"

#include "attach.h"
#include "liveness.h"
#include "wordlock.h"

#define SLICE_NS (20 * MPC_NS_PER_MS)
#define NESTED_WAIT_NS (25 * MPC_NS_PER_MS) /* one take-over: others wait for the shard that the caller holds */

/* -- taking -------------------------------------------------------------------------------------------------------- */

static void mpc_note_holder(const mpc_ctx *ctx, struct mpc_lease *lease, mpc_wait *wait)
{
    u64 owner = mpc_load_acquire(&lease->owner), fence = mpc_load(&lease->fence);
    u32 entry = mpc_lease_number(ctx, lease);
    if (wait->owner != owner || wait->fence != fence || wait->entry != entry)
        *wait = (mpc_wait){.owner = owner, .fence = fence, .entry = entry, .since_ns = mpc_mono_ns()};
    wait->seq = mpc_load(&lease->seq);
    atomic_store(&lease->has_waiters, 1);
}

static bool mpc_was_judged_dead(struct mpc_lease *lease, const mpc_wait *wait)
{
#ifdef MPC_FAULT_DEAD_BY_AGE
    if (wait->since_ns != 0 && mpc_mono_ns() - wait->since_ns > 100 * MPC_NS_PER_MS)
        return true;
#endif
#ifdef MPC_FAULT_STALE_VERDICT
    return wait->dead;
#endif
    return wait->dead && mpc_load_acquire(&lease->owner) == wait->owner && mpc_load(&lease->fence) == wait->fence;
}

static mpc_status mpc_lease_try_locked(mpc_ctx *ctx, struct mpc_lease_bucket *bucket, const u64 key[2], mpc_hold *hold,
                                       mpc_wait *wait)
{
    struct mpc_lease *lease = mpc_lease_find(bucket, key);
    if (lease && !mpc_was_judged_dead(lease, wait)) {
        mpc_note_holder(ctx, lease, wait);
        return MPC_HELD;
    }
    wait->took_over = lease != NULL;
    if (!lease)
        lease = mpc_lease_vacant_locked(ctx, bucket);
    if (!lease)
        return MPC_AGAIN;
    mpc_lease_take_locked(ctx, bucket, lease, key, hold);
    mpc_lease_wake(lease);
    mpc_count(ctx, wait->took_over ? MPC_COUNT_TAKEOVERS : MPC_COUNT_LEASES);
    return MPC_OK;
}

static mpc_status mpc_lease_try_once(mpc_ctx *ctx, const mpc_key *key, mpc_hold *hold, mpc_wait *wait, u64 wait_ns)
{
    u64 hash[2];
    mpc_key_hash128(ctx, key, hash);
    struct mpc_lease_bucket *bucket = mpc_lease_bucket_of(ctx, hash);
    if (!mpc_lock(ctx, &bucket->lock, wait_ns))
        return MPC_BUSY;
    mpc_status status = mpc_lease_try_locked(ctx, bucket, hash, hold, wait);
    mpc_unlock(ctx, &bucket->lock);
    return status;
}

/* Take the key if it is not held, or if its holder is dead.  MPC_HELD: `wait` names the holder.  MPC_AGAIN: the table
 * has no room for the key now.  MPC_BUSY: its bucket stayed locked.  `wait` begins as all zero.
 *
 * The holder is judged without the lock, because judging takes system calls.  So the verdict is for the hold that
 * was seen, and is void for any other. */
mpc_status mpc_lease_try(mpc_ctx *ctx, const mpc_key *key, mpc_hold *hold, mpc_wait *wait, u64 wait_ns)
{
    mpc_status status = mpc_enter(ctx);
    if (status == MPC_OK)
        status = mpc_revalidate(ctx);
    if (status != MPC_OK)
        return status;
    status = mpc_lease_try_once(ctx, key, hold, wait, wait_ns);
    if (status != MPC_HELD || !mpc_is_dead(ctx, wait->owner))
        return status;
    wait->dead = true;
    MPC_POINT();
    return mpc_lease_try_once(ctx, key, hold, wait, wait_ns);
}

/* -- waiting ------------------------------------------------------------------------------------------------------- */

/* Store in each entry that this process holds which entry it waits for.  Processes that wait for one of these keys
 * can follow the link. */
static void mpc_lease_publish_wait(mpc_ctx *ctx, const mpc_hold *held, u32 count, u32 waits_for)
{
    for (u32 i = 0; i < count; i++) {
        struct mpc_lease *lease = mpc_lease_at(ctx, held[i].entry % mpc_lease_entries(ctx));
        u64 owner, fence;
        if (mpc_lease_read_holder(lease, &owner, &fence) && owner == held[i].owner && fence == held[i].fence)
            mpc_store_release(&lease->waits_for, waits_for);
    }
}

static bool mpc_is_held_entry(const mpc_ctx *ctx, u64 owner, const mpc_hold *held, u32 count, u32 entry)
{
    if (owner != mpc_load(&ctx->self->owner))
        return false;
    for (u32 i = 0; i < count; i++)
        if (held[i].entry == entry)
            return true;
    return false;
}

/* Follow holder -> what it waits for, from the entry that this process waits for, until an entry that it holds.
 * Return a signature of the cycle with every fence on it, or 0; *youngest receives the youngest fence.  The path may
 * lead into a cycle of other processes, and would not end there: so an entry is remembered, a later one each time
 * that the steps since have doubled, and the walk ends when it comes back to it (Brent, "An improved Monte Carlo
 * factorization algorithm", 1980). */
static u64 mpc_find_cycle(mpc_ctx *ctx, u32 from, const mpc_hold *held, u32 count, u64 *youngest)
{
    static const u64 seed[2] = {0x636972636c65ull, 0x77616974ull};
    u64 signature = 1, at = from, remembered = from, steps = 0, until = 1;
    *youngest = 0;
    for (u32 hop = 0; hop < mpc_lease_entries(ctx); hop++) {
        u64 owner, fence;
        if (at >= mpc_lease_entries(ctx) || !mpc_lease_read_holder(mpc_lease_at(ctx, (u32)at), &owner, &fence))
            return 0;
        u64 link[2] = {at, fence};
        signature = mpc_hash(seed, signature, link, sizeof link) | 1;
        if (fence > *youngest)
            *youngest = fence;
        if (mpc_is_held_entry(ctx, owner, held, count, (u32)at))
            return signature;
        u32 next = mpc_load_acquire(&mpc_lease_at(ctx, (u32)at)->waits_for);
        at = next - 1ull;
        if (next == 0 || at == remembered)
            return 0;
        if (++steps == until) {
            remembered = at;
            until *= 2;
            steps = 0;
        }
    }
    return 0;
}

/* A cycle is believed when two checks, a slice apart, found the same one: no holder on it changed in between.  The
 * process with the youngest hold gets the error; the others go on when it releases its hold. */
static bool mpc_is_deadlock(mpc_ctx *ctx, mpc_wait *wait, const mpc_hold *held, u32 count)
{
    u64 youngest, before = wait->cycle;
    wait->cycle = count ? mpc_find_cycle(ctx, wait->entry, held, count, &youngest) : 0;
    if (wait->cycle == 0 || wait->cycle != before)
        return false;
    for (u32 i = 0; i < count; i++)
        if (held[i].fence == youngest)
            return true;
    return false;
}

static bool mpc_holder_left(mpc_ctx *ctx, const mpc_wait *wait, mpc_status *how)
{
    struct mpc_lease *lease = mpc_lease_at(ctx, wait->entry);
    u64 owner, fence;
    if (mpc_lease_read_holder(lease, &owner, &fence) && owner == wait->owner && fence == wait->fence)
        return false;
    u64 ended = mpc_load_acquire(&lease->ended);
    *how = ended >> 2 != wait->fence ? MPC_RELEASED : MPC_UNSTORED;
    return true;
}

/* Sleep until the holder releases the key, for one slice at most, or less.
 *
 * MPC_RELEASED, MPC_UNSTORED: read the value again.  MPC_AGAIN: the same holder still holds it, as far as is known;
 * mpc_lease_try() finds out whether it is alive.  MPC_DEADLOCK: the holder waits for this process.  The entries that
 * this process holds say that it waits until mpc_lease_waited() is called, also between two slices: a check that
 * falls there would miss the cycle. */
mpc_status mpc_lease_wait(mpc_ctx *ctx, mpc_wait *wait, const mpc_hold *held, u32 count, u64 at_most_ns)
{
    mpc_status how = MPC_AGAIN;
    if (wait->entry >= mpc_lease_entries(ctx) || mpc_holder_left(ctx, wait, &how))
        return how;
    mpc_lease_publish_wait(ctx, held, count, wait->entry + 1);
    mpc_futex_wait(&mpc_lease_at(ctx, wait->entry)->seq, wait->seq, at_most_ns < SLICE_NS ? at_most_ns : SLICE_NS);
    bool deadlock = false;
    if (!mpc_holder_left(ctx, wait, &how) && mpc_mono_ns() - wait->since_ns >= SLICE_NS) {
        wait->since_ns = mpc_mono_ns();
        deadlock = mpc_is_deadlock(ctx, wait, held, count);
    }
    return deadlock ? MPC_DEADLOCK : how;
}

void mpc_lease_waited(mpc_ctx *ctx, const mpc_hold *held, u32 count)
{
    mpc_lease_publish_wait(ctx, held, count, 0);
}

/* -- giving back --------------------------------------------------------------------------------------------------- */

bool mpc_lease_mine(mpc_ctx *ctx, const mpc_hold *hold)
{
    return hold->entry < mpc_lease_entries(ctx) && hold->owner == mpc_load(&ctx->self->owner) &&
           mpc_lease_matches(mpc_lease_at(ctx, hold->entry), hold);
}

/* Release the hold, and say how it ended.  MPC_NOT_HELD: it was lost.  With `wait_ns` 0 the bucket's lock is only
 * tried: MPC_BUSY, the key is still held.  The busy bit is cleared only under the lock, where no other process can be
 * setting it; if the lock cannot be had in time, the bit stays. */
mpc_status mpc_lease_release(mpc_ctx *ctx, const mpc_hold *hold, enum mpc_ending how, u64 wait_ns)
{
    if (hold->shared)
        return MPC_OK;
    if (!mpc_lease_mine(ctx, hold))
        return MPC_NOT_HELD;
    struct mpc_lease *lease = mpc_lease_at(ctx, hold->entry);
    struct mpc_lease_bucket *bucket = mpc_lease_bucket_with(ctx, hold->entry);
    bool locked = mpc_lock(ctx, &bucket->lock, wait_ns);
    if (!locked && wait_ns == 0)
        return MPC_BUSY;
    if (how != MPC_ENDED_STORED)
        mpc_store_release(&lease->ended, hold->fence << 2 | how);
    mpc_lease_free(lease, hold->owner);
    if (locked) {
        atomic_fetch_and(&bucket->busy, ~(1u << hold->entry % MPC_LEASES_PER_BUCKET));
        mpc_unlock(ctx, &bucket->lock);
    }
    return MPC_OK;
}

/* Return whether a living process holds the key.  Never takes it. */
bool mpc_lease_held(mpc_ctx *ctx, const mpc_key *key, u64 *owner)
{
    u64 hash[2], fence;
    mpc_key_hash128(ctx, key, hash);
    struct mpc_lease *lease = mpc_lease_find(mpc_lease_bucket_of(ctx, hash), hash);
    return lease && mpc_lease_read_holder(lease, owner, &fence) && !mpc_is_dead(ctx, *owner);
}

/* -- fills --------------------------------------------------------------------------------------------------------- */

static mpc_status mpc_lease_guard_locked(mpc_ctx *ctx, struct mpc_lease_bucket *bucket, const u64 key[2],
                                         mpc_hold *guard)
{
    mpc_wait wait = {0};
    struct mpc_lease *lease = mpc_lease_find(bucket, key);
    u64 owner, fence;
    if (lease && mpc_lease_read_holder(lease, &owner, &fence)) {
        if (owner == mpc_load(&ctx->self->owner)) {
            *guard = (mpc_hold){.owner = owner, .fence = fence, .entry = mpc_lease_number(ctx, lease), .shared = true};
            return MPC_OK;
        }
        if (!mpc_is_dead(ctx, owner))
            return MPC_HELD;
        wait = (mpc_wait){.owner = owner, .fence = fence, .dead = true};
    }
    return mpc_lease_try_locked(ctx, bucket, key, guard, &wait);
}

/* Begin a fill: return the token of this process's hold of the key if it has one (the region's mutex is the lease),
 * else take a hold.  Never waits for another holder: MPC_HELD. */
mpc_status mpc_lease_guard(mpc_ctx *ctx, const mpc_key *key, mpc_hold *guard, u64 wait_ns)
{
    mpc_status status = mpc_enter(ctx);
    if (status != MPC_OK)
        return status;
    u64 hash[2];
    mpc_key_hash128(ctx, key, hash);
    struct mpc_lease_bucket *bucket = mpc_lease_bucket_of(ctx, hash);
    if (!mpc_lock(ctx, &bucket->lock, wait_ns))
        return MPC_BUSY;
    status = mpc_lease_guard_locked(ctx, bucket, hash, guard);
    mpc_unlock(ctx, &bucket->lock);
    return status;
}

/* The word only grows: a process that read the fence of a hold that has ended meanwhile must not take back the void
 * of the next hold. */
static void mpc_raise_voided(struct mpc_lease *lease, u64 fence)
{
    MPC_POINT();
#ifdef MPC_FAULT_VOID_OVERWRITES
    atomic_store(&lease->voided, fence);
#else
    u64 seen = mpc_load(&lease->voided);
    while (seen < fence && !atomic_compare_exchange_strong(&lease->voided, &seen, fence))
        ;
#endif
}

/* Void the key's fill, before another change of the key: what its creator makes must not be stored.  The creator keeps
 * its lease.  Return whether there was a creator.
 *
 * A creator that begins only now will read what the caller has already done: the first barrier orders that before the
 * read of the entry.  The second barrier orders the void before the read of the bucket's lock, or of the slot. */
bool mpc_lease_void(mpc_ctx *ctx, const mpc_key *key)
{
    u64 hash[2];
    mpc_key_hash128(ctx, key, hash);
    atomic_thread_fence(memory_order_seq_cst);
    struct mpc_lease *lease = mpc_lease_find(mpc_lease_bucket_of(ctx, hash), hash);
#ifdef MPC_FAULT_NO_VOID
    return false;
#endif
    if (!lease)
        return false;
    mpc_raise_voided(lease, mpc_load_acquire(&lease->fence));
    atomic_thread_fence(memory_order_seq_cst);
    return true;
}

/* Wait until a fill that is being published now is finished: it holds the bucket's lock.  A filler that died there is
 * noticed within the wait.  A filler that is stopped is not waited for any longer, and will find the void.  False: a
 * fill is under way, and `wait_ns` is 0, for which it is not waited for. */
bool mpc_lease_settle(mpc_ctx *ctx, const mpc_key *key, u64 wait_ns)
{
    u64 hash[2];
    mpc_key_hash128(ctx, key, hash);
    struct mpc_lease_bucket *bucket = mpc_lease_bucket_of(ctx, hash);
    if (mpc_load_acquire(&bucket->lock) == 0)
        return true;
    bool locked = mpc_lock(ctx, &bucket->lock, wait_ns ? 2 * MPC_TAKEOVER_NS : 0);
    if (locked)
        mpc_unlock(ctx, &bucket->lock);
    return locked || wait_ns != 0;
}

bool mpc_lease_voided(mpc_ctx *ctx, const mpc_hold *guard)
{
    return atomic_load(&mpc_lease_at(ctx, guard->entry)->voided) == guard->fence;
}

/* Lock the lease's bucket, so that no process can take the key over, and return whether the fill may go on. */
bool mpc_lease_fill_begin(mpc_ctx *ctx, const mpc_key *key, const mpc_hold *guard, u64 wait_ns, mpc_status *verdict)
{
    u64 hash[2];
    mpc_key_hash128(ctx, key, hash);
    *verdict = MPC_REFUSED;
    if (!mpc_lease_mine(ctx, guard) || mpc_lease_voided(ctx, guard) ||
        !mpc_lease_has_key(mpc_lease_at(ctx, guard->entry), hash))
        return false;
    *verdict = wait_ns ? MPC_DROPPED : MPC_BUSY;
    a32 *lock = &mpc_lease_bucket_with(ctx, guard->entry)->lock;
    if (!mpc_lock_nested(ctx, lock, wait_ns < NESTED_WAIT_NS ? wait_ns : NESTED_WAIT_NS))
        return false;
    *verdict = MPC_REFUSED;
#ifdef MPC_FAULT_FILL_UNCHECKED
    return true;
#endif
    /* Either this look sees the void, or the process that voids sees the lock: mpc_lease_settle(). */
    atomic_thread_fence(memory_order_seq_cst);
    if (mpc_lease_mine(ctx, guard) && !mpc_lease_voided(ctx, guard))
        return true;
    mpc_unlock(ctx, lock);
    return false;
}

void mpc_lease_fill_end(mpc_ctx *ctx, const mpc_hold *guard)
{
    mpc_unlock(ctx, &mpc_lease_bucket_with(ctx, guard->entry)->lock);
}
