/* Statistics of a segment. */
#ifndef MPC_STATS_H
#define MPC_STATS_H

#include "context.h"

typedef struct {
    u64 items, evicted;
    u64 live_bytes, used_bytes, capacity_bytes; /* what is used and not live is dead: overwritten, deleted, pads */
} mpc_ring_stats;

typedef struct {
    u64 count[MPC_COUNTS];
    mpc_ring_stats ring[MPC_RINGS];
    u64 promoted, reinserted, ghost_hits, expired, overflow, cleared;
    u64 largest_value, processes, leases, namespaces;
} mpc_stats;

void mpc_stats_read(mpc_ctx *ctx, mpc_stats *stats);
u32 mpc_leases_of_others(mpc_ctx *ctx);

#endif
