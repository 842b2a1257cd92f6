/* The lease table: its buckets and entries, and how an entry changes hands.  lease.c decides when.
 *
 *     bucket:  word lock | busy bits | 16 x { key:128, owner, fence, voided, ended, seq, has_waiters, waits_for }
 *
 * `owner` is the commit word: a process that is killed before it has stored it has taken nothing.  Fences are
 * numbers that only grow and are never used twice, so a token (owner, fence) proves one hold and no other. */
#include "lease_table.h"

#include "liveness.h"
#include "wordlock.h"

/* -- finding an entry ---------------------------------------------------------------------------------------------- */

/* Read owner and fence of one and the same hold: the fence is read between two reads of the owner.  A taker empties
 * the owner before it writes the fence (mpc_lease_take_locked), so the second read cannot find an owner to which the
 * fence does not belong. */
bool mpc_lease_read_holder(struct mpc_lease *lease, u64 *owner, u64 *fence)
{
    *owner = mpc_load_acquire(&lease->owner);
    *fence = mpc_load_acquire(&lease->fence);
    return *owner != 0 && mpc_load_acquire(&lease->owner) == *owner;
}

bool mpc_lease_has_key(struct mpc_lease *lease, const u64 key[2])
{
    return mpc_load(&lease->key[0]) == key[0] && mpc_load(&lease->key[1]) == key[1];
}

/* Return the held entry of the key; NULL: there is none.  Without the bucket's lock the answer may be outdated; what
 * the caller then does with it carries the fence. */
struct mpc_lease *mpc_lease_find(struct mpc_lease_bucket *bucket, const u64 key[2])
{
    u32 busy = mpc_load_acquire(&bucket->busy);
    for (; busy != 0; busy &= busy - 1) {
        u32 i = (u32)__builtin_ctz(busy);
        if (i >= MPC_LEASES_PER_BUCKET)
            break;
        struct mpc_lease *lease = &bucket->lease[i];
        if (mpc_load_acquire(&lease->owner) != 0 && mpc_lease_has_key(lease, key))
            return lease;
    }
    return NULL;
}

u32 mpc_lease_number(const mpc_ctx *ctx, const struct mpc_lease *lease)
{
    u64 bytes = (u64)((const u8 *)lease - (ctx->base + ctx->geometry.leases_at));
    u64 bucket = bytes / sizeof(struct mpc_lease_bucket);
    return (u32)(bucket * MPC_LEASES_PER_BUCKET + (bytes % sizeof(struct mpc_lease_bucket)) / MPC_LINE - 1);
}

bool mpc_lease_matches(struct mpc_lease *lease, const mpc_hold *hold)
{
    u64 owner, fence;
    return mpc_lease_read_holder(lease, &owner, &fence) && owner == hold->owner && fence == hold->fence;
}

/* -- taking and freeing an entry ----------------------------------------------------------------------------------- */

/* Return an entry without owner, or else one whose owner is dead. */
struct mpc_lease *mpc_lease_vacant_locked(mpc_ctx *ctx, struct mpc_lease_bucket *bucket)
{
    for (u32 i = 0; i < MPC_LEASES_PER_BUCKET; i++)
        if (mpc_load_acquire(&bucket->lease[i].owner) == 0)
            return &bucket->lease[i];
    for (u32 i = 0; i < MPC_LEASES_PER_BUCKET; i++)
        if (mpc_is_dead(ctx, mpc_load_acquire(&bucket->lease[i].owner)))
            return &bucket->lease[i];
    return NULL;
}

void mpc_lease_wake(struct mpc_lease *lease)
{
    if (atomic_exchange(&lease->has_waiters, 0))
        mpc_futex_wake(&lease->seq, 1 << 30);
}

/* The owner is stored last.  An entry that is taken from a dead holder has no owner in between, so that a taker that
 * is killed here leaves it free. */
void mpc_lease_take_locked(mpc_ctx *ctx, struct mpc_lease_bucket *bucket, struct mpc_lease *lease, const u64 key[2],
                           mpc_hold *hold)
{
    u32 entry = mpc_lease_number(ctx, lease);
    *hold = (mpc_hold){.owner = mpc_load(&ctx->self->owner), .entry = entry};
    atomic_fetch_or(&bucket->busy, 1u << entry % MPC_LEASES_PER_BUCKET);
#ifdef MPC_FAULT_OWNER_FIRST
    mpc_store_release(&lease->owner, hold->owner);
    MPC_POINT();
#else
    mpc_store_release(&lease->owner, 0);
#endif
    /* A reader of the new fence sees that the old owner is gone: mpc_lease_read_holder(). */
    atomic_thread_fence(memory_order_release);
    mpc_store(&lease->key[0], key[0]);
    mpc_store(&lease->key[1], key[1]);
    mpc_store(&lease->waits_for, 0);
    atomic_fetch_add(&lease->seq, 1);
    hold->fence = atomic_fetch_add(&ctx->header->fence, 1) + 1;
    mpc_store(&lease->fence, hold->fence);
    MPC_POINT();
    atomic_store(&lease->owner, hold->owner);
}

void mpc_lease_free(struct mpc_lease *lease, u64 owner)
{
    atomic_fetch_add(&lease->seq, 1);
    MPC_POINT();
    if (mpc_cas64(&lease->owner, &owner, 0))
        mpc_lease_wake(lease);
}

/* Free what earlier incarnations of the slot hold.  The caller has the slot's liveness byte. */
void mpc_lease_free_slot(mpc_ctx *ctx, u32 slot)
{
    for (u32 i = 0; i < ctx->geometry.lease_buckets; i++) {
        struct mpc_lease_bucket *bucket = mpc_lease_bucket_at(ctx, i);
        mpc_free_word_of(&bucket->lock, slot);
        u32 busy = mpc_load_acquire(&bucket->busy) & ((1u << MPC_LEASES_PER_BUCKET) - 1);
        for (; busy != 0; busy &= busy - 1) {
            struct mpc_lease *lease = &bucket->lease[__builtin_ctz(busy)];
            u64 owner = mpc_load_acquire(&lease->owner);
            if (owner != 0 && (owner & 0xffff) == slot)
                mpc_lease_free(lease, owner);
        }
    }
}
