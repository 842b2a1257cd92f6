/* The ghosts: fingerprints of keys that were evicted unread. */
#ifndef MPC_GHOST_H
#define MPC_GHOST_H

#include "context.h"

u16 *mpc_ghosts_of(const mpc_ctx *ctx, struct mpc_shard *shard, u64 hash);
void mpc_ghost_add_locked(const mpc_ctx *ctx, struct mpc_shard *shard, u64 hash);
bool mpc_ghost_take_locked(const mpc_ctx *ctx, struct mpc_shard *shard, u64 hash, u64 youngest);

#endif
