/* Eviction: which records stay, and how room is made for a new one. */
#ifndef MPC_EVICT_H
#define MPC_EVICT_H

#include "ring.h"

/* One set's view of a shard: what it has done to make room, and where the record may now be appended. */
struct mpc_room {
    mpc_ctx *ctx;
    struct mpc_shard *shard;
    struct mpc_log log[MPC_RINGS];
    u64 movable, widest; /* units: the longest record that is moved, and the longest of these that was stored */
    a64 *own; /* the slot of the record that is being overwritten; NULL: the key is new */
    u32 moves;
    unsigned ring; /* where the record goes, */
    bool guest;    /* and whether it is a guest there */
};

u64 mpc_largest_units(const mpc_ctx *ctx);
u64 mpc_largest_value(const mpc_ctx *ctx, u32 klen);
mpc_status mpc_make_room_locked(mpc_ctx *ctx, struct mpc_shard *shard, u64 hash, u64 units, const mpc_hit *old,
                                struct mpc_room *room);

#endif
