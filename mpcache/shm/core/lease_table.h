/* The lease table: its buckets and entries, and how an entry changes hands.
 *
 * Suffix _locked: the caller has the bucket's word lock.  A bucket's lock is a leaf: its owner takes no other lock. */
#ifndef MPC_LEASE_TABLE_H
#define MPC_LEASE_TABLE_H

#include "hash.h"

/* A hold of one lease, and the token that proves it. */
typedef struct {
    u64 owner, fence;
    u32 entry;
    bool shared; /* a fill guard that relies on the hold of a mutex of this process */
} mpc_hold;

static inline struct mpc_lease_bucket *mpc_lease_bucket_at(const mpc_ctx *ctx, u32 which)
{
    return (struct mpc_lease_bucket *)(ctx->base + ctx->geometry.leases_at) + which;
}

static inline u32 mpc_lease_entries(const mpc_ctx *ctx)
{
    return ctx->geometry.lease_buckets * MPC_LEASES_PER_BUCKET;
}

static inline struct mpc_lease_bucket *mpc_lease_bucket_with(const mpc_ctx *ctx, u32 entry)
{
    return mpc_lease_bucket_at(ctx, entry / MPC_LEASES_PER_BUCKET);
}

static inline struct mpc_lease *mpc_lease_at(const mpc_ctx *ctx, u32 entry)
{
    return &mpc_lease_bucket_with(ctx, entry)->lease[entry % MPC_LEASES_PER_BUCKET];
}

/* The bucket of a key, by the second half of its 128-bit hash. */
static inline struct mpc_lease_bucket *mpc_lease_bucket_of(const mpc_ctx *ctx, const u64 key[2])
{
    return mpc_lease_bucket_at(ctx, (u32)((key[1] >> 32) * ctx->geometry.lease_buckets >> 32));
}

bool mpc_lease_read_holder(struct mpc_lease *lease, u64 *owner, u64 *fence);
bool mpc_lease_has_key(struct mpc_lease *lease, const u64 key[2]);
bool mpc_lease_matches(struct mpc_lease *lease, const mpc_hold *hold);
struct mpc_lease *mpc_lease_find(struct mpc_lease_bucket *bucket, const u64 key[2]);
u32 mpc_lease_number(const mpc_ctx *ctx, const struct mpc_lease *lease);
struct mpc_lease *mpc_lease_vacant_locked(mpc_ctx *ctx, struct mpc_lease_bucket *bucket);
void mpc_lease_take_locked(mpc_ctx *ctx, struct mpc_lease_bucket *bucket, struct mpc_lease *lease, const u64 key[2],
                           mpc_hold *hold);
void mpc_lease_wake(struct mpc_lease *lease);
void mpc_lease_free(struct mpc_lease *lease, u64 owner);
void mpc_lease_free_slot(mpc_ctx *ctx, u32 slot);

#endif
