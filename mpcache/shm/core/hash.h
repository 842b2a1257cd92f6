/* Keys and their keyed hashes: what picks a key's shard, its index buckets, its tag and its lease. */
#ifndef MPC_HASH_H
#define MPC_HASH_H

#include "context.h"

typedef struct {
    const void *bytes;
    u32 len;
    u16 namespace;
    u8 kind;
    u64 hash;
} mpc_key;

void mpc_key_init(const mpc_ctx *ctx, mpc_key *key, u16 namespace, u8 kind, const void *bytes, u32 len);
void mpc_key_hash128(const mpc_ctx *ctx, const mpc_key *key, u64 out[2]);
u64 mpc_hash(const u64 seed[2], u64 salt, const void *bytes, size_t n);

static inline struct mpc_shard *mpc_shard_of(const mpc_ctx *ctx, const mpc_key *key)
{
    return mpc_shard_at(ctx, (u32)(key->hash >> 58) & (ctx->geometry.shards - 1));
}

#endif
