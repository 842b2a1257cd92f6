/* The store: find, copy, set, fill, delete, and the scan of all keys. */
#ifndef MPC_STORE_H
#define MPC_STORE_H

#include "lease.h"
#include "record.h"

#define MPC_LONG_COPY (64u << 10) /* bytes from which a copy is worth a release of the GIL */

/* Where a scan over all keys stands. */
typedef struct {
    u32 shard;
    u64 slot;
} mpc_cursor;

void mpc_prefetch_slot(const mpc_ctx *ctx, const mpc_key *key);
void mpc_prefetch_record(const mpc_ctx *ctx, const mpc_key *key);
mpc_status mpc_may_read(mpc_ctx *ctx);
mpc_status mpc_find(mpc_ctx *ctx, const mpc_key *key, mpc_hit *hit);
mpc_status mpc_find_prefetched(mpc_ctx *ctx, const mpc_key *key, mpc_hit *hit);
mpc_status mpc_copy(mpc_ctx *ctx, const mpc_hit *hit, void *to);
mpc_status mpc_set(mpc_ctx *ctx, const mpc_key *key, const mpc_value *value, u64 wait_ns);
mpc_status mpc_fill(mpc_ctx *ctx, const mpc_key *key, const mpc_value *value, const mpc_hold *guard, u64 wait_ns);
mpc_status mpc_delete(mpc_ctx *ctx, const mpc_key *key, u64 wait_ns);
mpc_status mpc_next_key(mpc_ctx *ctx, mpc_cursor *cursor, u16 namespace, mpc_hit *hit, u8 key[MPC_MAX_KEY]);
void mpc_drop(mpc_ctx *ctx, const mpc_key *key);

/* For rmw.c, which decides what it stores by the value that is there. */
mpc_status mpc_may_write(mpc_ctx *ctx, const mpc_key *key, const mpc_value *value);
void mpc_prefetch_for_write(const mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key);
mpc_status mpc_put_fresh_locked(mpc_ctx *ctx, struct mpc_shard *shard, const mpc_key *key, const mpc_value *value,
                                u32 drops);

/* Where the sets of this key that gave up are counted, with those of the keys of its class. */
static inline a32 *mpc_drops_of(struct mpc_shard *shard, const mpc_key *key)
{
#ifdef MPC_FAULT_DROPS_BY_SHARD
    return shard->drops;
#endif
    return &shard->drops[(key->hash >> 36) % MPC_DROP_CLASSES];
}

#endif
