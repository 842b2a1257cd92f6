/* The word lock: a mutex of 32 bits that outlives its owner.  The caller is registered (registry.h). */
#ifndef MPC_WORDLOCK_H
#define MPC_WORDLOCK_H

#include "context.h"

#define MPC_UNLOCKED (1ull << 32) /* steps of one unlock: more than long work under one lock has */
#define MPC_TAKEOVER_NS (20 * MPC_NS_PER_MS) /* a waiter judges the owner each time that this has passed */
#define MPC_SHARD_WAIT_NS (100 * MPC_NS_PER_MS) /* a set gives up when a shard's owner did nothing for so long */

bool mpc_lock(mpc_ctx *ctx, a32 *word, u64 patience_ns);
bool mpc_take_shard(mpc_ctx *ctx, struct mpc_shard *shard, u64 patience_ns);
bool mpc_lock_nested(mpc_ctx *ctx, a32 *word, u64 patience_ns);
void mpc_unlock(mpc_ctx *ctx, a32 *lock);
void mpc_unlock_shard(mpc_ctx *ctx, struct mpc_shard *shard);
void mpc_free_word_of(a32 *lock, u32 slot);
u32 mpc_word_of(u64 owner);

#endif
